"""Faster convolutions that compute the same.

Frozen BatchNorms are folded into the convolutions before them. On a CPU, trainable convolutions take the form
whose gradient oneDNN computes fastest.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Output maps of at most so many pixels are computed as a matrix product. In bf16, for 64 images, this takes
# 0.3 to 0.45 of oneDNN's time for maps of 2 x 2 pixels, 0.8 to 1.03 for 4 x 4, and more for larger ones.
PIXELS_OF_SMALL_MAPS = 4

# The largest difference that folding may make by rounding, as a share of the largest output. A GPU's
# convolutions use TF32, which has ten bits.
FOLDING_TOLERANCE_OF_CPU, FOLDING_TOLERANCE_OF_GPU = 1e-3, 0.02


def fold_batch_norms(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy of the network, in eval mode, with every BatchNorm2d that follows a convolution folded into it.

    Returns the network itself if the copy's output for the example (N, C, H, W) differs. The copy shares the
    tensors that are not folded.
    """
    shared = {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]}
    folded = copy.deepcopy(network, shared).eval()
    for convolution, norm in _pairs(folded, example):
        before, after = folded.get_submodule(convolution), folded.get_submodule(norm)
        assert isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d)
        fused = fuse_conv_bn_eval(before, after)
        folded.set_submodule(convolution, fused)
        # timm's BatchNormAct2d has an activation after its norm.
        rest = [getattr(folded.get_submodule(norm), name, None) for name in ("drop", "act")]
        folded.set_submodule(norm, nn.Sequential(*(part for part in rest if part is not None)))
    with torch.no_grad():
        expected = network(example)
        try:
            computed = folded(example)
        except Exception:
            # This forward uses the norm other than by calling it.
            return network
    tolerance = FOLDING_TOLERANCE_OF_CPU if example.device.type == "cpu" else FOLDING_TOLERANCE_OF_GPU
    allowed = tolerance * expected.abs().max()
    return folded if (computed - expected).abs().max() <= allowed else network


def train_on_cpu(network: nn.Module) -> None:
    """Give the network's convolutions, in place, the form that trains fastest on a CPU.

    Names, parameters and gradients stay the same. Weights of spatial convolutions get their channels last.
    """
    for module in network.modules():
        if type(module) is not nn.Conv2d or module.padding_mode != "zeros":
            continue
        if module.kernel_size == (1, 1) and module.groups == 1 and module.padding == (0, 0):
            module.__class__ = _Pointwise
        elif module.groups == module.in_channels > 1:
            module.__class__ = _Depthwise
        elif module.groups == 1 and module.dilation == (1, 1) and isinstance(module.padding, tuple):
            module.__class__ = _Spatial
            # As their gradient is: otherwise, the optimizer copies each gradient into the other order first.
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


class _Pointwise(nn.Conv2d):
    """A 1x1 convolution as a matrix product: the gradients of small maps take half the time."""

    def forward(self, input: Tensor) -> Tensor:
        down, across = self.stride
        # oneDNN's bf16 product takes a hundred times as long for pixels that are not contiguous.
        pixels = input[:, :, ::down, ::across].permute(0, 2, 3, 1).contiguous()
        return F.linear(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class _Depthwise(nn.Conv2d):
    """A depthwise convolution in fp32: the bf16 gradient of most takes three times as long or more."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float()).to(input.dtype)


class _Spatial(nn.Conv2d):
    """A convolution that is computed as a matrix product of patches where its output is a small map."""

    def forward(self, input: Tensor) -> Tensor:
        assert not isinstance(self.padding, str)
        (down, across), (height, width) = self.padding, self.kernel_size
        rows = (input.shape[2] + 2 * down - height) // self.stride[0] + 1
        columns = (input.shape[3] + 2 * across - width) // self.stride[1] + 1
        if rows * columns > PIXELS_OF_SMALL_MAPS:
            return super().forward(input)
        pixels = F.pad(input.permute(0, 2, 3, 1), (0, 0, across, across, down, down))
        patches = _Patches.apply(pixels, self.kernel_size, self.stride)
        return F.linear(patches, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias).permute(0, 3, 1, 2)


class _Patches(torch.autograd.Function):
    """The pixels (N, H, W, C) under the kernel at each of its places: (N, rows, columns, kernel pixels x C).

    A function of its own because the gradient of Tensor.unfold takes longer than the matrix product.
    """

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        ctx.shape, ctx.kernel, ctx.stride = pixels.shape, kernel, stride
        # A view (N, rows, columns, kernel height, kernel width, C).
        windows = pixels.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])
        return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        pixels, (down, across) = gradient.new_zeros(ctx.shape), ctx.stride
        _, rows, columns, _ = gradient.shape
        places = gradient.unflatten(3, (*ctx.kernel, -1))
        # The windows overlap; the pixels under one place in them do not.
        for row, column in itertools.product(*map(range, ctx.kernel)):
            under = pixels[:, row : row + rows * down : down, column : column + columns * across : across]
            under += places[:, :, :, row, column]
        return pixels, None, None


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Names of each convolution and of the BatchNorm whose input is its output, if both are called once."""
    sources: dict[int, str] = {}
    # Kept, because a new tensor may get the id of a freed one.
    outputs: list[Tensor] = []
    pairs: list[tuple[str, str]] = []

    def after_convolution(name: str, output: Tensor) -> None:
        outputs.append(output)
        sources[id(output)] = name

    def before_norm(name: str, value: Tensor) -> None:
        if id(value) in sources:
            pairs.append((sources[id(value)], name))

    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hook = module.register_forward_hook(lambda *call, name=name: after_convolution(name, call[2]))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hook = module.register_forward_pre_hook(lambda *call, name=name: before_norm(name, call[1][0]))
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
