"""How runs end: real runs of the client, which are offline or whose server is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import wandb
from live_server import Server, wait_for

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import run_lifecycle


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    run_lifecycle.forget_environment()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    # Processes that later tests start would use the wandb-core of this one.
    run_lifecycle.forget_environment()


def test_a_connection_error_of_the_block_ends_the_run_as_failed(offline):
    with pytest.raises(BrokenPipeError, match="of a user"), run_lifecycle.start(RunConfig()) as run:
        raise BrokenPipeError("of a user")
    assert run._exit_code == 1 and wandb.run is None


def test_a_run_is_trained_once_and_the_client_keeps_a_disabled_one_open(offline):
    with wandb.init(mode="disabled") as before:
        before.summary["test_accuracy"] = 50.0
    with (
        pytest.raises(InputError, match=r"trained already; end it with wandb\.finish"),
        run_lifecycle.start(RunConfig()),
    ):
        pass
    wandb.finish()
    with run_lifecycle.start(RunConfig()) as run:
        assert run is not before
        run.summary["test_accuracy"] = 50.0
        with pytest.raises(InputError, match="open another one"), run_lifecycle.start(RunConfig()):
            pass
    assert wandb.run is None


DEATH = """
import sys, time, psutil
from wandb_tl.config import RunConfig
from wandb_tl.errors import FailedError
from wandb_tl.training import run_lifecycle

try:
    with run_lifecycle.start(RunConfig()) as run:
        for child in psutil.Process().children():
            if child.name().startswith("wandb-core"):
                child.kill()
        for _ in range(50 if sys.argv[1] == "log" else 0):
            run.log({"x": 1})
            time.sleep(0.01)
except FailedError as error:
    print(error)
with run_lifecycle.start(RunConfig()) as another:
    assert another is not run
"""


@pytest.mark.parametrize("use", ["log", "none"])
def test_the_death_of_wandb_core_is_one_line(tmp_path, use):
    done = subprocess.run(
        [sys.executable, "-c", DEATH, use],
        env=os.environ | {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.startswith("W&B's own process, wandb-core, has died"), done.stdout + done.stderr
    assert done.stdout.count("\n") == 1


LATE_DEATH = """
import json, sys, psutil, wandb
from wandb_tl.config import RunConfig
from wandb_tl.errors import FailedError
from wandb_tl.training import run_lifecycle

finish = wandb.Run.finish
def finish_and_die(run, exit_code):
    if sys.argv[1] == "after":
        finish(run, exit_code=exit_code)
    for child in psutil.Process().children():
        if child.name().startswith("wandb-core"):
            child.kill()
    raise ConnectionResetError("Connection lost")
wandb.Run.finish = finish_and_die
try:
    with run_lifecycle.start(RunConfig()) as run:
        run.log({"x": 1})
    print(json.dumps("finished"))
except FailedError as error:
    print(json.dumps(str(error)))
"""


def test_a_run_that_the_server_has_whole_does_not_fail_by_the_death_of_wandb_core(server):
    assert server.run(LATE_DEATH, "after") == "finished"
    assert server.run(LATE_DEATH, "before").startswith("W&B's own process, wandb-core, has died")


# The seconds that its ends may take are an argument.
RUN = """
import sys, time
from wandb_tl import command_line
from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import run_lifecycle
command_line.WANDB_END_SECONDS, run_lifecycle.PREEMPTION_SECONDS = float(sys.argv[1]), float(sys.argv[1])

def run(options):
    with run_lifecycle.start(RunConfig()) as run:
        run.log({"x": 1})
        print("ready", flush=True)
        for _ in range(10000):
            time.sleep(0.05)

none = lambda parser: parser.add_argument("seconds")
command_line.Command("any", "", "", "", none, run, dies_of_sigint=True).start()
"""


def run_without_server(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """A run whose server was killed. seconds: how long its ends may take."""
    server = Server(folder)
    server.start()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(seconds)],
        env=server.env,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    server.stop(signal.SIGKILL)
    return process


def end(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process and its wandb-core; returns what it wrote on stderr."""
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    _, err = process.communicate(timeout=100)
    wait_for(lambda: not any(child.is_running() for child in children))
    return err


def test_a_terminated_run_ends_although_its_server_is_gone(tmp_path):
    process = run_without_server(tmp_path, 1)
    process.send_signal(signal.SIGTERM)
    err = end(process)
    assert process.returncode == 143 and "Traceback" not in err, err


def test_a_few_ctrl_c_end_a_run_whose_server_is_gone(tmp_path):
    process = run_without_server(tmp_path, 1000)
    children = psutil.Process(process.pid).children(recursive=True)
    # The first ends the training, the second the run's wait for its server, the third that of wandb-core.
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    _, err = process.communicate(timeout=100)
    wait_for(lambda: not any(child.is_running() for child in children))
    assert process.returncode == -signal.SIGINT, err
