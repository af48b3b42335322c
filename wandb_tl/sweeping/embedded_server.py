"""The embedded server, as other commands use it: a process of its own whose commands answer in JSON."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import portalocker
from portalocker import LockFlags

from wandb_tl import temporary_folder
from wandb_tl.errors import InputError, one_line

# A server closes its connections within seconds; a disk may be slow.
END_SECONDS = 60

# A JSON object that a command of wandb_tl.local prints; if the command fails, {"error": …, "served": …}.
Answer = dict[str, object]


@contextlib.contextmanager
def used() -> Iterator[None]:
    """In the block, the embedded server that the environment names, if it is on this machine, has a user."""
    root = os.environ.get("WANDB_TL_ROOT")
    is_here = _is_loopback(urlsplit(os.environ.get("WANDB_BASE_URL", "")).hostname or "")
    with contextlib.ExitStack() as stack:
        if root and is_here and Path(root).is_dir():
            try:
                users = stack.enter_context(open_private(Path(root) / "users", "a+"))
                portalocker.lock(users, LockFlags.SHARED)
            except (OSError, portalocker.LockException) as error:
                print(
                    f"{root} cannot be locked ({one_line(error)}): its server may end before this agent",
                    file=sys.stderr,
                )
        yield


@contextlib.contextmanager
def selected(local: bool, root: str | None) -> Iterator[None]:
    """In the block, wandb uses the embedded server of a folder if `local` is true, else that of its login.

    wandb reads the variables when it is imported, so import it in the block. If the block raises InputError
    because wandb has no API key, the error also suggests --local.
    """
    with contextlib.ExitStack() as stack:
        if local:
            server = stack.enter_context(contextlib.closing(SharedServer(root)))
            os.environ.update(server.environment)
        try:
            yield
        except InputError as error:
            if local or "No API key" not in str(error):
                raise
            message = str(error).rstrip(".")
            raise InputError(f"{message}; --local uses the embedded server") from error


def served_to_nodes(root: str | None) -> dict[str, str]:
    """The variables that point wandb, on any node of a cluster, at the server that the user has started.

    InputError if no server serves the folder, or only this machine reaches it.
    """
    folder = root_arguments(root)
    options = shlex.join(["--host", "0.0.0.0", "--insecure", *folder])
    serve = f"python -m wandb_tl.local serve {options}"
    advice = f"jobs need a server that other machines reach; start it first: {serve} &"
    try:
        variables = variables_of(folder)
        if _is_loopback(urlsplit(variables["WANDB_BASE_URL"]).hostname or ""):
            # A server that listens on all addresses names itself by this one.
            variables |= environment("--host", socket.gethostname(), *folder)
    except InputError as error:
        raise InputError(f"{error}; {advice}") from None
    return variables


def _is_loopback(host: str) -> bool:
    """Whether a host's name stands for addresses of this machine that others cannot reach."""
    if not host:
        return False
    try:
        addresses = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in addresses)


class SharedServer:
    """The embedded server of a folder, for as long as this process or another one uses it.

    It is started unless another process already serves the folder. It ends when no process uses it any more,
    also if they were killed. environment: the variables that point wandb at it.
    """

    def __init__(self, root: str | None) -> None:
        folder = root_arguments(root)
        self._users = users_of(folder)
        try:
            with open_private(Path(self._users.name).with_name("server.log"), "a") as log:
                self._server = start([*folder, "--while-used"], log)
            try:
                self.environment = variables_of(folder)
            except BaseException:
                end(self._server)
                raise
        except BaseException:
            self._users.close()
            raise

    def answers(self) -> bool:
        """Whether the server has not ended."""
        return answers(self.environment["WANDB_BASE_URL"])

    def close(self) -> None:
        """Stop using the server. It ends now if it was started here and no other process uses it."""
        with self._users as users:
            end_if_unused(users, self._server)


def users_of(folder: list[str]) -> IO[str]:
    """ROOT/users, locked as its users lock it until the file is closed. InputError if it cannot be locked."""
    # With a port given, this needs no server to tell where the folder is.
    served = environment("--port", "0", *folder)["WANDB_TL_ROOT"]
    try:
        # NFS locks only what can be read.
        users = open_private(Path(served) / "users", "a+")
        portalocker.lock(users, LockFlags.SHARED)
    except (OSError, portalocker.LockException) as error:
        raise InputError(f"embedded server: {served} cannot be locked: {one_line(error)}") from error
    return users


