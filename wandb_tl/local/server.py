"""The server process of a root, from its lock to its last commit."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import FrameType
from typing import IO
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette

from wandb_tl.local import addresses
from wandb_tl.local import root as roots
from wandb_tl.local.access import Logins, Session
from wandb_tl.local.app import make_app
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.connections import BACKLOG, Configuration, NoRepetition
from wandb_tl.local.errors import RequestError, RootError
from wandb_tl.local.records.database import Database, Readers
from wandb_tl.local.watch import keep_columns, keep_watch

# A killed process may have left a child that still sends what the process logged.
UNUSED_SECONDS = 10
# After a signal: the time for answers that are under way, and the time after which the process ends in the
# middle of anything. Clients repeat what was not answered.
ANSWERS_SECONDS, END_SECONDS = 2, 3.5
# How long a thread that computes keeps others waiting for Python's lock, which a short request takes some ten
# times: a fifth of Python's own.
SWITCH_SECONDS = 0.001


@dataclass(frozen=True)
class Listening:
    """Where and how a server listens.

    port: 0 is any free port, None is USUAL_PORT if it is free and otherwise any free port. certificate and
    private_key: files, for HTTPS.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    certificate: Path | None = None
    private_key: Path | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.certificate else "http"


def serve(root: Path, listening: Listening, ready: Callable[[str], None], while_used: bool = False) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called with the address when the server is ready.

    while_used: ends as well when no process has locked ROOT/users. Raises RootError if the server cannot
    start.
    """
    # No file that the server makes is for other users.
    os.umask(0o077)
    # numpy reads it when Bayesian search imports it. Its matrices are small: beside runs that train on all
    # cores, threads that wait for one another take the search thirty times as long.
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.setswitchinterval(SWITCH_SECONDS)
    root = root.resolve()
    key = roots.read_key(root)
    # Closed last: who locks it afterwards must be able to start another server.
    with (root / "users").open("a") as users, roots.lock(root):
        host, port = listening.host, listening.port
        listener = listen_anywhere(host) if port is None else listen(host, port)
        url = addresses.url(host, listener.getsockname()[1], listening.scheme)
        try:
            database = Database(root / "wandb.sqlite")
            # The charts of long histories must not delay what clients ask for, nor one query the next.
            reading = Readers(root / "wandb.sqlite")
            drawing = Readers(root / "wandb.sqlite")
        except RequestError as error:
            raise RootError(str(error)) from None
        blobs = Blobs(root / "blobs", key)
        with database.transaction() as db:
            blobs.delete_unnamed(db)
        app = make_app(database, reading, drawing, blobs, Logins(key, root, host))
        announcement = roots.announce(root, url, host, while_used)
        server = Server(configuration(app, listening), announcement)
        server.end_by_signals()
        for name in ("asyncio", "uvicorn.error"):
            logging.getLogger(name).addFilter(NoRepetition())
        stop = threading.Event()
        threads = [
            threading.Thread(target=keep_watch, args=(database, blobs, stop), daemon=True),
            threading.Thread(target=keep_columns, args=(database, stop), daemon=True),
        ]
        if while_used:
            threads.append(threading.Thread(target=end_unused, args=(server, users, stop), daemon=True))
        for thread in threads:
            thread.start()
        # Python's garbage collector, for which every thread waits, need not look through what stays until the
        # end: that took 40 ms and more each time.
        gc.freeze()
        try:
            ready(url)
            server.run(sockets=[listener])
        finally:
            announcement.unlink(missing_ok=True)
            stop.set()
            for thread in threads:
                thread.join()
            reading.close()
            drawing.close()
            database.close()


class Server(uvicorn.Server):
    """uvicorn's server, which ends in time after a signal."""

    def __init__(self, config: uvicorn.Config, announcement: Path) -> None:
        super().__init__(config)
        self.announcement = announcement

    def end_by_signals(self) -> None:
        """Let SIGINT and SIGTERM end the server also before uvicorn has handlers of its own.

        uvicorn raises a signal again after it has stopped; then these handlers do no harm.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            threading.Thread(target=self.end, daemon=True).start()
        super().handle_exit(sig, frame)

    def end(self) -> None:
        """End the process after END_SECONDS. A transaction that is under way then has not happened."""
        time.sleep(END_SECONDS)
        self.announcement.unlink(missing_ok=True)
        os._exit(0)


def end_unused(server: uvicorn.Server, users: IO[str], stop: threading.Event) -> None:
    """End the server when it has had no user for UNUSED_SECONDS."""
    unused_seconds = 0
    while not stop.wait(1):
        if not roots.lock_if_unused(users):
            unused_seconds = 0
        elif unused_seconds < UNUSED_SECONDS:
            unused_seconds += 1
            roots.unlock(users)
        else:
            # Still locked, so that a new user waits for the end of this server, and starts another one.
            server.should_exit = True
            return


def configuration(app: Starlette, listening: Listening) -> uvicorn.Config:
    """Raises RootError if the certificate cannot be used."""
    settings = Configuration(
        app,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.private_key,
        log_level="warning",
        access_log=False,
        server_header=False,
        # The gate reads the one header that is needed; another one would hide who has connected.
        proxy_headers=False,
        # wandb keeps connections open and sends a request every 5 to 30 s: a closed connection costs a retry.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=ANSWERS_SECONDS,
        lifespan="off",
        # A connection that becomes a WebSocket would leave the limits on connections.
        ws="none",
    )
    try:
        settings.load()
    except OSError as error:
        reason = error.strerror or error
        raise RootError(f"cannot use the certificate {listening.certificate}: {reason}") from None
    return settings


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises RootError if the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is named: without it, every answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        advice = "; --port 0 takes a free port" if port else ""
        raise RootError(
            f"cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error}){advice}"
        ) from None
    return listener


def listen_anywhere(host: str) -> socket.socket:
    """A socket that listens on USUAL_PORT if it is free, and otherwise on any free port."""
    try:
        return listen(host, addresses.USUAL_PORT)
    except RootError:
        return listen(host, 0)


def open_page(
    root: Path, listening: Listening, page: str, only_print: bool = False, as_json: bool = False
) -> None:
    """Print a link that logs a browser in and opens a page, and open it if there is a screen.

    Serves the root until SIGINT or SIGTERM if no server does. `only_print`: does neither, and raises
    RootError if no server serves the root. `as_json`: prints {"link": …, "arguments": …}, the latter as
    roots.arguments() gives them.
    """
    path = "/" + (urlsplit(page).path if "://" in page else page).strip("/")

    def show(url: str) -> Callable[[], object] | None:
        """Print the link; returns what opens the browser if there is one."""
        session = Session(roots.read_key(root))
        link = session.link(url, path)
        print(json.dumps({"link": link, "arguments": roots.arguments(root)}) if as_json else link, flush=True)
        screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if not screen or only_print:
            return None
        file = leading_file(root, session.link(url, path))
        return lambda: webbrowser.open(file.as_uri())

    def show_beside(url: str) -> None:
        if browse := show(url):
            # Some browsers block their caller, which has to serve.
            threading.Thread(target=browse, daemon=True).start()

    if only_print:
        show(roots.wait_for_server(root))
    elif url := roots.server_url(root):
        if browse := show(url):
            browse()
    else:
        print("no server serves this folder: serving it until Ctrl-C", file=sys.stderr)
        serve(root, listening, show_beside)


def leading_file(root: Path, link: str) -> Path:
    """A file that leads a browser to a link: all users of the machine can see the browser's command line."""
    file = root.resolve() / "open.html"
    draft = file.with_name(f"open.html.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as page:
        page.write(f'<meta charset="utf-8"><meta http-equiv="refresh" content="0; url={escape(link)}">\n')
    return draft.replace(file)
