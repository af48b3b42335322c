"""The errors of the embedded server and of its commands. Each message is one line."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the commands of `python -m wandb_tl.local`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    # Another server serves the folder.
    SERVED = 3
    # 128 + the number of SIGINT, as shells count it.
    INTERRUPTED = 130


class LocalError(Exception):
    """A command of the embedded server failed. The message is one line that says why."""


class RootError(LocalError):
    """The folder of a server cannot be used."""


class RootServedError(RootError):
    """Another server serves the folder."""


class RemoteError(LocalError):
    """The server to push to cannot be reached, or refuses a request."""


class RequestError(LocalError):
    """A client sent a request that the server cannot fulfil.

    `status` is the HTTP status of the answer: 200 for an ordinary GraphQL error; 404 tells an agent that its
    sweep was deleted.
    """

    def __init__(self, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.status = status
