"""This package's own agent, as a process, on sweeps of a real server."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from live_server import Server, call, sqlite, start, wait_for

LITE0 = {"model_name": "tf_efficientnet_lite0", "image_size": 32, "precision": "fp32"}
SMALL = LITE0 | {"train_limit": 256, "test_limit": 100, "epochs": 1, "pretrained": False}
LONG = SMALL | {"train_limit": 1024, "finetuning": True, "optimizer": "SGD", "epochs": 12}


def sweep(
    server: Server,
    folder: Path,
    fixed: dict,
    program: str = "wandb_tl/train.py",
    command: list[str] | None = None,
    **values: list,
) -> str:
    """ENTITY/PROJECT/SWEEP of a new grid, in a project of its own."""
    parameters = {name: {"value": value} for name, value in fixed.items()}
    parameters |= {name: {"values": value} for name, value in values.items()}
    project = folder.name.replace("_", "-")
    definition = {"project": project, "program": program, "method": "grid", "parameters": parameters}
    definition |= {"command": command} if command else {}
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(definition))
    code, out = call(server, "wandb", "sweep", str(file))
    assert code == 0, out
    return re.search(r"wandb agent (\S+)", out)[1]


def states(server: Server, path: str) -> dict[str, str]:
    """State of each run of a sweep, by id."""
    joined = "SELECT group_concat(run.name || ' ' || run.state) FROM run JOIN sweep ON sweep.id = sweep_id"
    found = sqlite(server, f"{joined} WHERE sweep.name = '{path.split('/')[-1]}'")
    return dict(pair.split() for pair in found.split(",")) if found else {}


def epochs_of(server: Server, path: str) -> int:
    """Rows of history that the server has of a sweep's runs."""
    count = "SELECT count(*) FROM stream_line JOIN run ON run.id = run_id JOIN sweep ON sweep.id = sweep_id"
    return sqlite(
        server, f"{count} WHERE stream = 'wandb-history.jsonl' AND sweep.name = '{path.split('/')[-1]}'"
    )


def process_of(server: Server, run_id: str) -> str:
    """Number of the process that a run was in, from its client's log."""
    [log] = server.folder.glob(f"client/wandb/run-*-{run_id}/logs/debug.log")
    return re.search(r"MainThread:(\d+)", log.read_text())[1]


