"""This package's own agent, as a process, on sweeps of a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
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
    """Number of the process that a run ended in, from its client's log."""
    *_, log = sorted(server.folder.glob(f"client/wandb/run-*-{run_id}/logs/debug.log"))
    return re.search(r"MainThread:(\d+)", log.read_text())[1]


def workers_of(agent: int) -> list[psutil.Process]:
    """The processes that an agent's runs are in: children of its fork server."""
    return [
        worker
        for child in psutil.Process(agent).children()
        if any("forkserver" in word for word in child.cmdline())
        for worker in child.children()
    ]


@pytest.mark.long
def test_a_run_that_fails_does_not_take_the_next_with_it(server, tmp_path):
    path = sweep(server, tmp_path, SMALL | {"pretrained": True}, weights_file=["/nowhere.pth", ""])
    code, out = call(server, "wandb_tl.agent", path)
    assert code == 0 and "error: weights_file: no file /nowhere.pth" in out, out
    found = {state: run_id for run_id, state in states(server, path).items()}
    assert sorted(found) == ["crashed", "finished"]
    script = "import json, sys, wandb; print(json.dumps(wandb.Api().run(sys.argv[1]).metadata))"
    origin = server.run(script, f"{path.rpartition('/')[0]}/{found['finished']}")
    assert origin["program"] == "-m wandb_tl.train" and "--pretrained=True" in origin["args"]
    assert "leaked" not in out and "Traceback" not in out, out


@pytest.mark.long
@pytest.mark.parametrize("flags", [[], ["--process-per-run"]])
def test_every_point_is_run_once_though_a_process_dies(server, tmp_path, flags):
    # A seed of its own, of which the cache holds nothing yet.
    path = sweep(server, tmp_path, LONG | {"seed": 7 + len(flags)}, optimizer=["SGD", "Adam"])
    agent = start(server, "wandb_tl.agent", *flags, path)
    wait_for(lambda: epochs_of(server, path) >= 2)
    [worker] = workers_of(agent.pid)
    worker.kill()
    out, _ = agent.communicate(timeout=400)
    assert agent.returncode == 0 and "its process died (exit code -9)" in out, out
    found = states(server, path)
    assert list(found.values()) == ["finished", "finished"]
    assert out.count("resuming after epoch") == 1, out
    # Each epoch once, and the two rows of media of each run.
    assert epochs_of(server, path) == 2 * (12 + 2)
    processes = {process_of(server, run_id) for run_id in found}
    assert len(processes) == (2 if flags else 1)
    # The resumed run and the second one take what the first process has computed.
    assert out.count("reused") == 4 and "Traceback" not in out, out


@pytest.mark.long
def test_what_an_agent_is_doing_when_it_is_stopped_goes_back_to_the_sweep(server, tmp_path):
    # As long as the temporary folders of clusters: longer than the path of a socket may be.
    temporary = tmp_path / ("folder" * 20)
    temporary.mkdir()
    path = sweep(server, tmp_path, LONG, seed=[0])
    agent = start(server, "wandb_tl.agent", path, TMPDIR=str(temporary))
    wait_for(lambda: epochs_of(server, path) >= 2)
    workers = workers_of(agent.pid)
    agent.send_signal(signal.SIGTERM)
    out, _ = agent.communicate(timeout=100)
    assert agent.returncode == 143 and "Traceback" not in out, out
    assert list(states(server, path).values()) == ["preempted"]
    assert not any(worker.is_running() for worker in workers)

    agent, epochs = start(server, "wandb_tl.agent", path), epochs_of(server, path)
    wait_for(lambda: epochs_of(server, path) > epochs)
    workers = workers_of(agent.pid)
    agent.kill()
    agent.communicate(timeout=100)
    # A run does not outlive its agent, however that ends.
    wait_for(lambda: not any(worker.is_running() for worker in workers))
    wait_for(lambda: list(states(server, path).values()) == ["preempted"])
    code, out = call(server, "wandb_tl.agent", path)
    assert code == 0 and "resuming after epoch" in out, out
    assert list(states(server, path).values()) == ["finished"]


@pytest.mark.slow
def test_an_agent_whose_gpu_is_broken_takes_no_run(server, tmp_path):
    if not torch.backends.cuda.is_built():
        pytest.skip("this PyTorch uses no GPU of NVIDIA")
    path, events = sweep(server, tmp_path, SMALL, seed=[0]), tmp_path / "events.jsonl"
    code, out = call(server, "wandb_tl.agent", path, "--events", str(events), CUDA_VISIBLE_DEVICES="63")
    error = "CUDA_VISIBLE_DEVICES names the GPU 63, and PyTorch finds none there; "
    assert code == 1 and out.startswith(f"error: {error}") and out.endswith("; this agent takes no runs\n"), (
        out
    )
    assert out.count("\n") == 1 and states(server, path) == {}
    assert error in events.read_text()


DYING = """
import os
from wandb_tl import agent
from wandb_tl.errors import FailedError

def die(*_):
    os._exit(7)

if __name__ == "__main__":
    agent.LIBRARIES, agent._serve = [], die
    try:
        # It never asks the queue.
        agent._work(None, False, None)
    except FailedError as error:
        print(error)
"""


def test_an_agent_whose_workers_die_before_any_run_names_them(tmp_path):
    (tmp_path / "dying.py").write_text(DYING)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[1]}"}
    command = [sys.executable, "-m", "dying"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    died = "10 workers in a row have died while they started, before any run (exit code 7)"
    assert done.stdout == f"{died}; this agent gives up; see the output above\n", done.stderr


@pytest.mark.long
def test_a_cancelled_sweep_ends_its_runs_and_agents(server, tmp_path):
    path = sweep(server, tmp_path, LONG | {"epochs": 500}, seed=[0, 1])
    agent = start(server, "wandb_tl.agent", path)
    wait_for(lambda: epochs_of(server, path) >= 2)
    code, out = call(server, "wandb", "sweep", "--cancel", path)
    assert code == 0, out
    out, _ = agent.communicate(timeout=240)
    assert agent.returncode == 0, out
    # Long before their last epoch.
    assert epochs_of(server, path) < 500
    assert set(states(server, path).values()) <= {"killed", "preempted", "crashed"}


@pytest.mark.long
def test_what_is_not_plainly_our_command_is_left_to_the_agent_of_wandb(server, tmp_path):
    program = tmp_path / "other.py"
    program.write_text("import wandb\nwith wandb.init() as run:\n    run.log({'x': run.config.lr})\n")
    other = sweep(server, tmp_path, {"lr": 0.5}, program=str(program))

    command = ["${env}", sys.executable, "-m", "wandb_tl.train", "--batch_size=32", "${args}"]
    more = sweep(server, tmp_path, SMALL | {"seed": 3}, command=command)
    agents = [start(server, "wandb_tl.agent", path) for path in (other, more)]
    outs = [agent.communicate(timeout=240)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outs
    assert [*states(server, other).values(), *states(server, more).values()] == ["finished"] * 2, outs
    assert "--batch_size=32" in outs[1]
    joined = "FROM run JOIN sweep ON sweep.id = sweep_id WHERE sweep.name"
    config = sqlite(server, f"SELECT run.config {joined} = '{more.split('/')[-1]}'")
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
