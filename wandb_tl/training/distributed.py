"""One run in several processes, which torchrun starts: each computes its share of every batch.

All processes hold the same model and make the same steps: the gradients of a batch are summed over them. The
frozen part needs nothing of this, because processes share what they compute for the cache. Only the first
process logs, and writes checkpoints. Without torchrun there is one process, and these functions do nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.signals import ignored


def rank() -> int:
    """The number of this process, from 0; the first logs. It is known before the processes are joined."""
    return int(os.environ["RANK"]) if dist.is_torchelastic_launched() else 0


def count() -> int:
    """How many processes train this run. Before they are joined, and after, each is alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextlib.contextmanager
def joined(config: RunConfig) -> Iterator[None]:
    """Join the other processes of the run for the block, if torchrun has started several.

    Each uses its own GPU. All but the first print nothing in the block, and leave signals to the first one.
    InputError if a batch has fewer images than there are processes.
    """
    # Clusters set WORLD_SIZE for their jobs as well.
    processes = int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1
    if processes == 1:
        yield
        return
    if config.batch_size < processes:
        raise InputError(
            f"batch_size: got {config.batch_size}, and {processes} processes need one image each"
        )
    if torch.accelerator.is_available():
        torch.accelerator.set_device_index(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group()
    try:
        with contextlib.ExitStack() as stack:
            if rank():
                silence = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(silence))
                # Warnings, and the progress bars of a terminal.
                stack.enter_context(contextlib.redirect_stderr(silence))
                stack.enter_context(ignored())
            yield
    finally:
        dist.destroy_process_group()


def synchronize_norms(model: nn.Module, smallest: int) -> nn.Module:
    """The model, in train mode, whose BatchNorms normalise by the whole batch instead of a process's share.

    smallest: the images of the smallest batch. InputError if a process would have none of them, because the
    others would wait for its statistics; and on a CPU, which has no such layers.
    """
    trained = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    if count() == 1 or not trained:
        return model
    if not torch.accelerator.is_available():
        raise InputError("this recipe trains BatchNorm layers, which in several processes needs GPUs")
    if smallest < count():
        raise InputError(
            f"batch_size: the last batch of an epoch has {smallest} images, and this recipe trains BatchNorm "
            f"layers, for which {count()} processes need one image each; use another batch_size"
        )
    synchronized: nn.Module = convert_sync_batchnorm(model)
    return synchronized


def computes_norms_together(model: nn.Module) -> bool:
    """Whether a forward pass of the model in one process waits for one in each of the others."""
    return any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())


def draw_own_numbers() -> None:
    """Give each process random numbers of its own, where all had the same; those of the first stay the same.

    Otherwise, their shares of a batch would have the same augmentation and dropout.
    """
    if rank():
        torch.manual_seed(int(torch.randint(2**31, (rank(),))[-1]))


def share(batch: Tensor) -> Tensor:
    """The part of a batch (N, …) that this process computes. It may be empty."""
    return batch.tensor_split(count())[rank()]


def sum_gradients(optimizer: torch.optim.Optimizer, weight: float) -> None:
    """Give the weights the gradients of the whole batch.

    weight: the share of this process in the batch. Its own gradients are those of the mean over its share.
    """
    if count() == 1:
        return
    # Those that do not train in this epoch keep having no gradients.
    parameters = [one for group in optimizer.param_groups for one in group["params"] if one.requires_grad]
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad * weight for one in parameters]
    # One message instead of one per parameter.
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    sizes = [one.numel() for one in parameters]
    for one, values in zip(parameters, flat.split(sizes), strict=True):
        # In the parameter's memory format, such as channels_last: fused optimizers take both in memory order.
        one.grad = torch.empty_like(one).copy_(values.view_as(one))


def total(value: Tensor) -> Tensor:
    """The sum of the values of all processes."""
    if count() > 1:
        dist.all_reduce(value)
    return value


def total_of_number(value: float, device: torch.device) -> float:
    """The sum of the numbers of all processes. device: that of this process, which sends it."""
    if count() == 1:
        return value
    return total(torch.tensor(value, dtype=torch.float64, device=device)).item()


def computed_together(compute: Callable[[Tensor], list[Tensor]], chunks: Sequence[Tensor]) -> Tensor:
    """compute(chunk) of all chunks, in their order; each process computes some of them, and gets all.

    compute returns the outputs (N, K) for the N items of a chunk in one or several tensors.
    """
    # With fewer chunks than processes, a process would not know the shape of the outputs.
    if count() == 1 or len(chunks) < count():
        return torch.cat([output for chunk in chunks for output in compute(chunk)])
    own = torch.cat([output for chunk in chunks[rank() :: count()] for output in compute(chunk)])
    sizes = [[len(chunk) for chunk in chunks[number :: count()]] for number in range(count())]
    # Messages have the same size in all processes.
    padded = own.new_zeros(max(map(sum, sizes)), *own.shape[1:])
    padded[: len(own)] = own
    received = [torch.empty_like(padded) for _ in range(count())]
    dist.all_gather(received, padded)
    parts = [list(values[: sum(mine)].split(mine)) for values, mine in zip(received, sizes, strict=True)]
    return torch.cat([parts[number % count()][number // count()] for number in range(len(chunks))])


def of_first(value: Any) -> Any:
    """The value that the first process has."""
    values = [value]
    if count() > 1:
        dist.broadcast_object_list(values)
    return values[0]


def same_state(stateful: Sequence[Any]) -> None:
    """Give the objects of all processes the state that those of the first process have."""
    if count() == 1:
        return
    states = of_first([one.state_dict() for one in stateful] if rank() == 0 else None)
    if rank():
        for one, state in zip(stateful, states, strict=True):
            one.load_state_dict(state)
