"""Access: clients send the key in a header; browsers open a link that logs them in, and send its cookie.

Links and cookies are signed with a secret that is derived from the key, never the key itself: it must not end
up in a browser's history or a terminal's log. A link logs in once, within LINK_SECONDS. A browser sends the
cookies of a host to the servers on all its ports, also to that of another user of the machine: a cookie is
valid for one address of this server, and on connections of the user whose browser logged in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from wandb_tl.local.connection_owner import owner

# At the top, because the cookie is for all addresses below that of the page that sets it.
LOGIN, LOGOUT = "/login", "/logout"

LINK_SECONDS = 10 * 60
COOKIE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Token:
    """The content of a genuine token. owner: of the browser's connection, see connection_owner.owner()."""

    issued: float
    nonce: str
    owner: str

    def is_fresh(self, seconds: int) -> bool:
        return time.time() < self.issued + seconds


class Session:
    """Signs and reads the tokens of links and cookies: "MILLISECONDS-NONCE-OWNER-SIGNATURE"."""

    def __init__(self, key: str) -> None:
        self.secret = hmac.digest(key.encode(), b"pages", "sha256")
        # Every form of the pages has it, which pages of other servers cannot read. It is the same for all
        # browsers, so that a page is the same whenever nothing has changed.
        self.form_token = hmac.new(self.secret, b"form", hashlib.sha256).hexdigest()

    def token(self, purpose: str, owner: str = "", issued: float | None = None) -> str:
        milliseconds = int(1000 * (time.time() if issued is None else issued))
        content = f"{milliseconds}-{secrets.token_hex(16)}-{owner}"
        return f"{content}-{self._signature(purpose, content)}"

    def read(self, purpose: str, token: str) -> Token | None:
        """The content of a token that was signed for this purpose; None for others. It may be old."""
        content, _, signature = token.rpartition("-")
        if not hmac.compare_digest(self._signature(purpose, content).encode(), signature.encode()):
            return None
        milliseconds, nonce, owner = content.split("-")
        return Token(int(milliseconds) / 1000, nonce, owner)

    def sent_form(self, token: str) -> bool:
        """Whether a form has the token of this server's pages."""
        return hmac.compare_digest(self.form_token.encode(), token.encode())

    def _signature(self, purpose: str, content: str) -> str:
        return hmac.new(self.secret, f"{purpose} {content}".encode(), hashlib.sha256).hexdigest()

    def link(self, base_url: str, path: str = "/", issued: float | None = None) -> str:
        """The address that logs a browser in, once and soon, and redirects it to a page."""
        return f"{base_url}{LOGIN}?{urlencode({'token': self.token('link', issued=issued), 'next': path})}"


class Logins:
    """The browsers of one server: which are logged in, and which links they have used.

    root: the server's folder, whose file `logged_out` has the time of the last logout. host: what the server
    listens on.
    """

    def __init__(self, key: str, root: Path, host: str) -> None:
        self.key, self.session = key, Session(key)
        self.logged_out, self.host = root / "logged_out", host
        self.started = time.time()
        # The nonces of used links, and until when they have to be refused.
        self.used: dict[str, float] = {}

    def use(self, token: str) -> bool:
        """Whether a link's token logs a browser in; from now on it does not.

        Links from before the start are refused: a server that ended may have seen them used.
        """
        now = time.time()
        link = self.session.read("link", token)
        if link is None or link.issued < self.started or not link.is_fresh(LINK_SECONDS):
            return False
        self.used = {nonce: until for nonce, until in self.used.items() if until > now}
        if link.nonce in self.used:
            return False
        self.used[link.nonce] = link.issued + LINK_SECONDS
        return True

    def knows(self, request: Request) -> bool:
        """Whether the request comes from a browser that is logged in, and from no page of another origin."""
        cookie = self.session.read(purpose(request), request.cookies.get(cookie_name(request), ""))
        return (
            cookie is not None
            and cookie.is_fresh(COOKIE_SECONDS)
            and cookie.issued > self._logged_out_at()
            and not asked_by_another_page(request)
            and cookie.owner == owner(request.scope)
        )

    def let_in(self, request: Request, response: Response) -> Response:
        """Log the browser in with a response at the address LOGIN."""
        _set_cookie(
            request, response, self.session.token(purpose(request), owner(request.scope)), COOKIE_SECONDS
        )
        return response

    def log_out(self, request: Request, response: Response) -> Response:
        """Log all browsers out, so that no copy of a cookie is of use."""
        self.logged_out.touch(0o600)
        now = time.time()
        os.utime(self.logged_out, (now, now))
        _set_cookie(request, response, "", 0)
        return response

    def _logged_out_at(self) -> float:
        try:
            return self.logged_out.stat().st_mtime
        except FileNotFoundError:
            return 0

    def is_own_name(self, request: Request) -> bool:
        """Whether the browser calls the server by a name that no one else can point at this machine.

        The name of another site can be: its pages would then have the same origin as this server's. A proxy
        has names that this server does not know; no page can open an address with a proxy's headers.
        """
        if any(name.startswith("x-forwarded-") for name in request.headers):
            return True
        name = request.headers["host"].rpartition(":")[0] or request.headers["host"]
        with suppress(ValueError):
            return bool(ipaddress.ip_address(name.strip("[]")))
        return name == "localhost" or name.endswith(".localhost") or name in (self.host, socket.gethostname())


def purpose(request: Request) -> str:
    """The purpose of a cookie: for the address by which the browser calls this server."""
    return f"cookie {request.headers['host']}"


def cookie_name(request: Request) -> str:
    """A name for each port: cookies are shared by all ports, and a machine may have several servers."""
    return f"wandb_tl_{request.url.port or ''}"


def _set_cookie(request: Request, response: Response, value: str, seconds: int) -> None:
    response.set_cookie(
        cookie_name(request),
        value,
        max_age=seconds,
        # For this server's addresses alone: below a proxy's prefix, others have the same host.
        path=None,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def from_another_page(request: Request) -> bool:
    """Whether a page of another origin has led the browser here, as browsers say themselves."""
    return request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def asked_by_another_page(request: Request) -> bool:
    """Whether a page of another origin asks for something, other than that its reader follows a link.

    On another port of the same host, SameSite does not keep the cookie from it.
    """
    headers = request.headers
    is_followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return from_another_page(request) and not is_followed


def raw_path(request: Request) -> str:
    """The path as the client has encoded it: a name in it may contain an encoded slash."""
    return str(request.scope["raw_path"].decode(errors="replace"))


def has_key(request: Request, key: str) -> bool:
    """Whether the request has the header Basic api:KEY, compared in constant time."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        password = base64.b64decode(credentials, validate=True).partition(b":")[2]
    except ValueError:
        return False
    return hmac.compare_digest(password, key.encode())
