"""A sweep of tiny runs in a folder of its own, and the processes that work on it.

The server, run_sweep and the agents are those of the commands. Their temporary folder, cache and logs lie in
the stage's folder, where nothing of them may be left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from .proxy import Proxy

REPOSITORY = Path(__file__).parents[2]
TINY = {
    "model_name": "test_resnet",
    "pretrained": False,
    "image_size": 32,
    "train_limit": 64,
    "test_limit": 64,
    "epochs": 6,
    "precision": "fp32",
}
PATIENCE_SECONDS = 600


@dataclass
class Process:
    """A command that the stage has started. output: its stdout and stderr.

    has_lost_agents: whether an agent of it was told to stop.
    """

    name: str
    popen: subprocess.Popen[bytes]
    output: Path
    signals: list[int] = field(default_factory=list)
    has_lost_agents: bool = False

    @property
    def lines(self) -> list[str]:
        return [line for line in self.output.read_text().splitlines() if line.strip()]


class Stage:
    """Everything that works on one sweep.

    with_proxy: the stage starts the server, and the clients reach it through a proxy. Otherwise run_sweep
    starts the server.
    """

    def __init__(self, folder: Path, data: Path, with_proxy: bool) -> None:
        self.folder = folder
        for name in ("client", "cache", "temporary", "output"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (folder / "cache" / "FashionMNIST").symlink_to(data)
        self.processes: list[Process] = []
        self.environment = self._plain_environment()
        self.port = _free_port()
        self.proxy: Proxy | None = None
        if with_proxy:
            self.proxy = Proxy(self.port)
            self.start_server()
            self.environment |= self._client_variables(self.proxy.port)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def temporary(self) -> Path:
        return self.folder / "temporary"

    def _plain_environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name[:6] != "WANDB_"}
        client = {f"WANDB_{name}": str(self.folder / "client") for name in _WANDB_FOLDERS}
        return kept | {
            **client,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self.temporary),
            "WANDB_TL_CACHE": str(self.cache),
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_X_DISABLE_STATS": "true",
            "NETRC": str(self.folder / "netrc"),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def _client_variables(self, port: int) -> dict[str, str]:
        command = ["wandb_tl.local", "env", "--json", "--root", str(self.root), "--port", str(port)]
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, env=self.environment)
        variables: dict[str, str] = json.loads(done.stdout)
        return variables

    def start(self, name: str, *command: str) -> Process:
        """Start `python -m COMMAND…`."""
        number = sum(process.name == name for process in self.processes)
        output = self.folder / "output" / f"{name}-{number}.txt"
        with output.open("wb") as file:
            popen = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder / "client",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(name, popen, output)
        self.processes.append(process)
        return process

    def start_server(self) -> None:
        root = ("--root", str(self.root), "--port", str(self.port))
        server = self.start("server", "wandb_tl.local", "serve", *root)
        wait_for(lambda: server.lines or server.popen.poll() is not None)

    def create_sweep(self, project: str, definition: dict[str, Any]) -> str:
        """ENTITY/PROJECT/SWEEP of a new sweep."""
        script = (
            "import sys, wandb, yaml; sys.stdout = sys.stderr; sweep = wandb.sweep("
            "yaml.safe_load(sys.argv[1]), entity='local', project=sys.argv[2]); sys.__stdout__.write(sweep)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, yaml.safe_dump(definition), project],
            capture_output=True,
            text=True,
            cwd=self.folder / "client",
            env=self.environment,
            check=True,
        )
        return f"local/{project}/{done.stdout.strip()}"

    def definition(self, **values: list[Any]) -> dict[str, Any]:
        parameters: dict[str, Any] = {name: {"value": value} for name, value in TINY.items()}
        parameters |= {name: {"values": choices} for name, choices in values.items()}
        return {"program": "wandb_tl/train.py", "method": "grid", "parameters": parameters}

    def members(self, kind: str = "", of: Process | None = None) -> list[psutil.Process]:
        """The running processes of the stage of one kind: run_sweep, agent, training, helper, server.

        of: only this process and those that it or its children have started.
        """
        members = [process for process, its_kind in self._kinds() if kind in ("", its_kind)]
        if of is None:
            return members
        with contextlib.suppress(psutil.Error):
            one = psutil.Process(of.popen.pid)
            family = {process.pid for process in (one, *one.children(recursive=True))}
            return [process for process in members if process.pid in family]
        return []

    def _kinds(self) -> Iterator[tuple[psutil.Process, str]]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_ours = process.environ().get("WANDB_DIR") == str(self.folder / "client")
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    yield process, _kind(process)

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the server's database, read while it serves."""
        address = f"file:{self.root}/wandb.sqlite?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=60)) as database:
            return database.execute(text, values).fetchall()

    def close(self) -> None:
        """End what is left. Only after a check: a process that is left is a fault."""
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for process in self.processes:
            process.popen.wait()
        if self.proxy:
            self.proxy.close()


_WANDB_FOLDERS = ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR")


def _kind(process: psutil.Process) -> str:
    words = process.cmdline()
    line = " ".join(words)
    if words and words[0].endswith("wandb-core"):
        return "helper"
    if "wandb_tl.local serve" in line:
        return "server"
    for command in ("run_sweep", "agent"):
        if f"wandb_tl.{command}" in words:
            return command
    if "forkserver" in line:
        parent = process.parent()
        return "training" if parent and "forkserver" in " ".join(parent.cmdline()) else "fork server"
    return "other"


def send(process: psutil.Process, number: int) -> bool:
    """Send a signal; whether the process was there."""
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """The condition's first true value. AssertionError after some minutes."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return value


KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
