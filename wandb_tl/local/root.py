"""The folder that a server serves: its key, its lock and its address.

ROOT/key            the API key, readable by its owner alone
ROOT/lock           locked as long as a server serves the folder
ROOT/server.json    {"url", "pid"} of that server
ROOT/wandb.sqlite   the records
ROOT/blobs/         the files
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from wandb_tl.local.errors import RootError, RootServedError

# A server has announced itself by then, even on a slow machine.
START_SECONDS = 10


def default_root() -> Path:
    """$WANDB_TL_ROOT, else wandb_tl in the user's data folder."""
    if root := os.environ.get("WANDB_TL_ROOT"):
        return Path(root)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "wandb_tl"


def prepare(root: Path) -> Path:
    """Make the folder where there is none. Raises RootError where it cannot be written to."""
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise RootError(f"cannot make the folder {root}: {error.strerror}") from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise RootError(f"cannot write to the folder {root}")
    return root


def read_key(root: Path) -> str:
    """The root's API key, made if there is none. Raises RootError where the key file is unusable.

    The key is hexadecimal: the client takes what stands before the first dash of a key for a prefix.
    """
    path = root / "key"
    try:
        if not path.exists():
            # Written in full under another name first: two starting processes must agree on one key.
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
    """Hold the folder until the returned file is closed. RootServedError if another server holds it."""
    file = (root / "lock").open("a")
    for _ in range(10):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Whoever only looks whether the folder is served holds the lock for a moment.
            time.sleep(0.05)
        else:
            # Left by a server that was killed; nobody must believe it before this one announces itself.
            (root / "server.json").unlink(missing_ok=True)
            return file
    file.close()
    where = server_url(root)
    raise RootServedError(f"another server serves {root}" + (f" at {where}" if where else ""))


def server_url(root: Path) -> str | None:
    """The address of the server that serves the folder now, None where none does."""
    try:
        with (root / "lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        pass
    except OSError:
        return None
    try:
        return json.loads((root / "server.json").read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, KeyError):
        return None


def address(host: str, port: int) -> str:
    """The URL under which this machine reaches a server that listens on host."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def wait_for_server(root: Path) -> str:
    """The address of the server that serves the folder, which may be just starting.

    Raises RootError where none does: to guess an address could send the key to a stranger.
    """
    deadline = time.monotonic() + START_SECONDS
    while (url := server_url(root)) is None:
        if time.monotonic() > deadline:
            raise RootError(
                f"no server serves {root}; start one with serve, or say where it will be with --port"
            )
        time.sleep(0.1)
    return url


def announce(root: Path, url: str) -> Path:
    """Write server.json in one step; returns its path."""
    path, draft = root / "server.json", root / f"server.json.{os.getpid()}"
    draft.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n", encoding="utf-8")
    return draft.replace(path)
