"""Build the timm model of a run: load its weights, replace its classifier, freeze layers by the recipe."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError, one_line
from wandb_tl.pictures.framing import Framing
from wandb_tl.training import image_sizes, weights, weights_file, weights_matching
from wandb_tl.training.freezing import freeze
from wandb_tl.training.own_model import OwnModel
from wandb_tl.training.preprocess import Preprocess
from wandb_tl.training.weights_file import WeightsFile


def build(
    config: RunConfig,
    num_classes: int,
    own: OwnModel | None = None,
    start: WeightsFile | None = None,
    say: Callable[[str], object] | None = None,
) -> nn.Module:
    """The model of a run, on the CPU. The parameters of its frozen layers do not require gradients.

    own: the network, if Python code has handed it over. start: what weights_file names, see
    `model_folder.starting_weights`; read here if it is a file. say: called with a line about what of it
    matches the model.

    Random weights are drawn from `config.seed`. InputError for an unknown model, weights that cannot be
    loaded, or an image size or arguments that the model does not accept.
    """
    if config.is_own_model:
        return _build_own(config, num_classes, own)
    name = config.model_name
    source = pretrained_source(name)
    options = image_sizes.arguments(config, source)
    if config.pretrained and not config.weights_file and not weights.are_here(name):
        # Before they are downloaded.
        image_sizes.check(config, source)
    torch.manual_seed(config.seed)
    # timm's models have methods that nn.Module's type does not declare.
    model: Any
    with image_sizes.refusals(config, source):
        if config.pretrained:
            model = _build_pretrained(config, source, options, num_classes, start, say)
        else:
            model = timm.create_model(name, num_classes=num_classes, **options)
            _open_residual_branches(model)
        if options.get("in_chans") == 1:
            _expect_grey(model)
        logits = _logits_of_zeros(model, config.image_size)
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        raise InputError(f"model_name: {name} is not a classifier: it computes no number per class")
    freeze(model, config)
    built: nn.Module = model.to(memory_format=torch.channels_last)
    return built


@torch.no_grad()
def _logits_of_zeros(model: Any, image_size: int) -> Any:
    """The output of the model in eval mode for two images of zeros; logits (2, K) if it is a classifier."""
    channels = model.pretrained_cfg["input_size"][0]
    return model.eval()(torch.zeros(2, channels, image_size, image_size))


def _expect_grey(model: Any) -> None:
    """Describe the input of the model as one channel, with the mean of the statistics of three."""
    data = model.pretrained_cfg
    for statistic in ("mean", "std"):
        data[statistic] = (sum(data[statistic]) / len(data[statistic]),)
    data["input_size"] = (1, *data["input_size"][1:])


def _build_own(config: RunConfig, num_classes: int, own: OwnModel | None) -> nn.Module:
    if own is None:
        raise InputError(f"model_name: {config.model_name} is not in a file; wandb_tl.fit(model=…) trains it")
    model = own.for_classes(num_classes, config.image_size, config.seed)
    freeze(model, config)
    built: nn.Module = model.to(memory_format=torch.channels_last)
    return built


def preprocess(model: nn.Module, image_size: int, device: torch.device) -> Preprocess:
    """The preprocessing of this model's images, with the mean and standard deviation of its weights."""
    data = resolve_model_data_config(model)
    return Preprocess(image_size, data["mean"], data["std"], device)


def framing(config: RunConfig) -> Framing:
    """How pictures become squares, as for the images that this model's weights were trained on.

    InputError for an unknown model.
    """
    if config.is_own_model:
        return Framing(config.image_size, config.resize)
    source = pretrained_source(config.model_name)
    return Framing(config.image_size, config.resize, source.crop_pct, source.interpolation)


def pretrained_source(name: str) -> PretrainedCfg:
    """timm's description of a model and its weights. InputError for an unknown model or tag."""
    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"model_name: timm has no model {name!r}{hint}")
    tags = [model.partition(".")[2] for model in timm.list_pretrained(architecture)]
    if dot and (not tag or tag not in tags):
        raise InputError(
            f"model_name: {architecture} has no weights {tag!r}; it has {', '.join(tags) or 'none'}"
        )
    source = get_pretrained_cfg(name)
    assert source is not None, "timm describes every model, also those without pretrained weights"
    return source


def _build_pretrained(
    config: RunConfig,
    source: PretrainedCfg,
    options: dict[str, Any],
    num_classes: int,
    start: WeightsFile | None,
    say: Callable[[str], object] | None,
) -> nn.Module:
    """The model with pretrained weights, and a new classifier unless `start` has the one of the run."""
    # Its methods and attributes are not those that nn.Module's type declares.
    model: Any
    if config.weights_file:
        start = start or weights_file.read(Path(config.weights_file).expanduser())
        model = timm.create_model(config.model_name, **options)
        model.reset_classifier(num_classes)
        line = weights_matching.load(model, start, config.model_name)
        if say:
            say(line)
    else:
        model = _with_published_weights(config, source, options)
        model.reset_classifier(num_classes)
    built: nn.Module = model
    return built


def _with_published_weights(config: RunConfig, source: PretrainedCfg, options: dict[str, Any]) -> nn.Module:
    """The model with the classifier of its weights, so that timm checks the name of every tensor."""
    tensors = weights.load(config.model_name)
    bias = tensors.get(f"{source.classifier}.bias")
    classes = source.num_classes if bias is None else len(bias)
    overlay = {"state_dict": tensors, "num_classes": classes, "label_offset": 0}
    # pretrained_cfg is an attribute that nn.Module's type does not declare.
    model: Any
    try:
        model = timm.create_model(
            config.model_name,
            pretrained=True,
            num_classes=classes,
            pretrained_cfg_overlay=overlay,
            **options,
        )
    except (RuntimeError, KeyError) as error:
        raise InputError(
            f"the pretrained weights are not of {config.model_name} ({one_line(error)[:200]})"
        ) from error
    # Otherwise the model, and every copy of it, would keep a second copy of its weights.
    model.pretrained_cfg["state_dict"] = None
    built: nn.Module = model
    return built


def _open_residual_branches(model: nn.Module) -> None:
    """Undo timm's zero_init_last, which starts the last BatchNorm of each block at zero.

    With it, a frozen random ResNet would consist of its stem and shortcuts alone. torchvision's ResNet, which
    the original experiment used, starts them at one.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine and not module.weight.any():
            nn.init.ones_(module.weight)
