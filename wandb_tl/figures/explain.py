"""Feature maps of a model's layers, and Grad-CAM: the regions of an image that support a class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# A vision transformer has a dozen blocks or more.
STAGES_SHOWN = 5


@torch.no_grad()
def feature_maps(model: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    """Outputs (C, h, w), float on the CPU, of a timm model's layers for one input (1, 3, S, S).

    "first_conv" is the first convolution; "stage_1", "stage_2", … are the stages or blocks, at most five of
    them, evenly spaced up to the last one. Layers that timm does not describe are left out.
    """
    timm_model: Any = model
    first = _first_conv(model)
    outputs: list[Tensor] = []
    hook = model.get_submodule(first).register_forward_hook(lambda *call: outputs.append(call[2]))
    with hook, _eval_mode(model):
        if hasattr(model, "forward_intermediates"):
            stages = timm_model.forward_intermediates(pixels, intermediates_only=True, output_fmt="NCHW")
        else:
            model(pixels)
            stages = []
    # A transformer of patches in a sequence has a linear layer there, without maps.
    maps = {"first_conv": outputs[0]} if first and outputs and outputs[0].ndim == 4 else {}
    stages = stages[_begins_with_stem(model, first) :]
    shown = min(len(stages), STAGES_SHOWN)
    for number in (round(len(stages) * (i + 1) / shown) for i in range(shown)):
        maps[f"stage_{number}"] = stages[number - 1]
    return {name: output[0].float().cpu() for name, output in maps.items()}


@torch.enable_grad()
def grad_cam(model: nn.Module, pixels: Tensor, classes: Tensor) -> Tensor | None:
    """Heat (N, h, w) from 0 to 1, on the CPU: the regions of inputs (N, 3, S, S) that support classes (N,).

    This is Grad-CAM (Selvaraju et al., 2017) at the last layer with a spatial output that affects the class's
    score; None for a model without one. The maximum of an image is 1, or 0 if no region supports the class.
    The model is not changed.
    """
    with _eval_mode(model):
        for layer in (None, *reversed(_stage_names(model))):
            if (cut := _cut_at(layer, model, pixels)) is None:
                continue
            output, logits = cut
            score = logits.float().gather(1, classes.to(logits.device)[:, None]).sum()
            (slope,) = torch.autograd.grad(score, output)
            maps, slopes = _grid(model, output.detach()), _grid(model, slope)
            # After a transformer's last block, the classifier may use the class token alone.
            if maps is None or slopes is None or (slope.any() and not slopes.any()):
                continue
            heat = (slopes.mean((2, 3), keepdim=True) * maps).sum(1).relu().float()
            return (heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-30)).cpu()
    return None


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards each module is in its previous mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _first_conv(model: nn.Module) -> str:
    """Name of the first convolution; "" if timm does not describe it."""
    timm_model: Any = model
    names = timm_model.pretrained_cfg.get("first_conv") or ""
    return str(names[0] if isinstance(names, tuple | list) else names)


def _stage_names(model: nn.Module) -> list[str]:
    modules = {name for name, _ in model.named_modules()}
    stages: Any = getattr(model, "feature_info", [])
    return [stage["module"] for stage in stages if stage["module"] in modules]


def _begins_with_stem(model: nn.Module, first: str) -> bool:
    """Whether timm's first stage is the first convolution with its norm and activation."""
    name = next(iter(_stage_names(model)), None)
    if name is None:
        return False
    stage = model.get_submodule(name).named_parameters(prefix=name)
    return {weight for weight, values in stage if values.ndim > 1} <= {f"{first}.weight"}


def _cut_at(layer: str | None, model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor] | None:
    """A layer's output, as a leaf that requires a gradient, and the logits (N, K) computed from it.

    layer: None for the features before pooling. The layers before it may be frozen or not. Returns None for a
    layer with more than one output, and for features of a model that is not timm's.
    """
    if layer is None:
        timm_model: Any = model
        if not hasattr(model, "forward_features"):
            return None
        with torch.no_grad():
            features = timm_model.forward_features(pixels)
        if not isinstance(features, Tensor):
            return None
        leaf = features.detach().requires_grad_()
        return leaf, timm_model.forward_head(leaf)
    leaves: list[Tensor] = []

    def cut(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if isinstance(output, Tensor):
            leaves.append(output.detach().requires_grad_())
            return leaves[0]
        return None

    with model.get_submodule(layer).register_forward_hook(cut):
        logits = model(pixels)
    return (leaves[0], logits) if leaves else None


def _grid(model: nn.Module, features: Tensor) -> Tensor | None:
    """Features, or a transformer's tokens (N, T, C), as maps (N, C, h, w); None if they are not spatial."""
    if features.ndim == 4:
        # Some models have their channels last. Square images have square maps, which tells them apart.
        planes = features if features.shape[2] == features.shape[3] else features.permute(0, 3, 1, 2)
        return planes if planes.shape[-1] > 1 else None
    if features.ndim == 3:
        # A class token comes before the others, but some models add it only after the last block.
        prefixes: Any = (getattr(model, "num_prefix_tokens", 0), 0)
        for prefix in prefixes:
            tokens = features[:, prefix:]
            side = math.isqrt(tokens.shape[1])
            if side > 1 and side**2 == tokens.shape[1]:
                maps: Tensor = tokens.transpose(1, 2).unflatten(2, (side, side))
                return maps
    return None
