"""Build a timm model, freeze it by the recipe, and split it where the frozen part ends."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from timm.models import PretrainedCfg, get_pretrained_cfg, group_parameters
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError, one_line
from wandb_tl.training import weights
from wandb_tl.training.datasets import Preprocess


def build(config: RunConfig, num_classes: int) -> nn.Module:
    """The model of a run: weights loaded, a new classifier, what is frozen not requiring gradients.

    Weights are drawn from `config.seed`. InputError for a model or weights that cannot be had.
    """
    name = config.model_name
    _check_name(name)
    source = get_pretrained_cfg(name)
    options = {"img_size": config.image_size} if source.fixed_input_size else {}
    torch.manual_seed(config.seed)
    if config.pretrained:
        model = _build_pretrained(config, source, options)
        model.reset_classifier(num_classes)
    else:
        model = timm.create_model(name, num_classes=num_classes, **options)
        _open_residual_branches(model)
    _freeze(model, config)
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, 3, config.image_size, config.image_size))
    except Exception as error:
        # Whatever a forward does with images that are too small for it, or not a multiple of its patches.
        raise InputError(
            f"image_size: {name} takes no {config.image_size} px ({one_line(error)[:200]})"
        ) from error
    return model.to(memory_format=torch.channels_last)


def preprocess(model: nn.Module, image_size: int, device: torch.device) -> Preprocess:
    """What turns images into this model's input: its own mean and standard deviation."""
    data = resolve_model_data_config(model)
    return Preprocess(image_size, data["mean"], data["std"], device)


def classifiers(model: nn.Module) -> tuple[nn.Module, ...]:
    """The model's classifier; a distilled transformer has two."""
    found = model.get_classifier()
    return tuple(found) if isinstance(found, tuple | list) else (found,)


def train_mode(model: nn.Module, norm: str) -> None:
    """Train mode where something trains. Frozen modules stay in eval mode unless `norm` is "batch".

    requires_grad=False alone would let the running statistics of a frozen BatchNorm drift.
    """
    model.train()
    if norm != "batch":
        for module in model.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()


def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the statistics of every BatchNorm to those of the batches (as torch.optim.swa_utils.update_bn)."""
    torch.optim.swa_utils.update_bn(batches, model)
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            # What was estimated once is no different from what is estimated again.
            module.num_batches_tracked.zero_()


def trained_tensors(model: nn.Module, config: RunConfig) -> dict[str, Tensor]:
    """What cannot be had elsewhere: all of a model that began with random weights, else what trained.

    BatchNorm statistics count as trained unless they are the weights' own.
    """
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not config.pretrained:
        trained.update(model.state_dict())
    for module_name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if config.norm_in_effect != "source" or any(parameter.requires_grad for parameter in own):
            trained.update(f"{module_name}.{name}" for name, _ in module.named_buffers(recurse=False))
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name in trained}


def load_trained(folder: str | Path) -> tuple[nn.Module, RunConfig, list[str]]:
    """The model of a downloaded model artifact, in eval mode, with its config and class names.

    The frozen part of a pretrained model is not in the artifact: it comes from where it came from before.
    InputError where the two files do not fit each other.
    """
    description = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    config = RunConfig.from_mapping(description["config"])
    model = build(config, len(description["class_names"]))
    loaded = model.load_state_dict(load_file(Path(folder, "model.safetensors")), strict=False)
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if odd := [*loaded.unexpected_keys, *sorted(trains & set(loaded.missing_keys))]:
        raise InputError(f"{folder}: its model.safetensors is not of its config.json ({odd[0]})")
    return model.eval(), config, description["class_names"]


def _check_name(name: str) -> None:
    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"model_name: timm has no model {name!r}{hint}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(architecture)]
    if dot and (not tag or tag not in tags):
        raise InputError(
            f"model_name: {architecture} has no weights {tag!r}; it has {', '.join(tags) or 'none'}"
        )


def _build_pretrained(config: RunConfig, source: PretrainedCfg, options: dict) -> nn.Module:
    """The model with the classifier that its weights came with, so that timm checks every tensor's name."""
    tensors = weights.load(config.model_name, config.weights_file)
    bias = tensors.get(f"{source.classifier}.bias")
    classes = source.num_classes if bias is None else len(bias)
    overlay = {"state_dict": tensors, "num_classes": classes, "label_offset": 0}
    try:
        model = timm.create_model(
            config.model_name,
            pretrained=True,
            num_classes=classes,
            pretrained_cfg_overlay=overlay,
            **options,
        )
    except (RuntimeError, KeyError) as error:
        given = config.weights_file or "the pretrained weights"
        raise InputError(f"{given}: no weights of {config.model_name} ({one_line(error)[:200]})") from error
    # The model would keep, and every copy of it repeat, the tensors as they were read.
    model.pretrained_cfg["state_dict"] = None
    return model


def _open_residual_branches(model: nn.Module) -> None:
    """Undo timm's zero_init_last, which starts the last BatchNorm of each block at zero.

    It leaves a frozen random ResNet nothing but its stem and shortcuts. torchvision's ResNet, which the
    original experiment used, starts them at one.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine and not module.weight.any():
            nn.init.ones_(module.weight)


def _freeze(model: nn.Module, config: RunConfig) -> None:
    """Leave the classifier and the stages that the config opens trainable.

    Stages are timm's own layer groups, stem first: a stage of a ResNet, a block of a ViT. What a model has
    between its last stage and the classifier (a final norm or convolution) opens with the last stage.
    """
    count = config.stages_to_open
    if count is None:
        return
    opened = set(last_stages(model, count)) if count else set()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in opened
    for classifier in classifiers(model):
        classifier.requires_grad_(True)


def last_stages(model: nn.Module, count: int) -> list[str]:
    """Names of the parameters of the last stages and of what follows them."""
    try:
        groups = group_parameters(model, model.group_matcher(coarse=True), reverse=False)
    except (AttributeError, AssertionError, NotImplementedError) as error:
        name = model.pretrained_cfg["architecture"]
        raise InputError(f"unfreeze: timm knows no stages of {name}; it takes all") from error
    *stages, head = [names for _, names in sorted(groups.items())]
    if count > len(stages):
        raise InputError(f"unfreeze: got {count}, the model has {len(stages)} stages")
    return [name for names in [*stages[len(stages) - count :], head] for name in names]
