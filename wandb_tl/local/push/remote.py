"""A client of another W&B server: GraphQL, the file stream and uploads.

It retries requests that may succeed later (a refused connection, 5xx, 429). Every other failure is a
RemoteError with a message of one line. The server is not trusted: the key and the files go only where the
user or a signed address says, and no more of an answer is read than MOST_BYTES. Only a download may be as
large as announced, and may be redirected once: W&B's API leads to a storage service, which gets no key.
"""

from __future__ import annotations

import json
import netrc
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import requests

from wandb_tl.local.addresses import is_loopback, leads_here
from wandb_tl.local.errors import RemoteError
from wandb_tl.local.push.answers import Answer, Page, checked

KEY_VARIABLE = "WANDB_PUSH_API_KEY"

# Seconds between tries: a server that restarts is back by then. Before the first answer, the address may be
# wrong.
WAITS = (0.5, 1, 2, 4, 8, 15, 30)
FIRST_WAITS = (0.5,)

# Seconds to connect, and to wait for the next byte of an answer.
TIMEOUTS = (10, 120)

# The answers that a push asks for take a few hundred bytes per file or run.
MOST_BYTES = 32 * 2**20
PIECE_BYTES = 2**16
# Of a download whose size nobody has announced, as that of a manifest: the manifest of a million files fits.
UNANNOUNCED_BYTES = 2**30
# Of one connection; a server could send pages for ever.
MOST_PAGES = 20_000

# Uploads in parallel: the latency of a distant server is longer than the upload of a small file.
UPLOADS = 8

Body = Path | bytes


@dataclass(frozen=True)
class Download:
    """Where a file is downloaded from, the new file, and the bytes that the server has announced."""

    address: str
    into: Path
    size: int | None = None


