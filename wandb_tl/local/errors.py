"""The errors of the embedded server and of its commands. Each message is one line for the user."""

from __future__ import annotations


class LocalError(Exception):
    """A command of the embedded server cannot do its work. The message is one line that says why."""


class RootError(LocalError):
    """The folder of a server cannot be used."""


class RootServedError(RootError):
    """Another server serves the folder."""


class RemoteError(LocalError):
    """The other server refuses what is pushed to it, or cannot be reached."""


class RequestError(LocalError):
    """A client asks for something that the server cannot do.

    `status` is the HTTP status of the answer: 200 carries an ordinary GraphQL error; 404 tells an agent that
    its sweep is gone.
    """

    def __init__(self, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.status = status
