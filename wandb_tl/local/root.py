"""The folder that a server serves: its key, its lock and its address.

Only its owner can read it, and all that is in it.

ROOT/key            the API key
ROOT/lock           locked while a server serves the folder
ROOT/users          locked, together, by the processes that need a server to go on
ROOT/server.json    {"url", "host", "pid", "while_used"} of that server; host: what it listens on
ROOT/server.log     what a server printed that a notebook has started
ROOT/logged_out     when browsers were logged out last
ROOT/open.html      leads a browser to the link that logs it in
ROOT/wandb.sqlite   the records
ROOT/blobs/         the files
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import portalocker
from portalocker import LockFlags

from wandb_tl.local.errors import RootError, RootServedError

# Even on a slow machine, a server needs less time to start and announce itself.
START_SECONDS = 10
ALONE = LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING
# What a root consists of: a folder with none of it is not taken from other users, who may need it.
OWN = ("key", "lock", "users", "server.json", "server.log", "logged_out", "open.html")
RECORDS = ("wandb.sqlite", "wandb.sqlite-wal", "wandb.sqlite-shm")


def default_root() -> Path:
    """$WANDB_TL_ROOT, else wandb_tl in the user's data folder."""
    root = os.environ.get("WANDB_TL_ROOT")
    return Path(root) if root else _in_data_folder()


def arguments(root: Path) -> list[str]:
    """The arguments that select the folder in a shell without $WANDB_TL_ROOT; none for the default folder."""
    return [] if root.resolve() == _in_data_folder().resolve() else ["--root", str(root.resolve())]


def _in_data_folder() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "wandb_tl"


def prepare(root: Path) -> Path:
    """Create the folder if there is none, and see to it that only its owner can use it.

    Raises RootError if it is not writable, if it or what is in it belongs to another user, and if others can
    write to it or it was not a server's folder before.
    """
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sys.platform != "win32":
            _close_to_others(root)
    except OSError as error:
        raise RootError(f"cannot create the folder {root}: {error.strerror}") from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise RootError(f"cannot write to the folder {root}")
    return root


def _close_to_others(root: Path) -> None:
    """Take what other users may do in the folder from them, and refuse what they may have put there."""
    if root.stat().st_uid != os.geteuid():
        raise RootError(f"the folder {root} belongs to another user: choose one of your own with --root")
    names, mode = {path.name for path in root.iterdir()}, root.stat().st_mode
    if names and (mode & 0o022 or (mode & 0o077 and not names & {"key", *RECORDS})):
        can = "write to" if mode & 0o022 else "read"
        raise RootError(
            f"others can {can} the folder {root}: choose another with --root, or chmod 700 this one"
        )
    if mode & 0o077:
        root.chmod(0o700)
        print(f"now only you can read {root}; others could before", file=sys.stderr)
    # Only now, when no one else can put anything there.
    for name in (*OWN, *RECORDS, "blobs"):
        with suppress(FileNotFoundError):
            _close_entry(root / name, stat.S_ISDIR if name == "blobs" else stat.S_ISREG)


def _close_entry(path: Path, is_right_kind: Callable[[int], bool]) -> None:
    """Let only the owner use one entry of the folder. Raises RootError for links and for what is not ours."""
    found = path.lstat()
    if not is_right_kind(found.st_mode) or found.st_uid != os.geteuid():
        raise RootError(f"{path} is a link, belongs to another user, or is of the wrong kind: remove it")
    private = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600
    if stat.S_IMODE(found.st_mode) != private:
        path.chmod(private)
        if path.name == "key" and found.st_mode & 0o077:
            print(f"others could read {path}: to get a new key, delete it and start again", file=sys.stderr)


def read_key(root: Path) -> str:
    """The root's API key, created if there is none. Raises RootError if the key file or the root is unusable.

    It prepares the root: who could write to it before may have put a key of their own there. The key is
    hexadecimal: the client takes the part of a key before the first dash as a prefix.
    """
    path = prepare(root) / "key"
    try:
        if not path.exists():
            # First written under another name: two processes that start together must get the same key.
            draft = root / f"key.{os.getpid()}"
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_hex(32) + "\n")
            with suppress(FileExistsError):
                path.hardlink_to(draft)
            draft.unlink()
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RootError(f"cannot use the key file {path}: {error}") from None
    if len(key) < 40:
        raise RootError(f"the key in {path} has fewer than 40 characters, which wandb refuses")
    return key


def lock(root: Path) -> IO[str]:
    """Lock the folder until the returned file is closed. Raises RootServedError if another server has it."""
    file = (root / "lock").open("a")
    for _ in range(10):
        try:
            portalocker.lock(file, ALONE)
        except portalocker.LockException:
            # server_url also locks the folder for a moment.
            time.sleep(0.05)
        else:
            # Left by a server that was killed: it must not be read before this server announces itself.
            (root / "server.json").unlink(missing_ok=True)
            return file
    file.close()
    url = server_url(root)
    raise RootServedError(f"another server serves {root}" + (f" at {url}" if url else ""))


def lock_if_unused(users: IO[str]) -> bool:
    """Lock the file ROOT/users unless another process has locked it; returns whether it is locked now."""
    try:
        portalocker.lock(users, ALONE)
    except portalocker.LockException:
        return False
    return True


def unlock(users: IO[str]) -> None:
    """Let other processes lock the file ROOT/users."""
    portalocker.unlock(users)


def server_url(root: Path) -> str | None:
    """The address of the server that serves the folder now, None if there is none."""
    try:
        with (root / "lock").open("r") as file:
            portalocker.lock(file, LockFlags.SHARED | LockFlags.NON_BLOCKING)
        return None
    except portalocker.AlreadyLocked:
        pass
    except (OSError, portalocker.LockException):
        return None
    return _announced(root, "url")


def server_host(root: Path) -> str:
    """The host on which the server of the folder listens, as its user named it."""
    return _announced(root, "host") or ""


def _announced(root: Path, name: str) -> str | None:
    """An entry of server.json; None if the server has not written it yet."""
    try:
        return str(json.loads((root / "server.json").read_text(encoding="utf-8"))[name])
    except (OSError, ValueError, KeyError):
        return None


def wait_for_server(root: Path) -> str:
    """The address of the server that serves the folder, which may still be starting.

    Raises RootError if there is none. A guessed address could send the key to another program.
    """
    deadline = time.monotonic() + START_SECONDS
    while (url := server_url(root)) is None:
        if time.monotonic() > deadline:
            raise RootError(
                f"no server serves {root}; start one with serve, or name its future port with --port"
            )
        time.sleep(0.1)
    return url


def announce(root: Path, url: str, host: str, while_used: bool = False) -> Path:
    """Write server.json in one step; returns its path. while_used: whether the server ends with its users."""
    path, draft = root / "server.json", root / f"server.json.{os.getpid()}"
    content = {"url": url, "host": host, "pid": os.getpid(), "while_used": while_used}
    draft.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return draft.replace(path)
