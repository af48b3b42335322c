"""A sweep whose processes are killed at random moments is as if nothing had happened.

`python -m tests.faults --kills 100` does the same for as long as you like, with run_sweep and two agents.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from faults import checks
from faults.moments import Faults
from faults.stage import PATIENCE_SECONDS, TERM, Process, Stage, wait_for

# First those that do not reach the other sweep.
OF_PROCESSES = ("training SIGKILL", "training SIGTERM", "helper SIGKILL", "agent SIGTERM")
OF_CONNECTIONS = ("server SIGKILL", "network")
POINTS = {"seed": [0, 1, 2, 3], "epochs": [4]}
# Less than a run takes.
PAUSE_SECONDS = (0.0, 1.5)
SEED = int(os.environ.get("FAULTS_SEED", "1"))


@pytest.mark.long
def test_a_disturbed_sweep_is_like_an_undisturbed_one(tmp_path: Path, fashion_mnist_cache: Path):
    print(f"FAULTS_SEED={SEED}")
    with contextlib.closing(Stage(tmp_path, fashion_mnist_cache / "FashionMNIST", with_proxy=True)) as stage:
        undisturbed, disturbed = (
            stage.create_sweep(project, stage.definition(**POINTS))
            for project in ("undisturbed", "disturbed")
        )
        # Both at once: to load the libraries takes each agent several seconds.
        undisturbed_agent = start_agent(stage, undisturbed, "--process-per-run")
        agent = start_agent(stage, disturbed)
        faults = Faults(stage, SEED)
        for names in (OF_PROCESSES, OF_CONNECTIONS):
            for name in faults.shuffled(names):
                wait_for(lambda agent=agent: stage.members("helper", agent) or agent.popen.poll() is not None)
                faults.wait(*PAUSE_SECONDS)
                faults.happen(name, agent)
                if name.startswith("agent"):
                    agent.popen.wait(PATIENCE_SECONDS)
                    agent = start_agent(stage, disturbed)
            assert undisturbed_agent.popen.wait(PATIENCE_SECONDS) == 0
        assert agent.popen.wait(PATIENCE_SECONDS) == 0
        stop_server(stage)
        print(dict(faults.counts))
        # The sweep may be over before the last ones.
        assert faults.counts.total() >= len(OF_PROCESSES)
        assert list(checks.problems(stage, disturbed, undisturbed)) == []


def start_agent(stage: Stage, sweep: str, *flags: str) -> Process:
    return stage.start("agent", "wandb_tl.agent", sweep, *flags)


def stop_server(stage: Stage) -> None:
    [*_, server] = [process for process in stage.processes if process.name == "server"]
    server.popen.send_signal(TERM)
    assert server.popen.wait(PATIENCE_SECONDS) == 0
