"""Agents as processes: which GPU or cores each gets, and that nothing of theirs is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from live_server import wait_for

from wandb_tl.sweeping import agent_events, agent_processes
from wandb_tl.sweeping.agent_events import AgentEvent
from wandb_tl.sweeping.agent_processes import AgentProcess


def test_cores_are_those_that_the_process_may_use():
    count = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    count += "from wandb_tl.sweeping.agent_processes import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n" and agent_processes.usable_cores() >= 1


@pytest.mark.parametrize(
    ("value", "gpus"), [("", []), ("-1", []), ("2", ["2"]), ("0,GPU-af", ["0", "GPU-af"])]
)
def test_gpus_are_those_that_the_user_leaves_visible(monkeypatch, value, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert agent_processes.visible_gpus() == gpus


@pytest.mark.parametrize("count", [None, 3])
def test_more_agents_than_gpus_take_turns(monkeypatch, tmp_path, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-af")
    agents = agent_processes.start("no/such/sweep", count, False, tmp_path)
    try:
        # A process that has just started may not show its environment yet.
        gpus = [
            wait_for(
                lambda agent=agent: psutil.Process(agent.process.pid).environ().get("CUDA_VISIBLE_DEVICES")
            )
            for agent in agents
        ]
    finally:
        agent_processes.stop(agents)
    assert gpus == ["4", "GPU-af", "4"][: count or 2]


def agent_of(script: str, folder: Path) -> AgentProcess:
    return AgentProcess([sys.executable, "-c", script], os.environ, folder / "log", folder / "events")


@pytest.mark.parametrize(
    ("end", "restarts"),
    [("os.kill(os.getpid(), 9)", agent_processes.MOST_RESTARTS), ("os.kill(os.getpid(), 15)", 0), ("", 0)],
)
def test_an_agent_that_crashes_is_started_again_a_few_times(tmp_path, end, restarts):
    agent = agent_of(f"import os\nprint('x', flush=True)\n{end}", tmp_path)
    agent.process.wait()
    news = []
    while agent.working:
        news.append(agent.restart_if_crashed())
        agent.process.wait()
    again = ["an agent died of SIGKILL, and was started again"] * restarts
    given_up = ["an agent died of SIGKILL again, and is given up"] if restarts else []
    assert [text.partition(";")[0] for text in news] == again + given_up
    assert agent.restart_if_crashed() is None and agent.log.read_text() == "x\n" * (1 + restarts)


def test_an_agent_that_has_told_its_end_is_not_started_again(tmp_path):
    """W&B's own agent takes the place of ours where the sweep has a program of its own."""
    agent = agent_of("import os; os.kill(os.getpid(), 9)", tmp_path)
    agent_events.append(agent.events, AgentEvent(None, 0, ""))
    agent.process.wait()
    assert not agent.working and agent.restart_if_crashed() is None and agent.failures() == []


def test_an_agent_that_does_not_end_goes_with_its_run(monkeypatch, tmp_path):
    run = "import time; print('ready', flush=True); time.sleep(100)"
    agent = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", {run!r}], process_group=0)
time.sleep(100)
"""
    monkeypatch.setattr(agent_processes, "STOP_SECONDS", 0.5)
    stubborn = agent_of(agent, tmp_path)
    wait_for(lambda: stubborn.log.read_text() == "ready\n")
    [child] = psutil.Process(stubborn.process.pid).children()
    began = time.monotonic()
    agent_processes.stop([stubborn])
    assert stubborn.process.wait(timeout=240) == -signal.SIGKILL and time.monotonic() - began > 0.5
    psutil.wait_procs([child], timeout=240)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
