"""Another W&B server, as a client of it sees it: GraphQL, the file stream and uploads, with patience.

What fails for a moment (a refused connection, 5xx, 429) is tried again; what will not get better is said in
one line.
"""

from __future__ import annotations

import ipaddress
import netrc
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from wandb_tl.local.errors import RemoteError
from wandb_tl.local.records.database import Row

KEY_VARIABLE = "WANDB_PUSH_API_KEY"

# Waits between tries, in seconds: a server that restarts is back by then.
WAITS = (0.5, 1, 2, 4, 8, 15, 30)
FIRST_WAITS = (0.5,)

# Seconds to connect, and to wait for the next byte of an answer.
TIMEOUTS = (10, 120)

# Uploads at a time: a far server's answers take longer than its disk.
UPLOADS = 8

Body = Path | bytes


class Remote:
    """The server at `url`, under the API key that `key_for` finds. Raises RemoteError."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RemoteError(f"{url} is no address of a server; it looks like https://api.wandb.ai")
        if parts.hostname in ("wandb.ai", "www.wandb.ai"):
            raise RemoteError(f"{url} serves pages only; the address to push to is https://api.wandb.ai")
        if parts.scheme == "http" and not _is_here(parts.hostname):
            print(f"warning: the API key goes to {_place(url)} without encryption", file=sys.stderr)
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.mount(
            f"{parts.scheme}://",
            requests.adapters.HTTPAdapter(pool_maxsize=UPLOADS, pool_connections=UPLOADS),
        )
        self.credentials = ("api", key_for(self.url))
        self.waits: tuple[float, ...] = FIRST_WAITS

    def graphql(self, document: str, **variables: Any) -> Row:
        """Execute a document; returns its data."""
        answer = self._send(
            "POST",
            f"{self.url}/graphql",
            json={"query": document, "variables": variables},
            auth=self.credentials,
        )
        errors = answer.get("errors")
        if errors:
            raise RemoteError(f"{self.url} says: {_message(answer)}")
        return answer["data"]

    def stream(self, entity: str, project: str, run: str, **body: Any) -> None:
        """Post one request of a run's file stream."""
        where = "/".join(quote(part, safe="") for part in (entity, project, run))
        self._send("POST", f"{self.url}/files/{where}/file_stream", json=body, auth=self.credentials)

    def put(self, uploads: Iterable[tuple[str, list[str], Body]]) -> None:
        """Upload several bodies: (address, headers as "Name: value", bytes or a file's path)."""
        with ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(lambda upload: self._put(*upload), uploads))

    def _put(self, address: str, headers: list[str], body: Body) -> None:
        if address.startswith("/"):
            address = self.url + address
        named = dict(tuple(part.strip() for part in header.split(":", 1)) for header in headers or [])
        # The address itself is signed: a key must not travel to a storage service.
        self._send("PUT", address, headers=named, body=body, auth=_nobody)

    def _send(self, method: str, address: str, body: Body | None = None, **how: Any) -> Any:
        waits = iter(self.waits)
        while True:
            problem, answer = "", None
            try:
                answer = self._try(method, address, body, how)
            except requests.Timeout:
                problem = "it does not answer"
            except requests.exceptions.SSLError as error:
                raise RemoteError(f"no secure connection to {_place(address)}: {_reason(error)}") from None
            except requests.ConnectionError:
                problem = "no connection"
            except requests.RequestException as error:
                raise RemoteError(f"cannot use {_place(address)}: {type(error).__name__}") from None
            if answer is not None:
                self.waits = WAITS
                if answer.ok:
                    return _json(answer) if method == "POST" else None
                if answer.status_code < 500 and answer.status_code not in (408, 429):
                    raise RemoteError(_refusal(answer, self.url))
                problem = f"it answers {answer.status_code} {answer.reason}"
            wait = next(waits, None)
            if wait is None:
                raise RemoteError(f"cannot reach {_place(address)}: {problem}; push again later to go on")
            time.sleep(max(wait, _asked_for(answer)))

    def _try(self, method: str, address: str, body: Body | None, how: Row) -> requests.Response:
        if isinstance(body, Path) and body.stat().st_size:
            with body.open("rb") as file:
                return self.session.request(method, address, data=file, timeout=TIMEOUTS, **how)
        # Storage services want a length even of nothing, which requests does not tell of an empty file.
        data = b"" if isinstance(body, Path) else body
        return self.session.request(method, address, data=data, timeout=TIMEOUTS, **how)


def key_for(url: str) -> str:
    """The API key for a server: $WANDB_PUSH_API_KEY, else what `wandb login` wrote into the netrc file.

    Raises RemoteError where there is none.
    """
    if key := os.environ.get(KEY_VARIABLE):
        return key
    homes = [os.environ.get("NETRC"), Path.home() / ".netrc", Path.home() / "_netrc"]
    for path in (Path(home) for home in homes if home):
        try:
            found = netrc.netrc(path).hosts.get(urlsplit(url).netloc)
        except OSError:
            continue
        except netrc.NetrcParseError as error:
            raise RemoteError(f"cannot read {path}: {error.msg}") from None
        if found and found[2]:
            return found[2]
    raise RemoteError(f"there is no API key for {url}: run `wandb login --host {url}`, or set {KEY_VARIABLE}")


def _nobody(request: Any) -> Any:
    """An authentication that adds nothing, in place of the one that requests looks up itself."""
    return request


def _place(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _is_here(host: str) -> bool:
    """Whether what is sent to a host stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: requests.RequestException) -> str:
    """What is wrong with a connection, without the address: storage services sign theirs."""
    return str(getattr(error.args[0], "reason", "") if error.args else "") or type(error).__name__


def _asked_for(answer: requests.Response | None) -> float:
    """The seconds that a server asks its clients to wait, within reason."""
    asked = answer.headers.get("Retry-After", "") if answer is not None else ""
    return min(float(asked), 60.0) if asked.isdigit() else 0.0


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise RemoteError(f"{_place(answer.url)} is no W&B server: it does not answer in JSON") from None


def _message(answer: Any) -> str:
    """The first error of an answer in one line, "" where it tells none."""
    errors = answer.get("errors") or [answer.get("error")] if isinstance(answer, dict) else [None]
    first = errors[0] if isinstance(errors, list) else errors
    text = first.get("message") if isinstance(first, dict) else first
    return " ".join(str(text or "").split())


def _refusal(answer: requests.Response, server: str) -> str:
    place = _place(answer.url)
    if answer.status_code == 401:
        login = f"run `wandb login --relogin --host {server}`, or set {KEY_VARIABLE}"
        return f"{place} does not know this API key: {login}"
    try:
        said = _message(answer.json())
    except ValueError:
        said = ""
    if answer.status_code == 404 and not said:
        said = "there is nothing at this address; is it a W&B server?"
    return f"{place} refuses ({answer.status_code} {answer.reason}): {said or urlsplit(answer.url).path}"
