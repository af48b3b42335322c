"""A client of another W&B server: GraphQL, the file stream and uploads.

It retries requests that may succeed later (a refused connection, 5xx, 429). Every other failure is a
RemoteError with a message of one line.
"""

from __future__ import annotations

import ipaddress
import netrc
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from wandb_tl.local.errors import RemoteError
from wandb_tl.local.records.json_path import JsonObject

KEY_VARIABLE = "WANDB_PUSH_API_KEY"

# Seconds between tries: a server that restarts is back by then. Before the first answer, the address may be
# wrong.
WAITS = (0.5, 1, 2, 4, 8, 15, 30)
FIRST_WAITS = (0.5,)

# Seconds to connect, and to wait for the next byte of an answer.
TIMEOUTS = (10, 120)

# Uploads in parallel: the latency of a distant server is longer than the upload of a small file.
UPLOADS = 8

Body = Path | bytes


class Remote:
    """The server at `url`, with the given API key or that of `key_for`. Raises RemoteError."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RemoteError(f"{url} is not a valid address of a server, such as https://api.wandb.ai")
        if parts.hostname in ("wandb.ai", "www.wandb.ai"):
            raise RemoteError(f"{url} serves only pages; its API is at https://api.wandb.ai")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            print(f"warning: the API key is sent to {_origin(url)} without encryption", file=sys.stderr)
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.mount(
            f"{parts.scheme}://",
            requests.adapters.HTTPAdapter(pool_maxsize=UPLOADS, pool_connections=UPLOADS),
        )
        self.credentials = ("api", key or key_for(self.url))
        self.waits: tuple[float, ...] = FIRST_WAITS

    def graphql(self, document: str, **variables: Any) -> JsonObject:
        """Execute a document; returns its data."""
        answer = self._send(
            "POST",
            f"{self.url}/graphql",
            json={"query": document, "variables": variables},
            auth=self.credentials,
        )
        errors = answer.get("errors")
        if errors:
            raise RemoteError(f"{self.url} refuses: {_message(answer)}")
        data: JsonObject = answer["data"]
        return data

    def stream(self, entity: str, project: str, run: str, **body: Any) -> None:
        """Post one request of a run's file stream."""
        where = "/".join(quote(part, safe="") for part in (entity, project, run))
        self._send("POST", f"{self.url}/files/{where}/file_stream", json=body, auth=self.credentials)

    def put(self, uploads: Iterable[tuple[str, list[str], Body]]) -> None:
        """Upload (address, headers as "Name: value", bytes or the path of a file)."""
        with ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(lambda upload: self._put(*upload), uploads))

    def pages(self, document: str, *path: str, **variables: Any) -> Iterator[JsonObject]:
        """The nodes of a connection, which lies at `path` in the data and takes its cursor as $after."""
        after, seen = None, set()
        while True:
            page: Any = self.graphql(document, after=after, **variables)
            for name in path:
                page = page and page.get(name)
            if not page:
                return
            yield from (edge["node"] for edge in page["edges"])
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                return
            if after in seen:
                raise RemoteError(f"{self.url} sends the same page again and again")
            seen.add(after)

    def get(self, downloads: Iterable[tuple[str, Path]]) -> None:
        """Download (address, path of a new file)."""
        with ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(lambda download: self._get(*download), downloads))

    def _get(self, address: str, into: Path) -> None:
        is_here = address.startswith(f"{self.url}/")
        self._send("GET", address, into=into, auth=self.credentials if is_here else _no_auth)

    def _put(self, address: str, headers: list[str], body: Body) -> None:
        if address.startswith("/"):
            address = self.url + address
        pairs = (header.partition(":") for header in headers or [])
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        # The address itself is signed: the key must not be sent to a storage service.
        self._send("PUT", address, headers=fields, body=body, auth=_no_auth)

    def _send(
        self,
        method: str,
        address: str,
        body: Body | None = None,
        into: Path | None = None,
        **options: Any,
    ) -> Any:
        """Send a request until it succeeds; returns the JSON of the answer to a POST.

        into: the file that the answer is written to.
        """
        waits = iter(self.waits)
        while True:
            problem, answer = "", None
            try:
                answer = self._try(method, address, body, into, options)
            except requests.Timeout:
                problem = "it does not answer"
            except requests.exceptions.SSLError as error:
                raise RemoteError(f"no secure connection to {_origin(address)}: {_reason(error)}") from None
            except requests.ConnectionError:
                problem = "no connection"
            except requests.RequestException as error:
                raise RemoteError(f"cannot use {_origin(address)}: {type(error).__name__}") from None
            if answer is not None:
                self.waits = WAITS
                if answer.ok:
                    return _json(answer) if method == "POST" else None
                if answer.status_code < 500 and answer.status_code not in (408, 429):
                    raise RemoteError(_refusal(answer, self.url))
                problem = f"it answers {answer.status_code} {answer.reason}"
            wait = next(waits, None)
            if wait is None:
                raise RemoteError(
                    f"cannot reach {_origin(address)}: {problem}; to resume, start the command again later"
                )
            time.sleep(max(wait, _retry_after(answer)))

    def _try(
        self, method: str, address: str, body: Body | None, into: Path | None, options: dict[str, Any]
    ) -> requests.Response:
        if into:
            with (
                self.session.request(method, address, stream=True, timeout=TIMEOUTS, **options) as answer,
                into.open("wb") as written,
            ):
                for chunk in answer.iter_content(1 << 20) if answer.ok else ():
                    written.write(chunk)
            return answer
        if isinstance(body, Path) and body.stat().st_size:
            with body.open("rb") as file:
                return self.session.request(method, address, data=file, timeout=TIMEOUTS, **options)
        # Storage services require a Content-Length, which requests does not send for an empty file.
        data = b"" if isinstance(body, Path) else body
        return self.session.request(method, address, data=data, timeout=TIMEOUTS, **options)


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
            raise RemoteError(f"cannot read {path}: {error.msg}") from None
        if login and login[2]:
            return login[2]
    raise RemoteError(f"there is no API key for {url}: run `wandb login --host {url}`, or set {KEY_VARIABLE}")


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from adding the credentials in the netrc file."""
    return request


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: requests.RequestException) -> str:
    """Why a connection failed, without the address: those of storage services contain a signature."""
    return str(getattr(error.args[0], "reason", "") if error.args else "") or type(error).__name__


def _retry_after(answer: requests.Response | None) -> float:
    """The seconds that a server asks its clients to wait, 60 at most."""
    seconds = answer.headers.get("Retry-After", "") if answer is not None else ""
    return min(float(seconds), 60.0) if seconds.isdigit() else 0.0


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise RemoteError(f"{_origin(answer.url)} is not a W&B server: its answer is not JSON") from None


def _message(answer: Any) -> str:
    """The first error of an answer in one line, "" if it has none."""
    errors = answer.get("errors") or [answer.get("error")] if isinstance(answer, dict) else [None]
    first = errors[0] if isinstance(errors, list) else errors
    text = first.get("message") if isinstance(first, dict) else first
    return " ".join(str(text or "").split())


def _refusal(answer: requests.Response, server: str) -> str:
    origin = _origin(answer.url)
    if answer.status_code == 401:
        login = f"run `wandb login --relogin --host {server}`, or set {KEY_VARIABLE}"
        return f"{origin} does not know this API key: {login}"
    try:
        message = _message(answer.json())
    except ValueError:
        message = ""
    if answer.status_code == 404 and not message:
        message = "there is nothing at this address; is it a W&B server?"
    return f"{origin} refuses ({answer.status_code} {answer.reason}): {message or urlsplit(answer.url).path}"
