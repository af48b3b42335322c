"""The trainable part's forward and backward as two CUDA graphs.

At small image sizes a GPU waits for Python, which launches hundreds of kernels a step; a graph is launched
as one. See torch.cuda.make_graphed_callables.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wandb_tl.errors import one_line

# Largest difference of a gradient, as a share of its largest value: bf16 kernels need not repeat themselves.
TOLERANCE = 0.02

Forward = Callable[[Tensor], Tensor]


def capture(trainable: nn.Module, inputs: Tensor, labels: Tensor, autocast: Callable) -> Forward | None:
    """The forward of the module in its present mode, as a graph for inputs of this shape, gradients included.

    It is tried on these inputs (N, …) and labels (N,) before it is trusted. None, with a line that says why,
    where it cannot be captured or gives other gradients. Parameters and buffers are left as they were.
    """
    buffers = [(buffer, buffer.clone()) for buffer in trainable.buffers()]
    graphed: Forward | None = None
    try:
        expected = _gradients(trainable, trainable, inputs, labels, autocast)
        # Cast weights that autocast kept would lie outside of the graph's memory.
        with autocast(cache_enabled=False):
            torch.cuda.make_graphed_callables(trainable, (inputs,))
        # It is the module's forward now; what else calls the module shall not meet it.
        graphed = vars(trainable).pop("forward")
        computed = _gradients(graphed, trainable, inputs, labels, autocast)
        if not _same(expected, computed):
            print("a CUDA graph of the training step gives other gradients: kernels are launched one by one")
            graphed = None
    except (AssertionError, RuntimeError) as error:
        reason = one_line(error)[:200]
        print(f"no CUDA graph of the training step ({reason}): kernels are launched one by one")
        graphed = None
    finally:
        vars(trainable).pop("forward", None)
        trainable.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
    return graphed


def for_full_batches(graphed: Forward, eager: Forward, size: int) -> Forward:
    """Graphed for batches of this size, and eager for the last one of an epoch, which may be smaller."""
    return lambda inputs: graphed(inputs) if len(inputs) == size else eager(inputs)


def _gradients(
    forward: Forward, trainable: nn.Module, inputs: Tensor, labels: Tensor, autocast: Callable
) -> list[Tensor]:
    trainable.zero_grad(set_to_none=True)
    with autocast():
        logits = forward(inputs)
    F.cross_entropy(logits.float(), labels).backward()
    return [weight.grad.clone() for weight in trainable.parameters() if weight.grad is not None]


def _same(expected: list[Tensor], computed: list[Tensor]) -> bool:
    pairs = zip(expected, computed, strict=False)
    close = all((one - other).abs().max() <= TOLERANCE * one.abs().max() for one, other in pairs)
    return len(expected) == len(computed) and bool(close)
