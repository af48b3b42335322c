"""Access: clients send the key in a header; browsers open a link that logs them in, and send its cookie.

Link and cookie contain "EXPIRY.SIGNATURE", signed with a secret that is derived from the key, never the key
itself: it must not end up in a browser's history or a terminal's log.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from urllib.parse import unquote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

# At the top, because the cookie is for all addresses below that of the page that sets it.
LOGIN = "/login"

LINK_SECONDS = 24 * 3600
COOKIE_SECONDS = 30 * 24 * 3600


class Session:
    """Signs and checks the tokens of links and cookies."""

    def __init__(self, key: str) -> None:
        self.secret = hmac.digest(key.encode(), b"pages", "sha256")
        # Every form of the pages has it, which pages of other servers cannot read. It is the same for all
        # browsers, so that a page is the same whenever nothing has changed.
        self.form_token = hmac.new(self.secret, b"form", hashlib.sha256).hexdigest()

    def token(self, purpose: str, seconds: int) -> str:
        expiry = str(int(time.time()) + seconds)
        return f"{expiry}.{self._signature(purpose, expiry)}"

    def accepts(self, purpose: str, token: str) -> bool:
        """Whether the token was signed for this purpose ("link" or "cookie") and has not expired."""
        expiry, _, signature = token.partition(".")
        genuine = hmac.compare_digest(self._signature(purpose, expiry).encode(), signature.encode())
        return genuine and time.time() < int(expiry)

    def sent_form(self, token: str) -> bool:
        """Whether a form has the token of this server's pages."""
        return hmac.compare_digest(self.form_token.encode(), token.encode())

    def _signature(self, purpose: str, expiry: str) -> str:
        return hmac.new(self.secret, f"{purpose} {expiry}".encode(), hashlib.sha256).hexdigest()

    def link(self, base_url: str, path: str = "/", seconds: int = LINK_SECONDS) -> str:
        """The address that logs a browser in and redirects it to a page. It is valid for some seconds."""
        return f"{base_url}{LOGIN}?{urlencode({'token': self.token('link', seconds), 'next': path})}"

    def knows(self, request: Request) -> bool:
        """Whether the request comes from a browser that is logged in."""
        return self.accepts("cookie", request.cookies.get(cookie_name(request), ""))

    def let_in(self, request: Request, path: str) -> Response:
        """Log the browser in at the address LOGIN, and redirect it to a page."""
        response = redirect_to(path)
        response.set_cookie(
            cookie_name(request),
            self.token("cookie", COOKIE_SECONDS),
            max_age=COOKIE_SECONDS,
            # For this server's addresses alone: below a proxy's prefix, others have the same host.
            path=None,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return response


def redirect_to(path: str) -> Response:
    """A redirect from LOGIN to a page. `path` comes from an address: it must be on this server."""
    local = path.startswith("/") and not path.startswith(("//", "/\\")) and ".." not in unquote(path)
    return RedirectResponse(f".{path if local else '/'}", 303)


def cookie_name(request: Request) -> str:
    """A name for each port: cookies are shared by all ports, and a machine may have several servers."""
    return f"wandb_tl_{request.url.port or ''}"


def from_here(request: Request) -> bool:
    """Whether a form was sent from one of this server's own pages."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


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