class _Session(requests.Session):
    """It does not look where a redirect leads: for that, requests reads the whole body of the answer."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class Remote:
    """The server at `url`, with the given API key or that of `key_for`. Raises RemoteError."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = _split(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise RemoteError(f"{url} is not a valid address of a server, such as https://api.wandb.ai")
        if parts.hostname in ("wandb.ai", "www.wandb.ai"):
            raise RemoteError(f"{url} serves only pages; its API is at https://api.wandb.ai")
        self.url, self.host = url.rstrip("/"), parts.hostname
        if parts.scheme == "http" and not is_loopback(self.host):
            print(f"warning: the API key is sent to {_origin(url)} without encryption", file=sys.stderr)
        self.session = _Session()
        self.session.mount(
            f"{parts.scheme}://",
            requests.adapters.HTTPAdapter(pool_maxsize=UPLOADS, pool_connections=UPLOADS),
        )
        self.credentials = ("api", key or key_for(self.url))
        self.waits: tuple[float, ...] = FIRST_WAITS

    def graphql(self, kind: type[Answer], document: str, **variables: Any) -> Answer:
        """Execute a document; returns its data, which has the form of `kind`."""
        answer = self._send(
            "POST",
            f"{self.url}/graphql",
            json={"query": document, "variables": variables},
            auth=self.credentials,
        )
        if not isinstance(answer, dict) or answer.get("errors"):
            raise RemoteError(f"{self.url} refuses: {_message(answer)}")
        return checked(answer.get("data"), kind, self.url)

    def stream(self, entity: str, project: str, run: str, **body: Any) -> None:
        """Post one request of a run's file stream."""
        where = "/".join(quote(part, safe="") for part in (entity, project, run))
        self._send("POST", f"{self.url}/files/{where}/file_stream", json=body, auth=self.credentials)

    def put(self, uploads: Iterable[tuple[str, list[str] | None, Body]]) -> None:
        """Upload (address, headers as "Name: value", bytes or the path of a file)."""
        with ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(lambda upload: self._put(*upload), uploads))

    def pages(self, kind: type[Answer], document: str, *path: str, **variables: Any) -> Iterator[Answer]:
        """The nodes of a connection, which lies at `path` in the data and takes its cursor as $after.

        There are none if an object on the way is null.
        """
        after = None
        for _ in range(MOST_PAGES):
            there: Any = self.graphql(dict[str, Any], document, after=after, **variables)
            for name in path:
                there = there.get(name) if isinstance(there, dict) else None
            if there is None:
                return
            page = checked(there, Page, self.url, path[-1])
            yield from (checked(edge["node"], kind, self.url, path[-1]) for edge in page["edges"])
            before, after = after, page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                return
            if not page["edges"] or after == before:
                break
        raise RemoteError(f"{self.url} does not come to an end with its {path[-1]}")

    def get(self, download: Download) -> None:
        """Raises RemoteError also if more bytes arrive than the server has announced."""
        is_here = download.address.startswith(f"{self.url}/")
        self._check(download.address)
        auth = self.credentials if is_here else _no_auth
        self._send("GET", download.address, into=download, auth=auth)

    def _put(self, address: str, headers: list[str] | None, body: Body) -> None:
        if address.startswith("/"):
            address = self.url + address
        self._check(address)
        pairs = (header.partition(":") for header in headers or [])
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        # The address itself is signed: the key must not be sent to a storage service.
        self._send("PUT", address, headers=fields, body=body, auth=_no_auth)

    def _check(self, address: str) -> None:
        """Raise RemoteError for the address of a file on this machine, unless the server is on it too."""
        host = _host(address)
        if host is None or (leads_here(host) and not leads_here(self.host)):
            raise RemoteError(f"{self.url} names an address of a file that is not its own or a storage's")

    def _send(
        self,
        method: str,
        address: str,
        body: Body | None = None,
        into: Download | None = None,
        **options: Any,
    ) -> Any:
        """Send a request until it succeeds; returns the JSON of the answer to a POST.

        into: names the file that the answer is written to.
        """
        waits = iter(self.waits)
        while True:
            problem, answer = "", None
            try:
                answer, content = self._try(method, address, body, into, options)
            except requests.Timeout:
                problem = "it does not answer"
            except requests.exceptions.SSLError as error:
                raise RemoteError(f"no secure connection to {_origin(address)}: {_reason(error)}") from None
            except requests.ConnectionError:
                problem = "no connection"
            except (requests.RequestException, ValueError) as error:
                # ValueError: it redirects to what is no address.
                raise RemoteError(f"cannot use {_origin(address)}: {type(error).__name__}") from None
            if answer is not None:
                self.waits = WAITS
                if answer.is_redirect:
                    raise RemoteError(f"{_origin(address)} redirects elsewhere; name that address itself")
                if answer.ok:
                    return _json(content, address) if method == "POST" else None
                if answer.status_code < 500 and answer.status_code not in (408, 429):
                    raise RemoteError(_refusal(answer, content, self.url))
                problem = f"it answers {answer.status_code} {answer.reason}"
            wait = next(waits, None)
            if wait is None:
                raise RemoteError(
                    f"cannot reach {_origin(address)}: {problem}; to resume, start the command again later"
                )
            time.sleep(max(wait, _retry_after(answer)))

    def _try(
        self, method: str, address: str, body: Body | None, into: Download | None, options: dict[str, Any]
    ) -> tuple[requests.Response, bytes]:
        """An answer and its content, which is written into the file of `into` instead if there is one."""
        options = options | {"timeout": TIMEOUTS, "allow_redirects": False, "stream": True}
        if into:
            with self.session.request(method, address, **options) as answer:
                if answer.is_redirect and options["auth"] is not _no_auth:
                    elsewhere = urljoin(address, answer.headers["Location"])
                    self._check(elsewhere)
                    return self._try(method, elsewhere, None, into, options | {"auth": _no_auth})
                if answer.ok:
                    _write(answer, into)
            return answer, b""
        if isinstance(body, Path) and body.stat().st_size:
            with body.open("rb") as file:
                return _whole(self.session.request(method, address, data=file, **options))
        # Storage services require a Content-Length, which requests does not send for an empty file.
        data = b"" if isinstance(body, Path) else body
        return _whole(self.session.request(method, address, data=data, **options))


