"""What a network sees: the maps of its layers, and where in an image it finds what speaks for a class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# A vision transformer has a map for each of a dozen blocks or more.
STAGES_SHOWN = 5


@torch.no_grad()
def feature_maps(model: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    """Outputs (C, h, w), float on the CPU, of a timm model's layers for one input (1, 3, S, S).

    "first_conv" is the first convolution's; "stage_1", "stage_2", … are its stages' or blocks', of more than
    five of them five, evenly spaced, the last among them. What timm does not know of a model is left out.
    """
    first = _first_conv(model)
    outputs: list[Tensor] = []
    hook = model.get_submodule(first).register_forward_hook(lambda *call: outputs.append(call[2]))
    with hook, _eval_mode(model):
        if hasattr(model, "forward_intermediates"):
            stages = model.forward_intermediates(pixels, intermediates_only=True, output_fmt="NCHW")
        else:
            model(pixels)
            stages = []
    maps = {"first_conv": outputs[0]} if first else {}
    stages = stages[_begins_with_stem(model, first) :]
    shown = min(len(stages), STAGES_SHOWN)
    for number in (round(len(stages) * (i + 1) / shown) for i in range(shown)):
        maps[f"stage_{number}"] = stages[number - 1]
    return {name: output[0].float().cpu() for name, output in maps.items()}


@torch.enable_grad()
def grad_cam(model: nn.Module, pixels: Tensor, classes: Tensor) -> Tensor | None:
    """Heat (N, h, w) between 0 and 1, on the CPU: where inputs (N, 3, S, S) speak for classes (N,).

    Grad-CAM (Selvaraju et al., 2017) at the last layer whose output has places that the class's score
    depends on; None for a model without one. The hottest place of an image is 1, unless nothing in it speaks
    for the class. The model is left as it was.
    """
    with _eval_mode(model):
        for layer in (None, *reversed(_stage_names(model))):
            if (cut := _cut_at(layer, model, pixels)) is None:
                continue
            output, logits = cut
            score = logits.float().gather(1, classes.to(logits.device)[:, None]).sum()
            (slope,) = torch.autograd.grad(score, output)
            maps, slopes = _grid(model, output.detach()), _grid(model, slope)
            # Of a transformer's last block, its classifier may be given the class token alone.
            if maps is None or (slope.any() and not slopes.any()):
                continue
            heat = (slopes.mean((2, 3), keepdim=True) * maps).sum(1).relu().float()
            return (heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-30)).cpu()
    return None


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode, and behind it each module in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _first_conv(model: nn.Module) -> str:
    name = model.pretrained_cfg.get("first_conv") or ""
    return name[0] if isinstance(name, tuple | list) else name


def _stage_names(model: nn.Module) -> list[str]:
    modules = {name for name, _ in model.named_modules()}
    return [stage["module"] for stage in getattr(model, "feature_info", []) if stage["module"] in modules]


def _begins_with_stem(model: nn.Module, first: str) -> bool:
    """Whether what timm counts as the first stage is the first convolution with its norm and activation."""
    name = next(iter(_stage_names(model)), None)
    if name is None:
        return False
    stage = model.get_submodule(name).named_parameters(prefix=name)
    return {weight for weight, values in stage if values.ndim > 1} <= {f"{first}.weight"}


def _cut_at(layer: str | None, model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor] | None:
    """A layer's output, as a leaf that requires a gradient, and the logits (N, K) computed from it.

    None for a layer stands for what is pooled. Whether what comes before it is frozen does not matter. None
    is returned where a layer gives more than one tensor.
    """
    if layer is None:
        with torch.no_grad():
            features = model.forward_features(pixels)
        if not isinstance(features, Tensor):
            return None
        leaf = features.detach().requires_grad_()
        return leaf, model.forward_head(leaf)
    leaves = []

    def cut(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
        if isinstance(output, Tensor):
            leaves.append(output.detach().requires_grad_())
            return leaves[0]
        return None

    with model.get_submodule(layer).register_forward_hook(cut):
        logits = model(pixels)
    return (leaves[0], logits) if leaves else None


def _grid(model: nn.Module, features: Tensor) -> Tensor | None:
    """Features, or a transformer's tokens (N, T, C), as maps (N, C, h, w); None where they have no places."""
    if features.ndim == 4:
        # Some have their channels last, which is seen because maps of a square are square.
        maps = features if features.shape[2] == features.shape[3] else features.permute(0, 3, 1, 2)
        return maps if maps.shape[-1] > 1 else None
    if features.ndim == 3:
        # A class token stands before the others, but in some models it joins them only at the end.
        for prefix in (getattr(model, "num_prefix_tokens", 0), 0):
            tokens = features[:, prefix:]
            side = math.isqrt(tokens.shape[1])
            if side > 1 and side**2 == tokens.shape[1]:
                return tokens.transpose(1, 2).unflatten(2, (side, side))
    return None
