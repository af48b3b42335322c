"""The temporary folder of a command: one of its own, which the next command removes if this one is killed.

PyTorch and wandb leave files in the temporary folder when their process is killed, and some when it is not.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import util
from pathlib import Path
from typing import IO

import portalocker
from portalocker import LockFlags

from wandb_tl.cache_folder import cache_dir
from wandb_tl.errors import InputError, one_line

PREFIX = "wandb_tl-"
# In each folder, locked by the processes that use it.
LOCK = "lock"
# In each folder as well, once it is locked: which machine it is of. Locks may be unknown to other machines.
MARKER = "made-by-wandb_tl"
# The order in which multiprocessing tidies up at the end of a process; it removes its folder at -100.
LAST = -200


def use_own() -> Callable[[], None]:
    """From now on, temporary files of this process and its children lie in a folder of their own.

    It is removed when this process ends, or when the returned function is called. Folders of killed processes
    are removed as well. On a file system without locks, temporary files lie in no folder of their own.
    InputError if the temporary folder cannot be written.
    """
    parent = outside()
    remove_abandoned(parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = _locked(folder)
    except OSError as error:
        raise InputError(f"the temporary folder {parent} cannot be used: {one_line(error)}") from error
    # What torch.compile has compiled is for all processes, and it is code: another user of the machine could
    # put theirs into a folder whose name is known, if it were in the temporary folder of all.
    with suppress(RuntimeError):  # A container's user may have no home.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir().absolute() / "torchinductor"))
    if lock is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder = parent
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)

    def remove() -> None:
        if lock is not None:
            lock.close()
        remove_abandoned(parent)

    # After multiprocessing has removed its own folder in it.
    return util.Finalize(None, remove, exitpriority=LAST)


def outside() -> Path:
    """The temporary folder in which commands have folders of their own."""
    folder = Path(tempfile.gettempdir())
    return folder.parent if _owner(folder) else folder


@contextmanager
def shared() -> Iterator[None]:
    """In the block, the folder that this process has from its parent stays there, also if the parent ends."""
    try:
        lock = Path(tempfile.gettempdir(), LOCK).open("r+")  # noqa: SIM115
    except OSError:
        # The parent has none of its own.
        yield
        return
    with lock:
        with suppress(portalocker.LockException):
            portalocker.lock(lock, LockFlags.SHARED | LockFlags.NON_BLOCKING)
        yield


def remove_abandoned(parent: Path) -> None:
    """Remove the own folders of processes of this machine that have ended."""
    for folder in parent.glob(f"{PREFIX}*"):
        # The temporary folder belongs to all users of the machine.
        with suppress(OSError, portalocker.LockException):
            if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
                continue
            if _owner(folder) != _this_machine():
                continue
            # Without a lock, another process has begun to remove it.
            with suppress(FileNotFoundError), (folder / LOCK).open("r+") as lock:
                portalocker.lock(lock, LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING)
                # From now on nobody can share it. Windows removes no open file.
                with suppress(PermissionError):
                    (folder / LOCK).unlink()
            shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path) -> IO[str] | None:
    """Lock a new folder, and then mark it; None if its file system has no locks.

    A marked folder whose lock is free is one whose processes have ended.
    """
    # NFS locks only what can be read.
    lock = (folder / LOCK).open("a+")
    try:
        portalocker.lock(lock, LockFlags.SHARED | LockFlags.NON_BLOCKING)
    except portalocker.LockException:
        lock.close()
        return None
    (folder / MARKER).write_text(_this_machine(), encoding="utf-8")
    return lock


def _owner(folder: Path) -> str:
    """The machine whose process has made a folder as its own; "" for other folders."""
    if not folder.name.startswith(PREFIX):
        return ""
    try:
        return (folder / MARKER).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _this_machine() -> str:
    """The name of this machine and, on Linux, which of its starts this is: several may have one name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return f"{platform.node()} {boot}\n"
