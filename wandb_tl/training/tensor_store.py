"""Tensors on disk by key, computed once for all processes of a machine and mapped into the memory of each.

An entry is a folder: `data`, the values; `digests`, the SHA-256 of each block of rows; `entry.json`, what it
is. It is filled under another name and renamed when it is whole. Processes that want one entry at the same
moment share its blocks between them, and what a killed one has left the next one goes on with.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import mmap
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DIGEST_BYTES = 32
# A folder that nobody has finished for so long is abandoned.
ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Layout:
    """What an entry holds: a tensor of this shape and type, written a block of rows at a time."""

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
        """First row and the row after the last one, of each block."""
        rows = self.shape[0]
        return [(start, min(start + self.block_rows, rows)) for start in range(0, rows, self.block_rows)]


class TensorStore:
    """The entries of a folder, at most `limit` bytes of them; those used longest ago make room for new ones.

    Its methods raise OSError where the folder cannot be read or written.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def get(self, key: str) -> Tensor | None:
        """The tensor of an entry, mapped from its file and every block checked; None if there is none.

        It can only be read: a write to it ends the process.
        """
        folder = self.folder / key
        try:
            layout = _layout(json.loads((folder / "entry.json").read_text(encoding="utf-8")))
            tensor = _mapped(folder / "data", layout)
            if _intact(tensor, layout, (folder / "digests").read_bytes()):
                # Where others may only read, when it was used is not noted.
                with suppress(OSError):
                    os.utime(folder)
                return tensor
        except FileNotFoundError:
            # Not even the folder: there is no entry, or it has gone to make room.
            if not folder.exists():
                return None
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
            # What an entry.json that is not ours can lead to.
            pass
        print(f"{folder} is damaged: it is computed again", flush=True)
        self._remove(folder)
        return None

    def fill(
        self, key: str, layout: Layout, about: dict[str, Any], compute: Callable[[int, int], Tensor]
    ) -> Tensor | None:
        """Compute an entry with whoever else does so now, and return it as `get` does.

        compute(start, stop) gives those rows, contiguous on the CPU; about: what the entry is, for people.
        None, and nothing done, where the store has no room for it.
        """
        whole, part = self.folder / key, self.folder / f"{key}.part"
        if not whole.exists():
            if not self._make_room(layout.size, part):
                return None
            part.mkdir(parents=True, exist_ok=True)
            try:
                # Another process may have finished it since this one looked.
                if not whole.exists():
                    self._fill(part, layout, about, compute)
                part.rename(whole)
            except OSError:
                # The rename, or a file in there: another process was faster.
                if not whole.exists():
                    raise
                shutil.rmtree(part, ignore_errors=True)
        return self.get(key)

    def _fill(
        self, part: Path, layout: Layout, about: dict[str, Any], compute: Callable[[int, int], Tensor]
    ) -> None:
        description = {"shape": layout.shape, "dtype": str(layout.dtype).removeprefix("torch.")}
        description |= {"block_rows": layout.block_rows, "about": about}
        temporary = part / f"entry.{os.getpid()}"
        temporary.write_text(json.dumps(description, indent=2), encoding="utf-8")
        temporary.replace(part / "entry.json")
        flags = os.O_RDWR | os.O_CREAT
        data, digests = os.open(part / "data", flags, 0o666), os.open(part / "digests", flags, 0o666)
        try:
            os.ftruncate(digests, DIGEST_BYTES * len(layout.blocks))
            # One process at a time: where the file system cannot, the C library writes zeros.
            fcntl.lockf(digests, fcntl.LOCK_EX, 1, len(layout.blocks))
            if os.fstat(data).st_size < layout.size:
                _allocate(data, layout.size)
            fcntl.lockf(digests, fcntl.LOCK_UN, 1, len(layout.blocks))
            # First the blocks that nobody computes; then wait for the others', and do what a killed one left.
            for lock in (fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX):
                for number, (start, stop) in enumerate(layout.blocks):
                    try:
                        fcntl.lockf(digests, lock, 1, number)
                    except BlockingIOError:
                        continue
                    try:
                        if any(os.pread(digests, DIGEST_BYTES, DIGEST_BYTES * number)):
                            continue
                        raw = raw_bytes(compute(start, stop))
                        _write(data, raw, start * layout.row_bytes)
                        os.pwrite(digests, hashlib.sha256(raw).digest(), DIGEST_BYTES * number)
                    finally:
                        fcntl.lockf(digests, fcntl.LOCK_UN, 1, number)
        finally:
            os.close(data)
            os.close(digests)

    def _make_room(self, size: int, part: Path) -> bool:
        """Remove the entries used longest ago until there is room for one that is filled under `part`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if (part / "data").stat().st_size >= size:
                # Another process has made it already.
                return True
        held = {}
        for folder in self.folder.iterdir():
            if folder.suffix == ".gone":
                # Who removed it was killed.
                shutil.rmtree(folder, ignore_errors=True)
            elif folder.is_dir() and folder != part:
                # One that goes just now is none.
                with suppress(FileNotFoundError):
                    held[folder] = _last_change(folder), _bytes_in(folder)
        total = sum(size for _, size in held.values())
        # Half of the disk's free space is left to others.
        limit = min(self.limit, total + shutil.disk_usage(self.folder).free // 2)
        abandoned = time.time() - ABANDONED_SECONDS
        may_go = [
            (used, size, folder)
            for folder, (used, size) in held.items()
            if folder.suffix != ".part" or used < abandoned
        ]
        if total - sum(size for _, size, _ in may_go) + size > limit:
            return False
        for _, freed, folder in sorted(may_go):
            if total + size <= limit:
                break
            self._remove(folder)
            total -= freed
        return True

    def _remove(self, folder: Path) -> None:
        # Out of sight first, so that nobody finds half of it. Who has it mapped keeps it.
        gone = Path(tempfile.mkdtemp(dir=self.folder, suffix=".gone"))
        with suppress(FileNotFoundError):
            folder.rename(gone / folder.name)
        shutil.rmtree(gone, ignore_errors=True)


def _layout(description: dict[str, Any]) -> Layout:
    dtype = getattr(torch, description["dtype"])
    return Layout(tuple(description["shape"]), dtype, description["block_rows"])


def _mapped(path: Path, layout: Layout) -> Tensor:
    """The tensor of a file. ValueError if the file is of another size."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != layout.size:
            raise ValueError(f"{path} is of another size")
        # Nothing of it counts as this process's memory, so it may be larger than that.
        pages = mmap.mmap(file.fileno(), layout.size, access=mmap.ACCESS_READ)
    with warnings.catch_warnings():
        # That it is not writable is meant.
        warnings.simplefilter("ignore", UserWarning)
        return torch.frombuffer(pages, dtype=layout.dtype).view(layout.shape)


def _intact(tensor: Tensor, layout: Layout, digests: bytes) -> bool:
    """Whether every block is what was written."""

    def digest(block: tuple[int, int]) -> bytes:
        return hashlib.sha256(raw_bytes(tensor[slice(*block)])).digest()

    with ThreadPoolExecutor() as pool:
        return b"".join(pool.map(digest, layout.blocks)) == digests


def raw_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor on the CPU as bytes, not copied if it is contiguous."""
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def _write(file: int, raw: memoryview, offset: int) -> None:
    while raw:
        written = os.pwrite(file, raw, offset)
        raw, offset = raw[written:], offset + written


def _allocate(file: int, size: int) -> None:
    """Take the room on the disk, so that a full one says so now and not in the middle."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    os.ftruncate(file, size)


def _last_change(folder: Path) -> float:
    """When an entry was last used; of one in progress, when something was last written."""
    times = [folder.stat().st_mtime]
    if folder.suffix == ".part":
        times += [file.stat().st_mtime for file in folder.iterdir()]
    return max(times)


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
