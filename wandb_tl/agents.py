"""Agents of a sweep as processes on this machine, one a GPU, each with its share of the cores."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

# A run that is told to stop writes nothing large: its last epoch is already on disk.
STOP_SECONDS = 60


def start(
    path: str, count: int | None, in_process: bool, folder: Path
) -> tuple[list[subprocess.Popen], list[Path]]:
    """Start agents of the sweep ENTITY/PROJECT/SWEEP, by default one a GPU, or two on a CPU.

    Each has its GPU or its share of the cores, and a session of its own; with in_process, all of its runs are
    in one process. Returns them and their log files in the folder.
    """
    gpus = visible_gpus()
    # Two runs with half of the cores each compute more than one with all of them, whose layers are small.
    count = count or len(gpus) or 2
    agents, logs = [], []
    for number in range(count):
        # For programs that are not this package's, which W&B's agent runs: it would give up after three bad
        # recipes, and leave the good ones undone.
        environment = {"WANDB_AGENT_DISABLE_FLAPPING": "true", **os.environ}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        else:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // count)))
        log = folder / f"agent-{path.split('/')[-1]}-{number}.log"
        with log.open("a") as file:
            agent = subprocess.Popen(
                [sys.executable, "-m", "wandb_tl.agent", *(["--in-process"] if in_process else []), path],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        agents.append(agent)
        logs.append(log)
    return agents, logs


def usable_cores() -> int:
    """Cores that this process may use: what its affinity and its control group leave of the machine's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists() and (parts := quota.read_text().split())[0] != "max":
        cores = min(cores, math.ceil(int(parts[0]) / int(parts[1])))
    return cores


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, one entry a GPU."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return []
    return [str(number) for number, _ in enumerate(re.findall(r"^GPU \d", listed.stdout, re.MULTILINE))]


def stop(agents: list[subprocess.Popen]) -> None:
    """Ask the agents to end; they pass that on to their runs, which the sweep then hands out again."""
    for agent in agents:
        agent.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for agent in agents:
        try:
            agent.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            # Its run has a process group of its own and would outlive it.
            for process in psutil.Process(agent.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            agent.kill()
            agent.wait()
