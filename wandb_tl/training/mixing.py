"""mixup and CutMix: each input of a batch mixed with the one before it, and their labels in the same shares.

They act on what the trainable layers get: normalised pixels, or outputs of the frozen layers, which stay in
the cache. The first input of a batch is mixed with the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from torch import Tensor

from wandb_tl.errors import InputError

# Height and width of the smallest maps that have patches: on maps of 2 x 2, those that torchvision draws
# round to nothing.
SMALLEST_MAP = 3


def mix(inputs: Tensor, targets: Tensor, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """A batch of inputs (N, …) and its targets (N, K) after mixup or CutMix, as new tensors.

    inputs: floating point. targets: the probabilities of the classes, floating point. mixup, cutmix: the
    strengths of the two, which are the parameter of the Beta distribution that the share of an input is drawn
    from; 0 means never. One share, and with CutMix one patch, is drawn for the batch, by torch's generator on
    the CPU. If both have a strength, one of the two is drawn for the batch, with equal chances. The inputs
    have passed `check_cutmix`.
    """
    if not mixup and not cutmix:
        return inputs, targets
    view, restore = _as_images(inputs)
    mixed, targets = _transform(mixup, cutmix)(view, targets)
    return restore(mixed), targets


def check_cutmix(example: Tensor, cutmix: float) -> None:
    """InputError if CutMix cannot cut patches out of inputs like these (N, …)."""
    if cutmix and not (_is_map(example) and example.shape[2] >= SMALLEST_MAP):
        shape = " x ".join(map(str, example.shape[1:]))
        raise InputError(
            f"cutmix: the layers that train get inputs of {shape}, from which no patch can be cut; use mixup "
            "instead"
        )


def _as_images(inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Inputs as torchvision takes them, (N, C, H, W), and a function that gives them their shape back."""
    if inputs.dim() != 4:
        # Features, or the tokens of a transformer, have no patches; for mixup, any shape will do.
        return inputs.reshape(len(inputs), -1, 1, 1), lambda mixed: mixed.view(inputs.shape)
    if _has_channels_at_end(inputs):
        return inputs.permute(0, 3, 1, 2), lambda mixed: mixed.permute(0, 2, 3, 1)
    return inputs, lambda mixed: mixed


def _is_map(inputs: Tensor) -> bool:
    """Whether inputs have height and width. Both are equal, because all images are squares."""
    return inputs.dim() == 4 and (inputs.shape[2] == inputs.shape[3] or _has_channels_at_end(inputs))


def _has_channels_at_end(inputs: Tensor) -> bool:
    """Whether inputs are (N, H, W, C), as in Swin transformers."""
    _, first, second, third = inputs.shape
    return first == second != third


@lru_cache(maxsize=1)
def _transform(mixup: float, cutmix: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    # Most runs do without it.
    from torchvision.transforms import v2

    transforms = [v2.MixUp(alpha=mixup)] if mixup else []
    transforms += [v2.CutMix(alpha=cutmix)] if cutmix else []
    transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    transform = v2.RandomChoice(transforms) if len(transforms) > 1 else transforms[0]
    return transform
