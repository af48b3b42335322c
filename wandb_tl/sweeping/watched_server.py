"""The embedded server as a sweep uses it: several processes share one, and replace it if it dies."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from wandb_tl.errors import InputError
from wandb_tl.sweeping import embedded_server

# Between two looks at a server, and between two attempts to start another one.
WATCH_SECONDS, RETRY_SECONDS = 0.5, 5
# The longest pause between attempts, and how long they go on: as long as the runs retry.
LONGEST_RETRY_SECONDS, OUTAGE_SECONDS = 60, 3600


@contextlib.contextmanager
def serving(root: str | None, logs: Path) -> Iterator[dict[str, str]]:
    """Use the embedded server of a folder in the block; it is started unless another process has done that.

    Yields the environment variables that point wandb at it. Every user of a server holds a lock on
    ROOT/users, and the server ends after the last of them. If it dies before, this process starts another
    one, unless it is a server that somebody has started by hand.
    """
    arguments = embedded_server.root_arguments(root)
    folder = [*arguments, "--while-used"]
    with (
        embedded_server.users_of(arguments) as users,
        embedded_server.open_private(logs / "server.log", "a") as log,
    ):
        server = embedded_server.start(folder, log)
        try:
            variables = embedded_server.variables_of(arguments)
        except BaseException:
            embedded_server.end(server)
            raise
        watched = _Replacements(server, folder, log, variables["WANDB_BASE_URL"])
        try:
            with watched if _is_for_its_users(variables) else contextlib.nullcontext():
                yield variables
        finally:
            embedded_server.end_if_unused(users, watched.server)


class _Replacements:
    """In the block, another server takes the place of one that has died, at the same address.

    server: the last one that was started here. Another process may have started the one that serves.
    """

    def __init__(self, server: subprocess.Popen[str], folder: list[str], log: IO[str], url: str) -> None:
        self.server = server
        self._folder, self._log, self._url = folder, log, url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_SECONDS):
            if self.server.poll() is None or embedded_server.answers(self._url):
                continue
            _tell("The embedded server has ended; starting it again.")
            if not self._replace():
                return

    def _replace(self) -> bool:
        """Start another server, unless another process does. Whether the address is served again.

        Retries, as while a disk is full.
        """
        deadline, pause, printed = time.monotonic() + OUTAGE_SECONDS, RETRY_SECONDS, ""
        while time.monotonic() < deadline:
            try:
                self.server = embedded_server.start(self._folder, self._log, str(urlsplit(self._url).port))
                url = embedded_server.variables_of(self._folder[:-1])["WANDB_BASE_URL"]
            except (InputError, OSError) as error:
                if str(error) != printed:
                    printed = str(error)
                    _tell(f"error: {error}; retrying for an hour")
            else:
                if url != self._url:
                    _tell(f"error: it is served at {url} now, where no run looks for it")
                return url == self._url
            if self._stop.wait(pause):
                return False
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)
        _tell("error: for an hour, the embedded server could not be started again")
        return False


def _tell(line: str) -> None:
    """Print a line. Whoever has read them may be gone, and the runs need their server all the same."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)


def _is_for_its_users(variables: dict[str, str]) -> bool:
    """Whether a server ends with its users, as those do that this package starts."""
    try:
        announced = json.loads(Path(variables["WANDB_TL_ROOT"], "server.json").read_bytes())
        return bool(announced["while_used"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
