"""The server's application behind a real socket, in a thread of the test, which can reach its insides."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import uvicorn

from wandb_tl.local.access import Logins
from wandb_tl.local.app import make_app
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.records.database import Database, Readers

KEY = "k" * 40


@dataclass
class AppInProcess:
    url: str
    database: Database
    blobs: Blobs

    def ask(self, method: str, path: str, **options: object) -> requests.Response:
        return requests.request(method, self.url + path, auth=("api", KEY), timeout=30, **options)


@contextmanager
def running(folder: Path) -> Iterator[AppInProcess]:
    file = folder / "wandb.sqlite"
    databases = database, reading, drawing = Database(file), Readers(file), Readers(file)
    blobs = Blobs(folder / "blobs", KEY)
    app = make_app(database, reading, drawing, blobs, Logins(KEY, folder, "127.0.0.1"))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield AppInProcess(f"http://127.0.0.1:{listener.getsockname()[1]}", database, blobs)
    finally:
        server.should_exit = True
        thread.join()
        for each in databases:
            each.close()
