"""The embedded backend as other commands use it: through its command line, as a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from wandb_tl.config import InputError

# Exit code of `wandb_tl.local serve` where another server serves the folder.
SERVED_ALREADY = 3


@contextlib.contextmanager
def serving(root: str | None, logs: Path) -> Iterator[dict[str, str]]:
    """The embedded server, started for the block unless one serves that folder already.

    Yields the environment variables that point wandb at it. A server that others use by then outlasts the
    block until they are done: each holds ROOT/users, and the server ends while nobody does.
    """
    folder = ["--root", root] if root else []
    # No server is needed to tell the folder, and the port is not known yet.
    served = environment("--port", "0", *folder)["WANDB_TL_ROOT"]
    with Path(served, "users").open("w") as users, (logs / "server.log").open("a+") as log:
        fcntl.flock(users, fcntl.LOCK_SH)
        port = "8080" if port_is_free(8080) else "0"
        # A session of its own: Ctrl-C must reach the server last, after the runs have sent what they have.
        server = subprocess.Popen(
            [sys.executable, "-m", "wandb_tl.local", "serve", "--port", port, *folder],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            if not server.stdout.readline() and server.wait() != SERVED_ALREADY:
                log.seek(0)
                raise InputError(f"embedded server: {last_line(log.read())}")
            # The server is there: a client set to offline has no reason to be.
            yield environment(*folder) | {"WANDB_MODE": "online"}
        finally:
            try:
                if server.poll() is None:
                    wait_for_others(users)
            finally:
                server.terminate()
                server.wait()


def environment(*options: str) -> dict[str, str]:
    """What `wandb_tl.local env` says: the variables that point wandb at a server. InputError if it cannot."""
    command = [sys.executable, "-m", "wandb_tl.local", "env", "--json", *options]
    shown = subprocess.run(command, capture_output=True, text=True)
    if shown.returncode:
        raise InputError(f"embedded server: {last_line(shown.stderr).removeprefix('error: ')}")
    return json.loads(shown.stdout)


def to_open(path: str, root: str | None) -> list[str]:
    """The arguments that make `wandb_tl.local` open a sweep's page."""
    return ["open", path, *(["--root", root] if root else [])]


def page_link(path: str, root: str | None) -> str:
    """The address of a sweep's page on the embedded server; it logs a browser in. InputError without one."""
    command = [sys.executable, "-m", "wandb_tl.local", *to_open(path, root), "--print"]
    shown = subprocess.run(command, capture_output=True, text=True)
    if shown.returncode:
        raise InputError(f"embedded server: {last_line(shown.stderr).removeprefix('error: ')}")
    return shown.stdout.strip()


def wait_for_others(users: IO[str]) -> None:
    """Wait until no other process uses the server of this one."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another sweep still uses this one's server: waiting for it to end.", file=sys.stderr)
        fcntl.flock(users, fcntl.LOCK_EX)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def as_typed(module: str, *arguments: str) -> str:
    """A command line for a module that works from here, whether or not the environment is active."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return shlex.join([str(python), "-m", module, *arguments])


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no reason given")