def workers_of(agent: int) -> list[psutil.Process]:
    """The processes that an agent's runs are in: children of its fork server."""
    return [
        worker
        for child in psutil.Process(agent).children()
        if any("forkserver" in word for word in child.cmdline())
        for worker in child.children()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--in-process"]])
def test_every_point_is_run_once(server, tmp_path, flags):
    # A seed of its own, of which the cache holds nothing yet.
    path = sweep(server, tmp_path, SMALL | {"seed": 7 + len(flags)}, optimizer=["Adam", "SGD"])
    code, out = call(server, "wandb_tl.agent", *flags, path)
    assert code == 0, out
    found = states(server, path)
    assert list(found.values()) == ["finished", "finished"]
    processes = {process_of(server, run_id) for run_id in found}
    assert len(processes) == (1 if flags else 2)
    # The second run takes what the first one has computed.
    assert out.count("reused") == 2 and "leaked" not in out and "Traceback" not in out, out


@pytest.mark.slow
def test_a_run_that_fails_does_not_take_the_next_with_it(server, tmp_path):
    path = sweep(server, tmp_path, SMALL | {"pretrained": True}, weights_file=["/nowhere.pth", ""])
    code, out = call(server, "wandb_tl.agent", "--in-process", path)
    assert code == 0 and "error: weights_file: no file /nowhere.pth" in out, out
    assert sorted(states(server, path).values()) == ["crashed", "finished"]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--in-process"]])
def test_a_run_whose_process_dies_goes_on_in_a_new_one(server, tmp_path, flags):
    path = sweep(server, tmp_path, LONG, seed=[0, 1])
    agent = start(server, "wandb_tl.agent", *flags, path)
    wait_for(lambda: epochs_of(server, path) >= 2)
    [worker] = workers_of(agent.pid)
    worker.kill()
    out, _ = agent.communicate(timeout=400)
    assert agent.returncode == 0 and "its process died (exit code -9)" in out, out
    assert list(states(server, path).values()) == ["finished", "finished"]
    assert out.count("resuming after epoch") == 1, out
    # Each epoch once, and the two rows of media of each run.
    assert epochs_of(server, path) == 2 * (12 + 2)


@pytest.mark.slow
def test_what_an_agent_is_doing_when_it_is_stopped_goes_back_to_the_sweep(server, tmp_path):
    path = sweep(server, tmp_path, LONG, seed=[0])
    agent = start(server, "wandb_tl.agent", "--in-process", path)
    wait_for(lambda: epochs_of(server, path) >= 2)
    workers = workers_of(agent.pid)
    agent.send_signal(signal.SIGTERM)
    out, _ = agent.communicate(timeout=100)
    assert agent.returncode == 143 and "Traceback" not in out, out
    assert list(states(server, path).values()) == ["preempted"]
    assert not any(worker.is_running() for worker in workers)
    code, out = call(server, "wandb_tl.agent", path)
    assert code == 0 and "resuming after epoch" in out, out
    assert list(states(server, path).values()) == ["finished"]


@pytest.mark.slow
def test_a_cancelled_sweep_ends_its_runs_and_agents(server, tmp_path):
    path = sweep(server, tmp_path, LONG | {"epochs": 500}, seed=[0, 1])
    agent = start(server, "wandb_tl.agent", "--in-process", path)
    wait_for(lambda: epochs_of(server, path) >= 2)
    began = time.monotonic()
    code, out = call(server, "wandb", "sweep", "--cancel", path)
    assert code == 0, out
    out, _ = agent.communicate(timeout=100)
    assert agent.returncode == 0 and time.monotonic() - began < 60, out
    assert set(states(server, path).values()) <= {"killed", "preempted", "crashed"}


@pytest.mark.slow
def test_other_programs_are_left_to_the_agent_of_wandb(server, tmp_path):
    program = tmp_path / "other.py"
    program.write_text("import wandb\nwith wandb.init() as run:\n    run.log({'x': run.config.lr})\n")
    path = sweep(server, tmp_path, {"lr": 0.5}, program=str(program))
    code, out = call(server, "wandb_tl.agent", "--in-process", path)
    told = f"the runs of {path} are not plain wandb_tl.train, but '{program}'"
    assert (code, out) == (2, f"error: --in-process: {told}\n")
    code, out = call(server, "wandb_tl.agent", path)
    assert code == 0 and list(states(server, path).values()) == ["finished"], out


@pytest.mark.slow
def test_a_command_that_does_more_is_left_to_the_agent_of_wandb(server, tmp_path):
    command = ["${env}", sys.executable, "-m", "wandb_tl.train", "--batch_size=32", "${args}"]
    path = sweep(server, tmp_path, SMALL | {"seed": 3}, command=command)
    code, out = call(server, "wandb_tl.agent", path)
    assert code == 0 and "--batch_size=32" in out, out
    joined = "FROM run JOIN sweep ON sweep.id = sweep_id WHERE sweep.name"
    config = sqlite(server, f"SELECT run.config {joined} = '{path.split('/')[-1]}'")
    assert json.loads(config)["batch_size"]["value"] == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["local/none/abc"], "local/none/abc: "),
        (["nonsense"], "nonsense: "),
        ([], "the following arguments are required: ENTITY/PROJECT/SWEEP"),
        (["a/b/c", "--fast"], "--fast: no such flag; see python -m wandb_tl.agent --help"),
    ],
)
def test_bad_input_is_one_line(server, arguments, message):
    code, out = call(server, "wandb_tl.agent", *arguments)
    assert code == 2 and out.startswith(f"error: {message}") and out.count("\n") == 1, out
