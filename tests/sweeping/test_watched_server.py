"""Processes that use one embedded server: it outlives its starter, and one of them replaces it."""

from __future__ import annotations

import contextlib
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
from wandb_tl.sweeping import watched_server
with watched_server.serving(sys.argv[1], Path(sys.argv[1])) as variables:
    print(variables["WANDB_BASE_URL"], flush=True)
    sys.stdin.readline()
"""

User = tuple[subprocess.Popen[str], str]


@pytest.fixture
def use(tmp_path: Path) -> Iterator[Callable[[], User]]:
    """Starts a process that uses the server of a folder until its stdin ends; the process, the address."""
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


def pid_of_server(root: Path) -> int:
    """That of the server that serves a folder; 0 if none does."""
    announced = root / "server.json"
    return int(json.loads(announced.read_text())["pid"]) if announced.exists() else 0


@pytest.mark.slow
def test_a_server_outlives_its_starter_and_is_replaced_by_who_is_left(
    tmp_path: Path, use: Callable[[], User]
) -> None:
    (first, url), (second, same) = use(), use()
    assert url == same and url.startswith("http://127.0.0.1:")
    before = pid_of_server(tmp_path)
    # It does not wait for the other one, and leaves the server to it.
    first.communicate(timeout=60)
    assert first.returncode == 0 and pid_of_server(tmp_path) == before and embedded_server.answers(url)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: pid_of_server(tmp_path) not in (0, before))
    wait_for(lambda: embedded_server.answers(url))
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0 and err == "The embedded server has ended; starting it again.\n"
    assert not pid_of_server(tmp_path) and not embedded_server.answers(url)


@pytest.mark.slow
def test_a_starter_that_is_killed_leaves_the_server_to_the_others(
    tmp_path: Path, use: Callable[[], User]
) -> None:
    (first, url), (second, _) = use(), use()
    first.kill()
    first.wait()
    before = pid_of_server(tmp_path)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: pid_of_server(tmp_path) not in (0, before))
    wait_for(lambda: embedded_server.answers(url))
    second.communicate(timeout=60)
    wait_for(lambda: not pid_of_server(tmp_path))


@contextlib.contextmanager
def served_by_hand(root: Path, port: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that somebody starts in a terminal, when it serves the folder."""
    command = [sys.executable, "-m", "wandb_tl.local", "serve", "--root", str(root), "--port", port]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(lambda: pid_of_server(root) == server.pid)
    yield server
    server.terminate()
    assert server.wait(60) == 0


@pytest.mark.slow
def test_a_server_that_was_started_by_hand_is_not_replaced(tmp_path: Path, use: Callable[[], User]) -> None:
    with served_by_hand(tmp_path, "0"):
        process, url = use()
    # Its user may have a reason to stop it, and starts it again as it was.
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    with served_by_hand(tmp_path, url.rpartition(":")[2]) as again:
        assert process.communicate(timeout=60)[1] == "" and pid_of_server(tmp_path) == again.pid


@pytest.mark.slow
def test_a_server_at_another_address_is_told_once(tmp_path: Path, use: Callable[[], User]) -> None:
    process, url = use()
    # Before the process notices that its server has died, somebody serves the folder elsewhere.
    process.send_signal(signal.SIGSTOP)
    os.kill(pid_of_server(tmp_path), signal.SIGKILL)
    with served_by_hand(tmp_path, "0"):
        process.send_signal(signal.SIGCONT)
        assert process.stderr
        assert process.stderr.readline() == "The embedded server has ended; starting it again.\n"
        elsewhere = process.stderr.readline()
        assert elsewhere.startswith("error: it is served at http://127.0.0.1:") and url not in elsewhere
        assert process.communicate(timeout=60)[1] == ""
