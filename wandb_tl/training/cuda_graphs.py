"""The trainable part's forward and backward as two CUDA graphs.

At small image sizes a GPU waits for Python, which launches hundreds of kernels per step; a graph is launched
as a whole. See torch.cuda.make_graphed_callables.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wandb_tl.errors import one_line
from wandb_tl.training.devices import Autocast

# Largest difference of a gradient, as a share of its largest value: bf16 kernels are not deterministic.
TOLERANCE = 0.02

Forward = Callable[[Tensor], Tensor]


def capture(trainable: nn.Module, inputs: Tensor, labels: Tensor, autocast: Autocast) -> Forward | None:
    """The module's forward and backward in its present mode, as graphs for inputs of this shape.

    Their gradients are compared with the module's own on these inputs (N, …) and labels (N,). Returns None,
    and prints the reason, if they differ or the module cannot be captured. Parameters and buffers keep their
    values.
    """
    buffers = [(buffer, buffer.clone()) for buffer in trainable.buffers()]
    graphed: Forward | None = None
    try:
        expected = _gradients(trainable, trainable, inputs, labels, autocast)
        # Weights that autocast has cast and cached would lie outside of the graph's memory.
        with autocast(cache_enabled=False):
            torch.cuda.make_graphed_callables(trainable, (inputs,))
        # It has replaced the module's forward, which other callers of the module need as it was.
        graphed = vars(trainable).pop("forward")
        computed = _gradients(graphed, trainable, inputs, labels, autocast)
        if not _same(expected, computed):
            print("a CUDA graph of the training step changes its gradients: kernels are launched one by one")
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
    """The graph for batches of this size, else the eager forward: an epoch's last batch may be smaller."""
    return lambda inputs: graphed(inputs) if len(inputs) == size else eager(inputs)


def _gradients(
    forward: Forward, trainable: nn.Module, inputs: Tensor, labels: Tensor, autocast: Autocast
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