def open_private(path: Path, mode: str) -> IO[str]:
    """Open a file, which only its owner can read if it is new. Raises OSError, also for a link."""
    no_link = getattr(os, "O_NOFOLLOW", 0)
    return open(path, mode, opener=lambda name, flags: os.open(name, flags | no_link, 0o600))


def end_if_unused(users: IO[str], server: subprocess.Popen[str]) -> None:
    """End a server that this process has started. If another process uses it, it ends after that."""
    with contextlib.suppress(portalocker.AlreadyLocked):
        # Windows does not exchange a lock for an exclusive one.
        portalocker.unlock(users)
        portalocker.lock(users, LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING)
        end(server)


def start(folder: list[str], log: IO[str], port: str | None = None) -> subprocess.Popen[str]:
    """Start a server, by default on port 8080 or a free one.

    It has ended again if another one serves the folder. InputError if it cannot start.
    """
    port = port or ("8080" if port_is_free(8080) else "0")
    # A session of its own: Ctrl-C must not reach the server before the runs have sent their data.
    server = subprocess.Popen(
        [sys.executable, "-m", "wandb_tl.local", "serve", "--json", "--port", port, *folder],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        # It may outlive this process and its temporary folder.
        env=os.environ | {"TMPDIR": str(temporary_folder.outside())},
        start_new_session=True,
    )
    try:
        line = _first_line(server)
        code = "" if line else f"exit code {server.wait()}, "
        answer = _parse(line, f"{code}see {log.name}")
        if "error" in answer and not answer["served"]:
            raise InputError(f"embedded server: {answer['error']}")
        if answer.get("served"):
            server.wait()
    except BaseException:
        end(server)
        raise
    return server


def end(server: subprocess.Popen[str]) -> None:
    server.terminate()
    try:
        server.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        # Its database survives this.
        server.kill()
        server.wait()
    if server.stdout:
        server.stdout.close()


def variables_of(folder: list[str]) -> dict[str, str]:
    # The server is running, so wandb has no reason to be offline.
    return environment(*folder) | {"WANDB_MODE": "online"}


def environment(*options: str) -> dict[str, str]:
    """The variables that point wandb at the server of a root. InputError if there is none."""
    return {name: str(value) for name, value in ask("env", *options).items()}


def open_arguments(path: str, root: str | None) -> list[str]:
    """The arguments that make `wandb_tl.local` open a sweep's page."""
    return ["open", path, *root_arguments(root)]


def page_link(path: str, root: str | None) -> str:
    """The address of a sweep's page, which logs a browser in. InputError without an embedded server."""
    return str(ask(*open_arguments(path, root), "--print")["link"])


def ask(*arguments: str, content: str | None = None) -> Answer:
    """The answer of a command of `wandb_tl.local`. InputError with its reason if it fails.

    content: its stdin.
    """
    command = [sys.executable, "-m", "wandb_tl.local", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, input=content)
    answer = _parse(done.stdout, _last_line(done.stderr) or f"exit code {done.returncode}")
    if "error" in answer:
        raise InputError(f"embedded server: {answer['error']}")
    return answer


def flags_in_use() -> list[str] | None:
    """The flags of commands that use the embedded server to which the environment points wandb.

    None if it points at another server.
    """
    root, url = os.environ.get("WANDB_TL_ROOT"), os.environ.get("WANDB_BASE_URL")
    # The folder of a server on another machine is not here.
    if not root or not url or not Path(root).is_dir():
        return None
    try:
        answer = ask("open", "--print", "--root", root)
    except InputError:
        return None
    if not str(answer["link"]).startswith(f"{url.rstrip('/')}/"):
        return None
    arguments = answer["arguments"]
    return ["--local", *map(str, arguments if isinstance(arguments, list) else [])]


def attach_answer(path: str, data: dict[str, Any], flags: Sequence[str]) -> None:
    """Show the answer of a sweep, see analysis/answer_data.py, on its page of the embedded server.

    flags: as flags_in_use() gives them. InputError if the server refuses it.
    """
    root = [flag for flag in flags if flag != "--local"]
    ask("answer", path, *root, content=json.dumps(data))


def answers(url: str) -> bool:
    """Whether a server listens at an address."""
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port), timeout=5).close()
    except OSError:
        return False
    return True


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def root_arguments(root: str | None) -> list[str]:
    return ["--root", root] if root else []


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def _first_line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline() if process.stdout else ""


def _parse(text: str, reason: str) -> Answer:
    """The JSON object that a command printed. InputError with the reason if it printed none."""
    try:
        answer: Answer = json.loads(text)
    except ValueError:
        raise InputError(f"embedded server: it ended without an answer; {reason}") from None
    return answer
