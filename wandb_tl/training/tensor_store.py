"""Tensors on disk by key, computed once for all processes of a machine and mapped into the memory of each.

An entry is a folder: `data`, the values; `digests`, the SHA-256 of each block of rows; `entry.json`, its
description. It is filled under another name and renamed when it is complete. Processes that need one entry at
the same time share its blocks between them, and the next process completes what a killed one has begun.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import mmap
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import portalocker
import torch
from portalocker import LockFlags
from torch import Tensor

from wandb_tl.training import mapped_tensors

DIGEST_BYTES = 32
# An incomplete entry that has not changed for this long is abandoned.
ABANDONED_SECONDS = 24 * 3600
# On Windows, a folder cannot be renamed while another process has a file in it open.
RENAME_SECONDS = 60


@dataclass(frozen=True)
class Layout:
    """The shape and type of an entry's tensor, which is written one block of rows at a time."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    block_rows: int

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of the whole tensor."""
        return self.shape[0] * self.row_bytes

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The first row of each block, and the row after its last one."""
        rows = self.shape[0]
        return [(start, min(start + self.block_rows, rows)) for start in range(0, rows, self.block_rows)]


class TensorStore:
    """The entries of a folder, at most `limit` bytes; evicts the least recently used ones.

    Its methods raise OSError if the folder cannot be read or written.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def get(self, key: str) -> Tensor | None:
        """The tensor of an entry, mapped from its file after all blocks are verified; None if there is none.

        The tensor is read-only: writing to it kills the process.
        """
        folder = self.folder / key
        try:
            layout = _layout(json.loads((folder / "entry.json").read_text(encoding="utf-8")))
            pages = mapped_tensors.map_file(folder / "data", layout.size)
            if _intact(pages, layout, (folder / "digests").read_bytes()):
                # The time of its last use; it stays as it is in a folder that this user may only read.
                with suppress(OSError):
                    os.utime(folder)
                return mapped_tensors.tensor_of(pages, layout.dtype, layout.shape)
        except FileNotFoundError:
            # Without its folder there is no entry, or it has just been evicted.
            if not folder.exists():
                return None
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
            # The errors that a damaged entry.json can cause.
            pass
        print(f"{folder} is damaged and is computed again", flush=True)
        self._remove(folder)
        return None

    @contextmanager
    def reader(self, key: str) -> Iterator[Callable[[int], Tensor] | None]:
        """A function that reads a row of an entry, verified as by `get`; None if there is no such entry.

        For copying rows: unlike the pages of a mapped tensor, they do not stay in the memory.
        """
        tensor = self.get(key)
        if tensor is None:
            yield None
            return
        shape, dtype, row_bytes = tensor.shape[1:], tensor.dtype, tensor[:1].nbytes
        # Threads that decode pictures read rows too.
        one_at_a_time = threading.Lock()
        with (self.folder / key / "data").open("rb", buffering=0) as file:

            def read(row: int) -> Tensor:
                with one_at_a_time:
                    content = bytearray(_read(file, row_bytes, row * row_bytes))
                return torch.frombuffer(content, dtype=dtype).view(shape)

            yield read

    def descriptions(self) -> dict[str, dict[str, Any]]:
        """The descriptions that complete entries were filled with, by key."""
        descriptions = {}
        # Without a folder there are none.
        with suppress(FileNotFoundError, NotADirectoryError):
            for folder in self.folder.iterdir():
                # Another process may evict the entry, and a damaged one describes nothing.
                with suppress(OSError, ValueError, KeyError, TypeError):
                    if not folder.suffix:
                        entry = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
                        descriptions[folder.name] = dict(entry["about"])
        return descriptions

    def fill(
        self, key: str, layout: Layout, description: dict[str, Any], compute: Callable[[int, int], Tensor]
    ) -> Tensor | None:
        """Compute an entry, together with other processes that need it now, and return it as `get` does.

        compute(start, stop) returns those rows on the CPU; description: plain data, kept in entry.json.
        Returns None, and computes nothing, if the store has no space for it.
        """
        whole, part = self.folder / key, self.folder / f"{key}.part"
        if not whole.exists():
            if not self._evict_for(layout.size, part):
                return None
            part.mkdir(parents=True, exist_ok=True)
            try:
                # Another process may have completed it in the meantime.
                if not whole.exists():
                    self._fill(part, layout, description, compute)
                _rename(part, whole)
            except OSError:
                # Another process has renamed the folder first.
                if not whole.exists():
                    raise
                shutil.rmtree(part, ignore_errors=True)
        return self.get(key)

    def _fill(
        self, part: Path, layout: Layout, description: dict[str, Any], compute: Callable[[int, int], Tensor]
    ) -> None:
        entry = {
            "shape": layout.shape,
            "dtype": str(layout.dtype).removeprefix("torch."),
            "block_rows": layout.block_rows,
            "about": description,
        }
        temporary = part / f"entry.{os.getpid()}"
        temporary.write_text(json.dumps(entry, indent=1), encoding="utf-8")
        temporary.replace(part / "entry.json")
        with _unbuffered(part / "data") as data, _unbuffered(part / "digests") as digests:
            digests.truncate(DIGEST_BYTES * len(layout.blocks))
            # One process at a time: the C library writes zeros if the file system cannot allocate.
            with _locked(part / "allocation.lock", LockFlags.EXCLUSIVE):
                if os.fstat(data.fileno()).st_size < layout.size:
                    _allocate(data.fileno(), layout.size)
            # First the blocks that no other process computes. Then wait for theirs, and compute those that a
            # killed process has left.
            for flags in (LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING, LockFlags.EXCLUSIVE):
                for number, (start, stop) in enumerate(layout.blocks):
                    with _locked(part / f"{number}.lock", flags) as is_locked:
                        place = DIGEST_BYTES * number
                        if is_locked and not any(_read(digests, DIGEST_BYTES, place)):
                            raw = raw_bytes(compute(start, stop))
                            _write(data, raw, start * layout.row_bytes)
                            _write(digests, memoryview(hashlib.sha256(raw).digest()), place)
        for file in part.glob("*.lock"):
            # Another process may have it open, which Windows does not allow; the file is empty.
            with suppress(PermissionError):
                file.unlink(missing_ok=True)

    def _evict_for(self, size: int, part: Path) -> bool:
        """Evict the least recently used entries until one of `size` bytes, filled under `part`, has space."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if (part / "data").stat().st_size >= size:
                # Another process has already allocated it.
                return True
        entries = {}
        for folder in self.folder.iterdir():
            if folder.suffix == ".gone":
                # The process that was removing it was killed.
                shutil.rmtree(folder, ignore_errors=True)
            elif folder.is_dir() and folder != part:
                # Another process may be evicting it.
                with suppress(FileNotFoundError):
                    entries[folder] = _last_change(folder), _bytes_in(folder)
        total = sum(size for _, size in entries.values())
        # Half of the disk's free space stays free.
        limit = min(self.limit, total + shutil.disk_usage(self.folder).free // 2)
        abandoned = time.time() - ABANDONED_SECONDS
        evictable = [
            (used, size, folder)
            for folder, (used, size) in entries.items()
            if folder.suffix != ".part" or used < abandoned
        ]
        if total - sum(size for _, size, _ in evictable) + size > limit:
            return False
        for _, freed, folder in sorted(evictable):
            if total + size <= limit:
                break
            self._remove(folder)
            total -= freed
        return True

    def _remove(self, folder: Path) -> None:
        # Renamed first, so that no process reads half of it. A process that has it mapped can still read it.
        gone = Path(tempfile.mkdtemp(dir=self.folder, suffix=".gone"))
        # On Windows it stays as long as a process has it mapped.
        with suppress(FileNotFoundError, PermissionError):
            folder.rename(gone / folder.name)
        shutil.rmtree(gone, ignore_errors=True)


def _unbuffered(path: Path) -> IO[bytes]:
    """A file, created if there is none, for reading and writing."""
    path.touch()
    return path.open("r+b", buffering=0)


@contextmanager
def _locked(path: Path, flags: LockFlags) -> Iterator[bool]:
    """Lock a file in the block; False if another process has locked it and the flags say not to wait.

    Each lock is a file of its own: the systems have no lock in common for a part of a file.
    """
    with path.open("a") as file:
        try:
            portalocker.lock(file, flags)
        except portalocker.AlreadyLocked:
            yield False
        except portalocker.LockException as error:
            raise OSError(errno.ENOLCK, "the file system has no locks", str(path)) from error
        else:
            yield True


def _rename(part: Path, whole: Path) -> None:
    """Rename a complete entry. OSError if another process has renamed it, or if it cannot be renamed."""
    deadline = time.monotonic() + RENAME_SECONDS
    while True:
        try:
            part.rename(whole)
        except PermissionError:
            if whole.exists() or sys.platform != "win32" or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _layout(description: dict[str, Any]) -> Layout:
    dtype = getattr(torch, description["dtype"])
    return Layout(tuple(description["shape"]), dtype, description["block_rows"])


def _intact(pages: mmap.mmap, layout: Layout, digests: bytes) -> bool:
    """Whether every block is as it was written."""

    def digest(block: tuple[int, int]) -> bytes:
        start, stop = (row * layout.row_bytes for row in block)
        with memoryview(pages) as view, view[start:stop] as content:
            value = hashlib.sha256(content).digest()
        # Until the values are used, they need not count as memory of this process.
        mapped_tensors.drop(pages, start, stop)
        return value

    with ThreadPoolExecutor() as pool:
        return b"".join(pool.map(digest, layout.blocks)) == digests


def raw_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor on the CPU as bytes, without a copy if it is contiguous."""
    values: Any = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    # NumPy declares the buffer protocol of its arrays only for Python 3.12 and later.
    return memoryview(values)


def _read(file: IO[bytes], size: int, offset: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _write(file: IO[bytes], raw: memoryview, offset: int) -> None:
    file.seek(offset)
    while raw:
        raw = raw[file.write(raw) :]


def _allocate(file: int, size: int) -> None:
    """Allocate a file, so that a full disk is an error now and not after half of the entry."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    os.truncate(file, size)


def _last_change(folder: Path) -> float:
    """When an entry was last used, or an incomplete one last written to."""
    times = [folder.stat().st_mtime]
    if folder.suffix == ".part":
        times += [file.stat().st_mtime for file in folder.iterdir()]
    return max(times)


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
