"""Build the timm model of a run: load its weights, replace its classifier, freeze layers by the recipe."""

from __future__ import annotations

import difflib
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError, one_line
from wandb_tl.pictures.framing import Framing
from wandb_tl.training import weights
from wandb_tl.training.freezing import freeze
from wandb_tl.training.preprocess import Preprocess


def build(config: RunConfig, num_classes: int) -> nn.Module:
    """The model of a run, on the CPU. The parameters of its frozen layers do not require gradients.

    Random weights are drawn from `config.seed`. InputError for an unknown model, weights that cannot be
    loaded, or an image size that the model does not accept.
    """
    name = config.model_name
    source = _pretrained_source(name)
    options: dict[str, Any] = {"img_size": config.image_size} if source.fixed_input_size else {}
    torch.manual_seed(config.seed)
    # timm's models have methods that nn.Module's type does not declare.
    model: Any
    if config.pretrained:
        model = _build_pretrained(config, source, options)
        model.reset_classifier(num_classes)
    else:
        model = timm.create_model(name, num_classes=num_classes, **options)
        _open_residual_branches(model)
    freeze(model, config)
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, 3, config.image_size, config.image_size))
    except Exception as error:
        # A forward can fail in any way for images that are too small, or not a multiple of its patch size.
        raise InputError(
            f"image_size: {name} does not accept {config.image_size} px ({one_line(error)[:200]})"
        ) from error
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
    source = _pretrained_source(config.model_name)
    return Framing(config.image_size, config.resize, source.crop_pct, source.interpolation)


def _pretrained_source(name: str) -> PretrainedCfg:
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


def _build_pretrained(config: RunConfig, source: PretrainedCfg, options: dict[str, Any]) -> nn.Module:
    """The model with the classifier of its weights, so that timm checks the name of every tensor."""
    tensors = weights.load(config.model_name, config.weights_file)
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
        origin = config.weights_file or "the pretrained weights"
        raise InputError(
            f"{origin}: these weights are not of {config.model_name} ({one_line(error)[:200]})"
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
