"""The embedded server, as other commands use it: a process of its own whose commands answer in JSON."""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from wandb_tl.errors import InputError

# A JSON object that a command of wandb_tl.local prints; if the command fails, {"error": …, "served": …}.
Answer = dict[str, object]


@contextlib.contextmanager
def serving(root: str | None, logs: Path) -> Iterator[dict[str, str]]:
    """Start the embedded server for the block, unless another process already serves that folder.

    Yields the environment variables that point wandb at it. Every user of a server holds a lock on
    ROOT/users; a server that was started here ends after its last user.
    """
    folder = _root_arguments(root)
    # With a port given, this needs no server to tell where the folder is.
    served = environment("--port", "0", *folder)["WANDB_TL_ROOT"]
    with Path(served, "users").open("w") as users, (logs / "server.log").open("a") as log:
        fcntl.flock(users, fcntl.LOCK_SH)
        port = "8080" if port_is_free(8080) else "0"
        # A session of its own: Ctrl-C must not reach the server before the runs have sent their data.
        server = subprocess.Popen(
            [sys.executable, "-m", "wandb_tl.local", "serve", "--json", "--port", port, *folder],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            answer = _parse(_first_line(server), f"see {log.name}")
            if "error" in answer and not answer["served"]:
                raise InputError(f"embedded server: {answer['error']}")
            if answer.get("served"):
                # Another server serves the folder, and this one ends.
                server.wait()
            # The server is running, so wandb has no reason to be offline.
            yield environment(*folder) | {"WANDB_MODE": "online"}
        finally:
            try:
                if server.poll() is None:
                    wait_for_others(users)
            finally:
                server.terminate()
                server.wait()


def environment(*options: str) -> dict[str, str]:
    """The variables that point wandb at the server of a root. InputError if there is none."""
    return {name: str(value) for name, value in ask("env", *options).items()}


def open_arguments(path: str, root: str | None) -> list[str]:
    """The arguments that make `wandb_tl.local` open a sweep's page."""
    return ["open", path, *_root_arguments(root)]


def page_link(path: str, root: str | None) -> str:
    """The address of a sweep's page, which logs a browser in. InputError without an embedded server."""
    return str(ask(*open_arguments(path, root), "--print")["link"])


def ask(*arguments: str) -> Answer:
    """The answer of a command of `wandb_tl.local`. InputError with its reason if it fails."""
    command = [sys.executable, "-m", "wandb_tl.local", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    answer = _parse(done.stdout, _last_line(done.stderr))
    if "error" in answer:
        raise InputError(f"embedded server: {answer['error']}")
    return answer


def wait_for_others(users: IO[str]) -> None:
    """Wait until no other process uses the server of this one."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another sweep still uses the server of this one; waiting for it to end.", file=sys.stderr)
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


def _root_arguments(root: str | None) -> list[str]:
    return ["--root", root] if root else []


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no reason given")


def _first_line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline() if process.stdout else ""


def _parse(text: str, reason: str) -> Answer:
    """The JSON object that a command printed. InputError with the reason if it printed none."""
    try:
        answer: Answer = json.loads(text)
    except ValueError:
        raise InputError(f"embedded server: it ended without an answer; {reason}") from None
    return answer
