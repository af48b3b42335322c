"""What every request passes first: its Host and its Origin are checked, and its address is normalised."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from wandb_tl.local.access import has_key

# A name or an address, and a port.
HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII)
READS = ("GET", "HEAD", "OPTIONS")


class Gate:
    """Wraps the application, so that nothing in it meets a malformed Host or a form of another origin."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app, self.key = app, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # From a proxy that speaks HTTPS. It changes no more than the answer to this request.
        if headers.get("x-forwarded-proto") in ("http", "https"):
            scope["scheme"] = headers["x-forwarded-proto"]
        # A browser takes what begins with two slashes, or with a backslash, for another host's address.
        scope["path"] = "/" + scope["path"].lstrip("/\\")
        scope["raw_path"] = b"/" + scope["raw_path"].lstrip(b"/\\")
        answer = self.refusal(Request(scope))
        await (answer or self.app)(scope, receive, send)

    def refusal(self, request: Request) -> JSONResponse | None:
        """The answer to a request that goes no further."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not HOST.fullmatch(host):
            return failure("the request has no valid Host", 400)
        if "content-length" in request.headers and "transfer-encoding" in request.headers:
            # To a proxy that goes by the other one, the rest of this request would be the next one.
            answer = failure("the request has two lengths", 400)
            answer.headers["Connection"] = "close"
            return answer
        # Without parsing: behind a proxy, this server may not know its own scheme.
        foreign = origin is not None and origin not in (f"http://{host}", f"https://{host}")
        if foreign and request.method not in READS and not self._needs_no_login(request):
            return failure("a page of another site has sent this request", 403)
        return None

    def _needs_no_login(self, request: Request) -> bool:
        """Whether the request shows what no other page has: the key, or an address that was signed for it."""
        is_upload = request.method == "PUT" and request.url.path.startswith("/blobs/")
        return is_upload or has_key(request, self.key)


def failure(message: str, status: int) -> JSONResponse:
    """A refusal as the wandb client reads it."""
    return JSONResponse({"errors": [{"message": message}]}, status)
