"""The embedded server as other commands use it: through its command line, as a process of its own."""

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
from typing import IO, Any

from wandb_tl.errors import InputError


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
            [sys.executable, "-m", "wandb_tl.local", "serve", "--json", "--port", port, *folder],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            announcement = answer_of(server.stdout.readline(), Path(log.name))
            if "error" in announcement and not announcement["served"]:
                raise InputError(f"embedded server: {announcement['error']}")
            # The server is there, so that a client has no reason to be offline.
            yield environment(*folder) | {"WANDB_MODE": "online"}
        finally:
            try:
                if server.poll() is None:
                    wait_for_others(users)
            finally:
                server.terminate()
                server.wait()


def environment(*options: str) -> dict[str, str]:
    """The variables that point wandb at a server, from `wandb_tl.local env`. InputError if there is none."""
    return ask("env", *options)


def to_open(path: str, root: str | None) -> list[str]:
    """The arguments that make `wandb_tl.local` open a sweep's page."""
    return ["open", path, *(["--root", root] if root else [])]


def page_link(path: str, root: str | None) -> str:
    """The address of a sweep's page on the embedded server; it logs a browser in. InputError without one."""
    return ask(*to_open(path, root), "--print")["link"]


def ask(*arguments: str) -> dict[str, Any]:
    """What a command of `wandb_tl.local` answers as JSON. InputError with its reason if it fails."""
    command = [sys.executable, "-m", "wandb_tl.local", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    answer = answer_of(done.stdout, None, done.stderr)
    if "error" in answer:
        raise InputError(f"embedded server: {answer['error']}")
    return answer


def answer_of(text: str, log: Path | None, errors: str = "") -> dict[str, Any]:
    """The JSON object that a command printed. InputError if it ended without one."""
    try:
        return json.loads(text)
    except ValueError:
        where = f"see {log}" if log else errors.strip() or "no reason given"
        raise InputError(f"embedded server: it ended without an answer; {where}") from None


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
