"""A server that answers what a test decides, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """An answer. content: bytes, or what is sent as JSON."""

    content: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class HostileServer:
    """answer: from the method, the path and the body of a request. asked: (method, path, headers)."""

    url: str
    asked: list[tuple[str, str, dict[str, str]]]
    answer: Callable[[str, str, bytes], Reply] = lambda *_: Reply()

    def data(self, content: Any) -> None:
        """Answer every request with this as the data of a GraphQL document."""
        self.answer = lambda *_: Reply({"data": content})


@contextmanager
def hostile_server() -> Iterator[HostileServer]:
    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hostile.asked.append((self.command, self.path, dict(self.headers)))
            reply = hostile.answer(self.command, self.path, body)
            content = (
                reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
            )
            self.send_response(reply.status)
            for name, value in (reply.headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = handle_any

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        hostile = HostileServer(f"http://127.0.0.1:{http.server_address[1]}", [])
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield hostile
        http.shutdown()
        thread.join()
