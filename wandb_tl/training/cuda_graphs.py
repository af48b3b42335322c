"""A training step as one CUDA graph: inputs, forward and backward pass, and the update of the weights.

At small image sizes a GPU waits for Python, which launches about a thousand kernels per step; a graph is
launched as a whole. See torch.cuda.CUDAGraph.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from wandb_tl.errors import one_line

# Largest difference of a gradient, as a share of its largest value: bf16 kernels are not deterministic.
TOLERANCE = 0.02

# Updates the weights with the images at the given indices (N,); returns the sum of their losses and the
# number of hits, scalars.
Step = Callable[[Tensor], tuple[Tensor, Tensor]]


class GraphedStep:
    """A training step that is captured before its second full batch, and replayed from then on.

    The first step creates the optimizer's state, which a graph would create anew in each step.

    plain: the step for batches that are not replayed. captured: the same step, of full batches alone; it
    leaves its gradients in the weights, and draws its random numbers on the GPU. trainable: the module that
    they train. size: of a full batch.
    """

    def __init__(
        self,
        plain: Step,
        captured: Step,
        trainable: nn.Module,
        optimizer: torch.optim.Optimizer,
        size: int,
    ) -> None:
        self._plain, self._captured = plain, captured
        self._trainable, self._optimizer, self._size = trainable, optimizer, size
        self._graph: torch.cuda.CUDAGraph | None = None
        self._is_first, self._has_failed = True, False
        # What the graph reads and writes.
        self._index: Tensor
        self._rates: list[Tensor]
        self._results: tuple[Tensor, Tensor]

    def __call__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The step; its results are overwritten by the next one."""
        if len(index) != self._size or self._has_failed:
            return self._plain(index)
        if self._is_first:
            self._is_first = False
            return self._plain(index)
        if self._graph is None:
            self._capture(index)
            if self._graph is None:
                return self._plain(index)
        else:
            self._replay(index)
        return self._results

    def _replay(self, index: Tensor) -> None:
        assert self._graph is not None
        self._index.copy_(index)
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._graph.replay()

    def _capture(self, index: Tensor) -> None:
        """Capture the step, and do it for this batch.

        Its gradients are compared with those of the plain step. If they differ, or if the step cannot be
        captured, this says so, there is no graph, and nothing has been done.
        """
        device, groups = index.device, self._optimizer.param_groups
        self._index = index.clone()
        self._rates = [torch.tensor(float(group["lr"]), device=device) for group in groups]
        graph, stream, reason = torch.cuda.CUDAGraph(), _stream(device), ""
        restore: Callable[[], None] | None = None
        numbers = torch.get_rng_state(), random.getstate()
        try:
            restore = self._snapshot(device)
            # On a stream of its own, as PyTorch asks for before a capture.
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                self._captured(self._index)
                expected = self._gradients()
            torch.cuda.current_stream(device).wait_stream(stream)
            restore()
            if not torch.equal(torch.get_rng_state(), numbers[0]) or random.getstate() != numbers[1]:
                # A graph would repeat what this step has drawn.
                raise RuntimeError("it draws random numbers on the CPU")
            with self._capturable(), torch.cuda.graph(graph, stream=stream):
                self._results = self._captured(self._index)
            self._graph = graph
            self._replay(index)
            if not _same(expected, self._gradients()):
                reason = "it changes the gradients"
        except RuntimeError as error:
            reason = one_line(error)[:200]
        if reason:
            print(f"no CUDA graph of the training step ({reason}): kernels are launched one by one")
            self._graph, self._has_failed = None, True
            if restore is not None:
                restore()
            torch.set_rng_state(numbers[0])
            random.setstate(numbers[1])

    def _gradients(self) -> list[Tensor]:
        return [weight.grad.clone() for weight in self._trainable.parameters() if weight.grad is not None]

    def _snapshot(self, device: torch.device) -> Callable[[], None]:
        """Gives back, when called, the module, the optimizer's state and the GPU's random numbers of now."""
        state = [value for values in self._optimizer.state.values() for value in values.values()]
        tensors = [
            *self._trainable.parameters(),
            *self._trainable.buffers(),
            *(value for value in state if isinstance(value, Tensor)),
        ]
        before, numbers = [tensor.detach().clone() for tensor in tensors], torch.cuda.get_rng_state(device)

        def restore() -> None:
            with torch.no_grad():
                for tensor, values in zip(tensors, before, strict=True):
                    tensor.copy_(values)
            torch.cuda.set_rng_state(numbers, device)

        return restore

    @contextmanager
    def _capturable(self) -> Iterator[None]:
        """Let the optimizer's step be captured, with learning rates that it reads from the GPU."""
        groups = self._optimizer.param_groups
        before = [dict(group) for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group.update(lr=rate, capturable=True)
        try:
            yield
        finally:
            for group, values in zip(groups, before, strict=True):
                group.clear()
                group.update(values)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all runs of a process: cuBLAS keeps memory for each stream that it has been used on."""
    return torch.cuda.Stream(device)


def _same(expected: list[Tensor], computed: list[Tensor]) -> bool:
    pairs = zip(expected, computed, strict=False)
    close = all((one - other).abs().max() <= TOLERANCE * one.abs().max() for one, other in pairs)
    return len(expected) == len(computed) and bool(close)
