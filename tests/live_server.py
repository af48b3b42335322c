"""A real server process, and the unmodified wandb client in processes of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warm_python import WarmProcess

REPOSITORY = Path(__file__).parents[1]


@dataclass
class Server:
    """One `wandb_tl.local serve` on a root, and clients that talk to it, with `variables` besides.

    flags: more flags of the server. open_files: how many files it may open; None for as many as these tests
    may.
    """

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    port: int = 0
    flags: tuple[str, ...] = ()
    open_files: int | None = None
    process: subprocess.Popen | None = None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def url(self) -> str:
        return self.env["WANDB_BASE_URL"]

    @property
    def key(self) -> str:
        return self.env["WANDB_API_KEY"]

    def start(self) -> None:
        command = [sys.executable, "-m", "wandb_tl.local", "serve", "--port", str(self.port)]
        limited = ["bash", "-c", f'ulimit -n {self.open_files}; exec "$@"', "bash"] if self.open_files else []
        self.process = subprocess.Popen(
            [*limited, *command, *self.flags, "--root", str(self.root)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith("serving "), line
        shown = subprocess.run(
            [sys.executable, "-m", "wandb_tl.local", "env", "--json", "--root", str(self.root)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        self.env |= json.loads(shown.stdout)
        self.port = int(self.url.rpartition(":")[2])
        for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
            self.env[f"WANDB_{name}"] = str(self.folder / "client")
        (self.folder / "client").mkdir(exist_ok=True)
        self.env |= {"WANDB_SILENT": "true", "WANDB_X_DISABLE_STATS": "true", "PYTHONUNBUFFERED": "1"}
        self.env |= self.variables
        self.env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        return code

    def spawn(self, script: str, *arguments: str, **env: str) -> WarmProcess:
        """Start a Python script in the client's folder."""
        command = ["-c", textwrap.dedent(script), *arguments]
        return WarmProcess(command, self.folder / "client", self.env | env)

    def run(self, script: str, *arguments: str, **env: str) -> Any:
        """Run a Python script; returns its last line of output as JSON."""
        process = self.spawn(script, *arguments, **env)
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, out + err
        return json.loads(out.strip().splitlines()[-1])

    def request(
        self, path: str, body: Any = None, key: str | None = "", method: str | None = None
    ) -> tuple[int, Any]:
        """An HTTP request; key "" is the right one and None is none. Returns (status, JSON or bytes)."""
        url = path if path.startswith("http") else self.url + path
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method)
        if key is not None:
            credentials = base64.b64encode(f"api:{key or self.key}".encode()).decode()
            request.add_header("Authorization", f"Basic {credentials}")
        try:
            with urllib.request.urlopen(request, timeout=100) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content

    def query(self, document: str, **variables: Any) -> Any:
        """Execute a GraphQL document; returns its data."""
        status, answer = self.request("/graphql", {"query": document, "variables": variables})
        assert status == 200 and "errors" not in answer, answer
        return answer["data"]


def wait_for(condition: Any) -> Any:
    """The condition's first true value. Patient, because a busy machine is no failure."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def sqlite(server: Server, query: str) -> object:
    """The first value that a query of the server's records gives, read while it serves."""
    with contextlib.closing(sqlite3.connect(f"file:{server.root}/wandb.sqlite?mode=ro", uri=True)) as records:
        row = records.execute(query).fetchone()
    return row and row[0]


def start(server: Server, *command: str, **variables: str) -> WarmProcess:
    """Start `python -m COMMAND…` as a client of the server, its errors among its output."""
    environment = server.env | {"WANDB_SILENT": "false"} | variables
    return WarmProcess(["-m", *command], server.folder / "client", environment, subprocess.STDOUT)


def call(server: Server, *command: str, **variables: str) -> tuple[int, str]:
    """Exit code and output of `python -m COMMAND…` as a client of the server."""
    process = start(server, *command, **variables)
    out, _ = process.communicate(timeout=400)
    return process.returncode, out
