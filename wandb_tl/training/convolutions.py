"""Convolutions made cheaper without changing what they compute.

A frozen BatchNorm is folded into the convolution before it. On a CPU, a convolution that trains takes the
form whose gradient oneDNN computes fastest.
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# A folded network rounds elsewhere: the largest difference allowed, as a share of the largest output. TF32,
# which a GPU's convolutions use, has ten bits.
FOLDING_TOLERANCE = {"cpu": 1e-3, "cuda": 0.02}


def fold_batch_norms(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy of the network, in eval mode, with every BatchNorm2d that follows a convolution folded into it.

    The network itself where a copy's output for the example (N, C, H, W) would differ. Tensors that are not
    folded are shared.
    """
    shared = {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]}
    folded = copy.deepcopy(network, shared).eval()
    for convolution, norm in _pairs(folded, example):
        fused = fuse_conv_bn_eval(folded.get_submodule(convolution), folded.get_submodule(norm))
        folded.set_submodule(convolution, fused)
        # timm's BatchNormAct2d goes on with an activation.
        rest = [getattr(folded.get_submodule(norm), name, None) for name in ("drop", "act")]
        folded.set_submodule(norm, nn.Sequential(*(part for part in rest if part is not None)))
    with torch.no_grad():
        expected = network(example)
        try:
            computed = folded(example)
        except Exception:
            # A forward that looks into the norm that is no more.
            return network
    allowed = FOLDING_TOLERANCE[example.device.type] * expected.abs().max()
    return folded if (computed - expected).abs().max() <= allowed else network


def train_on_cpu(network: nn.Module) -> None:
    """Give the network's 1x1 and depthwise convolutions the form that trains fastest on a CPU, in place.

    Names, parameters and their gradients are those of before.
    """
    for module in network.modules():
        if type(module) is not nn.Conv2d or module.padding_mode != "zeros":
            continue
        if module.kernel_size == (1, 1) and module.groups == 1 and module.padding == (0, 0):
            module.__class__ = _Pointwise
        elif module.groups == module.in_channels > 1:
            module.__class__ = _Depthwise


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution as a matrix product: the gradients of small maps take half the time."""

    def forward(self, input: Tensor) -> Tensor:
        down, across = self.stride
        # Of pixels that are not neighbours in memory, oneDNN's bf16 product takes a hundred times as long.
        pixels = input[:, :, ::down, ::across].permute(0, 2, 3, 1).contiguous()
        return F.linear(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class _Depthwise(nn.Conv2d):
    """A depthwise convolution in fp32: the bf16 gradient of most takes three times as long or more."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float()).to(input.dtype)


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Names of each convolution and of the BatchNorm that is given its very output, where both run once."""
    made_by: dict[int, str] = {}
    # An output that were freed would leave its identity to another one.
    outputs: list[Tensor] = []
    pairs: list[tuple[str, str]] = []

    def made(name: str, output: Tensor) -> None:
        outputs.append(output)
        made_by[id(output)] = name

    def given(name: str, value: Tensor) -> None:
        if id(value) in made_by:
            pairs.append((made_by[id(value)], name))

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hook = module.register_forward_hook(lambda *call, name=name: made(name, call[2]))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hook = module.register_forward_pre_hook(lambda *call, name=name: given(name, call[1][0]))
        else:
            continue
        hooks.append(hook)
    try:
        with torch.no_grad():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    count = Counter(name for pair in pairs for name in pair)
    return [pair for pair in pairs if all(count[name] == 1 for name in pair)]
