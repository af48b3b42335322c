"""The errors of the embedded server and of its commands. Each message is one line."""

from __future__ import annotations

import errno
import sqlite3
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


# Of a message with words of a client or of another server.
LONGEST_MESSAGE = 500


def one_line(message: str) -> str:
    """A message that quotes others, for a log or a terminal: no characters that these obey, and an end."""
    line = " ".join(message.split())
    return "".join(filter(str.isprintable, line))[:LONGEST_MESSAGE]


class RemoteError(LocalError):
    """The server to push to cannot be reached, or refuses a request. The message may quote that server."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


# Of SQLite and of the operating system: a full or read-only disk.
_NOT_STORED_SQLITE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")
_NOT_STORED_SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def why_not_stored(error: BaseException) -> str | None:
    """One line about an error that says that the server's folder cannot be written; None for others."""
    if isinstance(error, sqlite3.OperationalError):
        if (getattr(error, "sqlite_errorname", None) or "").startswith(_NOT_STORED_SQLITE):
            return f"the server's folder cannot be written: {error}"
    elif isinstance(error, OSError) and error.errno in _NOT_STORED_SYSTEM:
        return f"the server's folder cannot be written: {error.strerror}"
    return None


class RequestError(LocalError):
    """A client sent a request that the server cannot fulfil.

    `status` is the HTTP status of the answer: 200 for an ordinary GraphQL error; 404 tells an agent that its
    sweep was deleted.
    """

    def __init__(self, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.status = status
