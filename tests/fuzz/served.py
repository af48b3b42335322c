"""The embedded server's application, called without a socket, and what must hold of each of its answers."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from wandb_tl.local.access import Logins
from wandb_tl.local.app import make_app
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.records.database import Database, Readers

KEY = "k" * 40
# Between two heartbeats of the second client.
BEAT_SECONDS = 0.05
START_RUN = """mutation { upsertBucket(input: {modelName: "beats", name: "beats"}) { bucket { id } } }"""
HEARTBEAT = ("POST", b"/files/local/beats/beats/file_stream", b"{}", ())
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

    slowest: the seconds and the address of the request that took longest. longest_wait: the seconds that a
    heartbeat of a second client waited at most, and the address of the request meanwhile.
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
        self.slowest = self.longest_wait = (0.0, "")
        # Those that properties have made once.
        self.projects: set[str] = set()
        self.loop = asyncio.new_event_loop()
        logging.getLogger("wandb_tl.local").addHandler(self.log)
        start = ("POST", b"/graphql", json.dumps({"query": START_RUN}).encode(), ())
        assert "errors" not in self.loop.run_until_complete(self._call(*start)).json()

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
        answer, wait = self.loop.run_until_complete(
            self._beside_heartbeats(self._call(method, address, body, headers))
        )
        name = f"{method} {address[:200]!r}"
        self.slowest = max(self.slowest, (time.monotonic() - began, name))
        self.longest_wait = max(self.longest_wait, (wait, name))
        for record in self.log.records:
            if record.exc_info:
                raise AssertionError(record.getMessage()) from record.exc_info[1]
            assert "\n" not in record.getMessage()
        assert answer.status < 500, answer
        return answer

    async def _beside_heartbeats(self, request: Coroutine[Any, Any, Answer]) -> tuple[Answer, float]:
        """The answer to a request, and the seconds that a heartbeat waited at most meanwhile.

        They count from when it was due: while the server computes outside of its threads, none is sent.
        """
        asked, longest = asyncio.ensure_future(request), 0.0
        while not asked.done():
            due = time.monotonic() + BEAT_SECONDS
            await asyncio.wait([asked], timeout=BEAT_SECONDS)
            if time.monotonic() >= due:
                assert (await self._call(*HEARTBEAT)).status == 200
                longest = max(longest, time.monotonic() - due)
        return await asked, longest

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
