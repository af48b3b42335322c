"""Agents of a sweep as processes on this machine, one per GPU, each with its share of the cores."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

# A run that is told to stop writes nothing large: its last epoch is already on disk.
STOP_SECONDS = 60


@dataclass(frozen=True)
class AgentProcess:
    """An agent, the log file of what it and its runs print, and its file of events (see agent.Events)."""

    process: subprocess.Popen[bytes]
    log: Path
    events: Path

    @property
    def working(self) -> bool:
        return self.process.poll() is None

    def failures(self) -> list[str]:
        """Why runs of this agent, or the agent itself, failed. In order."""
        if not self.events.exists():
            return []
        lines = self.events.read_text(encoding="utf-8").splitlines(keepends=True)
        # The last line may be half written.
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event["reason"] for event in events if event["reason"]]


def start(path: str, count: int | None, in_process: bool, folder: Path) -> list[AgentProcess]:
    """Start agents of the sweep ENTITY/PROJECT/SWEEP, by default one per GPU, or two on a CPU.

    Each has its GPU or its share of the cores, and a session of its own. Their logs and events are files in
    the folder. in_process: each agent does all of its runs in one process.
    """
    gpus = visible_gpus()
    # Two runs with half of the cores each compute more than one with all of them, whose layers are small.
    count = count or len(gpus) or 2
    agents = []
    for number in range(count):
        # W&B's agent, which runs foreign programs, would give up after three bad recipes and leave the good
        # ones undone.
        environment = {"WANDB_AGENT_DISABLE_FLAPPING": "true", **os.environ}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        else:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // count)))
        name = f"agent-{path.split('/')[-1]}-{number}"
        log, events = folder / f"{name}.log", folder / f"{name}.jsonl"
        # Failures of an earlier start of this sweep are not of interest now.
        events.unlink(missing_ok=True)
        command = [sys.executable, "-m", "wandb_tl.agent", path, "--events", str(events.resolve())]
        with log.open("a") as file:
            process = subprocess.Popen(
                [*command, *(["--in-process"] if in_process else [])],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        agents.append(AgentProcess(process, log, events))
    return agents


def usable_cores() -> int:
    """Cores that this process may use: what its affinity and its control group leave of the machine's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists() and (parts := quota.read_text().split())[0] != "max":
        cores = min(cores, math.ceil(int(parts[0]) / int(parts[1])))
    return cores


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, one entry per GPU."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return []
    return [str(number) for number, _ in enumerate(re.findall(r"^GPU \d", listed.stdout, re.MULTILINE))]


def stop(agents: Iterable[AgentProcess]) -> None:
    """End the agents. Each passes SIGTERM on to its run, which the sweep then hands out again."""
    processes = [agent.process for agent in agents]
    for agent in processes:
        agent.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for agent in processes:
        try:
            agent.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            # Its run has a process group of its own and would outlive it.
            for process in psutil.Process(agent.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            agent.kill()
            agent.wait()
