"""The command `answer`: sends the answer of a sweep to the server that serves a folder."""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

from wandb_tl.local import root as roots
from wandb_tl.local.errors import RootError

TIMEOUT_SECONDS = 60


def send(root: Path, sweep: str, file: str) -> None:
    """Attach the answer in a file of JSON, "-" for stdin, to ENTITY/PROJECT/SWEEP.

    Raises RootError if the file cannot be read, if no server serves the folder, or if it refuses the answer.
    """
    names = sweep.strip("/").rsplit("/", 2)
    if len(names) != 3 or not all(names):
        raise RootError(f"{sweep} is not a sweep: takes ENTITY/PROJECT/SWEEP")
    content = _read(file)
    # Without a folder there is no server to wait for, and the folder must not be created.
    if not root.is_dir():
        raise RootError(f"there is no folder {root}")
    address = f"{roots.wait_for_server(root)}/-/answer/{'/'.join(quote(name, safe='') for name in names)}"
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"}, method="PUT")
    credentials = base64.b64encode(f"api:{roots.read_key(root)}".encode()).decode()
    request.add_header("Authorization", f"Basic {credentials}")
    # The server is on this machine: a proxy would not reach it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        raise RootError(_reason(error)) from None
    except OSError as error:
        raise RootError(f"no answer from {address}: {error}") from None


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise RootError(f"cannot read {file}: {error.strerror}") from None


def _reason(error: urllib.error.HTTPError) -> str:
    """Why the server refuses, in one line."""
    try:
        return str(json.loads(error.read())["errors"][0]["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        return f"the server answers {error.code} {error.reason}"
