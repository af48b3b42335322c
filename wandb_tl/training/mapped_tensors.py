"""Tensors mapped from files: a page is read when it is used, and the system drops it when it needs memory."""

from __future__ import annotations

import mmap
import os
import warnings
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from torch import Tensor

# The mappings of this process that are in use, by the address of their first byte.
_mappings: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()


def map_file(path: Path, size: int) -> mmap.mmap:
    """A file of `size` bytes mapped into memory, to be read. ValueError if it has another size."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != size:
            raise ValueError(f"{path} has another size")
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)


def tensor_of(pages: mmap.mmap, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """The values of a mapping as a tensor, which must not be written to."""
    with warnings.catch_warnings():
        # PyTorch warns that the tensor is not writable, which is intended.
        warnings.simplefilter("ignore", UserWarning)
        tensor = torch.frombuffer(pages, dtype=dtype).view(shape)
    _mappings[tensor.data_ptr()] = pages
    return tensor


def release(rows: Tensor) -> None:
    """Drop these rows of a mapped tensor from the memory of this process, until they are used again.

    Rows that have been used once would otherwise count as its memory. Nothing happens to other tensors.
    """
    pages = _mappings.get(rows.untyped_storage().data_ptr())
    if pages is not None and len(rows):
        start = int(rows.storage_offset()) * rows.itemsize
        stop = start + len(rows) * int(rows.stride(0)) * rows.itemsize
        drop(pages, start, min(stop, len(pages)))


def drop(pages: mmap.mmap, start: int, stop: int) -> None:
    """Drop the bytes from `start` to `stop` of a mapping from the memory of this process."""
    if hasattr(mmap, "MADV_DONTNEED"):
        first = start - start % mmap.PAGESIZE
        pages.madvise(mmap.MADV_DONTNEED, first, stop - first)
