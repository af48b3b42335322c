"""The server process of a root, from its lock to its last commit."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette

from wandb_tl.local import root as roots
from wandb_tl.local.access import Session
from wandb_tl.local.app import make_app
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError, RootError
from wandb_tl.local.records.database import Database
from wandb_tl.local.watch import keep_watch

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(root: Path, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called with the address when the server is ready.

    Raises RootError if the server cannot start.
    """
    root = roots.prepare(root.resolve())
    with roots.lock(root):
        key = roots.read_key(root)
        listener = listen(host, port)
        url = roots.address(host, listener.getsockname()[1])
        try:
            database = Database(root / "wandb.sqlite")
            reading = Database(root / "wandb.sqlite", read_only=True)
        except RequestError as error:
            raise RootError(str(error)) from None
        blobs = Blobs(root / "blobs", key)
        with database.transaction() as db:
            blobs.delete_unnamed(db)
        app = make_app(database, reading, blobs, key)
        announcement = roots.announce(root, url)
        # uvicorn raises the signal again after it has stopped: ignore it then.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        if host not in LOOPBACK:
            warning = "everyone with the key can read and change everything; the connection is not encrypted"
            print(f"warning: listening on {host}: {warning}", file=sys.stderr, flush=True)
        stop = threading.Event()
        watch = threading.Thread(target=keep_watch, args=(database, blobs, stop), daemon=True)
        watch.start()
        try:
            ready(url)
            uvicorn.Server(configuration(app)).run(sockets=[listener])
        finally:
            announcement.unlink(missing_ok=True)
            stop.set()
            watch.join()
            reading.close()
            database.close()


def configuration(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # wandb keeps connections open and sends a request every 5 to 30 s: a closed connection costs a retry.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        lifespan="off",
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises RootError if the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is named: without it, every answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise RootError(
            f"cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error}); "
            "--port 0 takes a free port"
        ) from None
    return listener


def open_page(
    root: Path, host: str, port: int, page: str, only_print: bool = False, as_json: bool = False
) -> None:
    """Print a link that logs a browser in and opens a page, and open it if there is a screen.

    Serves the root until SIGINT or SIGTERM if no server does. `only_print`: does neither, and raises
    RootError if no server serves the root. `as_json`: prints {"link": …}.
    """
    path = "/" + (urlsplit(page).path if "://" in page else page).strip("/")

    def show(url: str) -> None:
        session = Session(roots.read_key(root))
        link = session.link(url, path)
        print(json.dumps({"link": link}) if as_json else link, flush=True)
        screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if screen and not only_print:
            # All users of the machine can see the browser's command line, so that link expires soon. In a
            # thread, because some browsers block their caller.
            browse = partial(webbrowser.open, session.link(url, path, seconds=60))
            threading.Thread(target=browse, daemon=True).start()

    if only_print:
        show(roots.wait_for_server(root))
    elif url := roots.server_url(root):
        show(url)
    else:
        print("no server serves this folder: serving it until Ctrl-C", file=sys.stderr)
        serve(root, host, port, show)
