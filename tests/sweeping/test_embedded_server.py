"""Processes that use one embedded server: it outlives its starter, and one of them replaces it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_server import wait_for

from wandb_tl.sweeping import embedded_server

USE = """
import sys
from pathlib import Path
from wandb_tl.sweeping import embedded_server
with embedded_server.serving(sys.argv[1], Path(sys.argv[1])) as variables:
    print(variables["WANDB_BASE_URL"], flush=True)
    sys.stdin.readline()
"""

User = tuple[subprocess.Popen[str], str]


@pytest.fixture
def use(tmp_path: Path) -> Iterator[Callable[[], User]]:
    """Starts a process that uses the server of a folder until its stdin ends; the process and the address."""
    started: list[subprocess.Popen[str]] = []

    def start() -> User:
        command, pipe = [sys.executable, "-c", USE, str(tmp_path)], subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        assert process.stdout
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.communicate(timeout=60)


@pytest.mark.slow
def test_a_server_outlives_its_starter_and_is_replaced_by_who_is_left(
    tmp_path: Path, use: Callable[[], User]
):
    (first, url), (second, same) = use(), use()
    assert url == same and url.startswith("http://127.0.0.1:")
    announced = tmp_path / "server.json"

    def server() -> int:
        return int(json.loads(announced.read_text())["pid"]) if announced.exists() else 0

    before = server()
    # It does not wait for the other one, and leaves the server to it.
    first.communicate(timeout=20)
    assert first.returncode == 0 and server() == before and embedded_server.answers(url)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: server() not in (0, before))
    wait_for(lambda: embedded_server.answers(url))
    _, err = second.communicate(timeout=20)
    assert second.returncode == 0 and err == "The embedded server has ended; starting it again.\n"
    assert not announced.exists() and not embedded_server.answers(url)


@pytest.mark.slow
def test_a_starter_that_is_killed_leaves_the_server_to_the_others(tmp_path: Path, use: Callable[[], User]):
    (first, url), (second, _) = use(), use()
    first.kill()
    first.wait()
    pid = int(json.loads((tmp_path / "server.json").read_text())["pid"])
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not embedded_server.answers(url))
    wait_for(lambda: embedded_server.answers(url))
    second.communicate(timeout=60)
    # It may have been started by none of the two that are gone; it ends after its last user.
    wait_for(lambda: not (tmp_path / "server.json").exists())
