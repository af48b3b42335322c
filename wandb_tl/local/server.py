"""The server process of one root, from its lock to its last commit."""

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

from wandb_tl.local import root as roots
from wandb_tl.local.access import Session
from wandb_tl.local.app import make_app
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError, RootError
from wandb_tl.local.records.database import Database
from wandb_tl.local.watch import keep_watch

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(root: Path, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is told the address as soon as it is served.

    Raises RootError, with one line, where that cannot start.
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
        # wandb keeps connections open and speaks every 5 to 30 s: closing them in between costs it retries.
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
            lifespan="off",
        )
        # uvicorn raises the signal again after it has stopped: then it is to mean nothing any more.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        if host not in LOOPBACK:
            warning = (
                "whoever can reach this address and has the key can read and change everything; no encryption"
            )
            print(f"warning: listening on {host}: {warning}", file=sys.stderr, flush=True)
        over = threading.Event()
        watch = threading.Thread(target=keep_watch, args=(database, blobs, over), daemon=True)
        watch.start()
        try:
            ready(url)
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            announcement.unlink(missing_ok=True)
            over.set()
            watch.join()
            reading.close()
            database.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises RootError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, because asyncio sends at once only over what it knows to be TCP: else every answer takes 40 ms.
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
    """Print a link to a page that logs a browser in, and open it where there is a screen.

    Serves the root until SIGINT or SIGTERM if no server does. With `only_print`, just the link; raises
    RootError where no server is. as_json: prints {"link": …}.
    """
    path = "/" + (urlsplit(page).path if "://" in page else page).strip("/")

    def show(url: str) -> None:
        session = Session(roots.read_key(root))
        link = session.link(url, path)
        print(json.dumps({"link": link}) if as_json else link, flush=True)
        screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if screen and not only_print:
            # Everybody on the machine can see the browser's command line: that link is soon stale. Beside the
            # server, because some browsers keep their caller waiting.
            browse = partial(webbrowser.open, session.link(url, path, seconds=60))
            threading.Thread(target=browse, daemon=True).start()

    if only_print:
        show(roots.wait_for_server(root))
    elif url := roots.server_url(root):
        show(url)
    else:
        print("No server serves this folder: serving it until Ctrl-C.", file=sys.stderr)
        serve(root, host, port, show)
