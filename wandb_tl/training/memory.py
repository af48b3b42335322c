"""Batches that do not fit the memory are computed in parts; what a step frees, the next one takes."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import TypeVar

import psutil
import torch
from torch import Tensor

from wandb_tl.errors import InputError, one_line

Result = TypeVar("Result")

# How PyTorch words a failed allocation where it does not raise torch.OutOfMemoryError: on a CPU, in C++'s
# standard library, in oneDNN, in the CUDA driver and in cuBLAS.
WORDINGS = (
    "DefaultCPUAllocator",
    "bad_alloc",
    "could not create a primitive",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)

# Two parameters of glibc, mallopt(3), and their values in bytes: larger tensors than 32 MB, its limit, are
# always given back.
TRIM_THRESHOLD, KEPT_BYTES = -1, 2**29
MMAP_THRESHOLD, LARGEST_KEPT = -3, 2**25
# Of a process whose memory is short.
SMALLEST_RETURNED = 2**16


class Parts:
    """Computes batches; if one does not fit the memory, halves the parts in which they are computed.

    It says so once, with work, which names the computation, and effect, what differs for it. least: the
    smallest number of images in a part; None for batches that cannot be computed in parts.
    """

    def __init__(self, work: str, effect: str = "", least: int | None = 1) -> None:
        self.work, self.effect, self.least = work, effect, least
        # Images of a part; None as long as every batch has fit.
        self.limit: int | None = None

    def run(
        self,
        compute: Callable[[list[Tensor]], Result],
        batch: Tensor,
        undo: Callable[[], None] = lambda: None,
    ) -> Result:
        """compute(parts), where the parts in a row are the batch (N, …).

        undo: called after an attempt that did not fit. InputError if the smallest parts do not fit either.
        """
        before = self.limit
        while True:
            parts = self.split(batch)
            try:
                result = compute(parts)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = one_line(error)
            # The error refers to the tensors of the attempt, so that only here they are free.
            undo()
            if torch.accelerator.is_available():
                torch.accelerator.empty_cache()
            stop_keeping_freed_memory()
            self._halve(batch, len(parts), reason)
        if self.limit != before:
            on_gpu = any(word in reason for word in ("CUDA", "CUBLAS", "XPU", "MPS"))
            place = "the memory of the GPU" if on_gpu else "memory"
            print(
                f"{self.work}: a batch of {len(batch)} does not fit {place}: "
                f"computed as {len(parts)} x {len(parts[0])}{self.effect}",
                flush=True,
            )
        return result

    def split(self, batch: Tensor) -> list[Tensor]:
        """The batch in as few parts as the limit allows, of equal size or with a difference of one."""
        if self.limit is None:
            return [batch]
        count = min(-(-len(batch) // self.limit), self._most(batch))
        return list(batch.tensor_split(count))

    def _most(self, batch: Tensor) -> int:
        """The largest number of parts."""
        return 1 if self.least is None else max(1, len(batch) // self.least)

    def _halve(self, batch: Tensor, count: int, reason: str) -> None:
        largest = -(-len(batch) // count)
        if count == self._most(batch):
            images = "one image does" if largest == 1 else f"{largest} images do"
            smaller = "batch_size" if self.least is None else "model_name or image_size"
            advice = f"use a smaller {smaller}"
            raise InputError(f"{self.work}: {images} not fit the memory ({reason[:200]}); {advice}")
        self.limit = -(-largest // 2)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, of a GPU or of the CPU."""
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in words for text in WORDINGS)


def keep_freed_memory() -> None:
    """Let this process keep what tensors on the CPU free, up to 512 MB, instead of giving it back to Linux.

    Linux clears the pages of memory that it hands out, which takes a tenth of a training step's time. Another
    C library than glibc stays as it is.
    """
    mallopt = _of_glibc("mallopt")
    # A process with a limit of its own, as by ulimit -v, may need it for the next batch.
    if mallopt and psutil.Process().rlimit(psutil.RLIMIT_AS)[0] == psutil.RLIM_INFINITY:
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(MMAP_THRESHOLD, LARGEST_KEPT)


def stop_keeping_freed_memory() -> None:
    """Return to Linux what this process has kept and will free: its memory is short."""
    mallopt, trim = _of_glibc("mallopt"), _of_glibc("malloc_trim")
    if mallopt and trim:
        mallopt(TRIM_THRESHOLD, 0)
        mallopt(MMAP_THRESHOLD, SMALLEST_RETURNED)
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library of this process; None where it has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