def _write(answer: requests.Response, download: Download) -> None:
    """Write the content of an answer into a new file. RemoteError if it is larger than announced."""
    most, allowed = UNANNOUNCED_BYTES, "a file without a size may have"
    if download.size is not None:
        most, allowed = download.size, "were announced of a file"
    count = 0
    with download.into.open("wb") as file:
        for piece in answer.iter_content(PIECE_BYTES):
            count += len(piece)
            if count > most:
                raise RemoteError(f"{_origin(answer.url)} sends more than the {most:,} bytes that {allowed}")
            file.write(piece)


def _whole(answer: requests.Response) -> tuple[requests.Response, bytes]:
    """An answer and its content. RemoteError if that is too large."""
    content = bytearray()
    with answer:
        for piece in answer.iter_content(PIECE_BYTES):
            content += piece
            if len(content) > MOST_BYTES:
                raise RemoteError(f"{_origin(answer.url)} answers with more than {MOST_BYTES >> 20} MiB")
    return answer, bytes(content)


def key_for(url: str) -> str:
    """The API key for a server: $WANDB_PUSH_API_KEY, else the one that `wandb login` wrote to the netrc file.

    Raises RemoteError if there is none.
    """
    if key := os.environ.get(KEY_VARIABLE):
        return key
    homes = [os.environ.get("NETRC"), Path.home() / ".netrc", Path.home() / "_netrc"]
    for path in (Path(home) for home in homes if home):
        try:
            login = netrc.netrc(path).hosts.get(urlsplit(url).netloc)
        except OSError:
            continue
        except netrc.NetrcParseError as error:
            # Its own message may have a part of a password.
            raise RemoteError(f"cannot read {path}: line {error.lineno} is not valid") from None
        if login and login[2]:
            return login[2]
    raise RemoteError(f"there is no API key for {url}: run `wandb login --host {url}`, or set {KEY_VARIABLE}")


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from adding the credentials in the netrc file."""
    return request


def _split(address: str) -> SplitResult | None:
    """The parts of an address; None for one that is not valid, such as http://[."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def _host(address: str) -> str | None:
    """The host that requests would connect to; None for an address that it refuses, or without a host.

    Others read http://127.0.0.1\\@example.org differently.
    """
    try:
        return urlsplit(requests.Request("GET", address).prepare().url or "").hostname
    except (requests.RequestException, ValueError):
        return None


def _origin(address: str) -> str:
    parts = _split(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts else "an invalid address"


def _reason(error: requests.RequestException) -> str:
    """Why a connection failed, without the address: those of storage services contain a signature."""
    return str(getattr(error.args[0], "reason", "") if error.args else "") or type(error).__name__


def _retry_after(answer: requests.Response | None) -> float:
    """The seconds that a server asks its clients to wait, 60 at most."""
    seconds = answer.headers.get("Retry-After", "") if answer is not None else ""
    return min(float(seconds), 60.0) if seconds.isascii() and seconds.isdecimal() else 0.0


def _json(content: bytes, address: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise RemoteError(f"{_origin(address)} is not a W&B server: its answer is not JSON") from None


def _message(answer: Any) -> str:
    """The first error of an answer in one line, "" if it has none."""
    errors = answer.get("errors") or [answer.get("error")] if isinstance(answer, dict) else [None]
    first = errors[0] if isinstance(errors, list) else errors
    text = first.get("message") if isinstance(first, dict) else first
    return " ".join(str(text or "").split())


def _refusal(answer: requests.Response, content: bytes, server: str) -> str:
    origin = _origin(answer.url)
    if answer.status_code == 401:
        login = f"run `wandb login --relogin --host {server}`, or set {KEY_VARIABLE}"
        return f"{origin} does not know this API key: {login}"
    try:
        message = _message(json.loads(content))
    except (ValueError, RecursionError):
        message = ""
    if answer.status_code == 404 and not message:
        message = "there is nothing at this address; is it a W&B server?"
    return f"{origin} refuses ({answer.status_code} {answer.reason}): {message or urlsplit(answer.url).path}"
