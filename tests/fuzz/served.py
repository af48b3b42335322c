"""The embedded server's application, called without a socket, and what must hold of each of its answers."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from wandb_tl.local.access import Logins
from wandb_tl.local.app import make_app
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.records.database import Database, Readers

KEY = "k" * 40
AUTHORIZATION = (b"authorization", b"Basic " + base64.b64encode(f"api:{KEY}".encode()))


class Answer(NamedTuple):
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Records(logging.Handler):
    """Keeps what the server logs."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Served:
    """A root of its own. `request` raises what the server raises, and for a traceback in its log.

    slowest: the seconds and the address of the request that took longest.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / "wandb.sqlite"
        database, drawing, readers = Database(file), Readers(file), Readers(file)
        self.databases = (database, drawing, readers)
        # What these tests write need not survive a crash.
        database.connection.execute("PRAGMA synchronous = OFF")
        self.blobs = Blobs(folder / "blobs", KEY)
        self.app = make_app(database, readers, drawing, self.blobs, Logins(KEY, folder, "127.0.0.1"))
        self.log = Records()
        self.slowest = (0.0, "")
        # Those that properties have made once.
        self.projects: set[str] = set()
        self.loop = asyncio.new_event_loop()
        logging.getLogger("wandb_tl.local").addHandler(self.log)

    def end(self) -> None:
        logging.getLogger("wandb_tl.local").removeHandler(self.log)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        for database in self.databases:
            database.close()

    def request(
        self, method: str, address: bytes, body: bytes = b"", headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> Answer:
        """address: the path and the query as they stand in a request line."""
        began = time.monotonic()
        self.log.records.clear()
        answer = self.loop.run_until_complete(self._call(method, address, body, headers))
        self.slowest = max(self.slowest, (time.monotonic() - began, f"{method} {address[:200]!r}"))
        for record in self.log.records:
            if record.exc_info:
                raise AssertionError(record.getMessage()) from record.exc_info[1]
            assert "\n" not in record.getMessage()
        assert answer.status < 500, answer
        return answer

    async def _call(
        self, method: str, address: bytes, body: bytes, headers: tuple[tuple[bytes, bytes], ...]
    ) -> Answer:
        path, _, query = address.partition(b"?")
        names = {name for name, _ in headers}
        usual = ((b"host", b"localhost:8080"), AUTHORIZATION)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            # As uvicorn decodes it.
            "path": unquote(path.decode("ascii", errors="replace")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [*(header for header in usual if header[0] not in names), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
        }
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        status, parts = 0, []

        async def receive() -> dict[str, Any]:
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                parts.append(message.get("body", b""))

        await self.app(scope, receive, send)
        return Answer(status, b"".join(parts))

    # ---- what clients ask --------------------------------------------------------------------------------

    def page(self, *names: str, **query: str) -> Answer:
        """A page by the names in its address."""
        terms = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in query.items())
        return self.request("GET", f"/{'/'.join(map(_quoted, names))}?{terms}".encode())

    def send(self, address: str, body: Any) -> Answer:
        return self.request("POST", address.encode(), json.dumps(body).encode())

    def query(self, document: Any, variables: Any = None, operation: Any = None) -> Any:
        """The data of a GraphQL answer, None for one with errors, each of which is one line."""
        body = {"query": document, "variables": variables, "operationName": operation}
        answer = self.send("/graphql", body).json()
        for error in answer.get("errors", ()):
            assert error["message"].strip()
        return None if answer.get("errors") else answer["data"]

    def upload(self, address: str, content: bytes) -> None:
        """PUT to a signed address."""
        path = address.partition("localhost:8080")[2].encode()
        assert self.request("PUT", path, content).status == 200


def _quoted(text: str) -> str:
    return quote(text.encode(errors="replace"), safe="")
