"""Agents of a sweep as processes on this machine, one per GPU, each with its share of the cores."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from wandb_tl.sweeping import agent_events
from wandb_tl.sweeping.agent_events import AgentEvent

# How long an agent and its run have to end. A run saves nothing large: its checkpoint is on disk.
STOP_SECONDS = 60
# The signals of a crash; the kernel sends SIGKILL when memory is short. Other signals are sent by users.
_CRASHES = {getattr(signal, name, None) for name in ("SIGKILL", "SIGSEGV", "SIGBUS", "SIGABRT")} - {None}
# How often a crashed agent is started again.
MOST_RESTARTS = 5


@dataclass
class AgentProcess:
    """An agent of a sweep as a process. Its log has its output and that of its runs.

    command, environment: what starts it. events: its file of events (agent_events). The agent ends when its
    stdin does, and so with the process that has started it; W&B's own agent, which a sweep with another
    program or command needs, does not.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    events: Path
    restarts: int = 0
    given_up: bool = False

    def __post_init__(self) -> None:
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("a") as file:
            return subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def working(self) -> bool:
        """Whether the agent takes runs, or has crashed and `restart_if_crashed` is to deal with it."""
        return self.process.poll() is None or (self._crash is not None and not self.given_up)

    @property
    def _crash(self) -> str | None:
        """The name of the signal that the agent has crashed of; None if it has not."""
        code = self.process.poll()
        if code is None or -code not in _CRASHES:
            return None
        # W&B's own agent has taken its place, and the run of that one goes on without it.
        has_told_its_end = any(event.run is None for event in agent_events.read(self.events))
        return None if has_told_its_end else signal.Signals(-code).name

    def restart_if_crashed(self) -> str | None:
        """Start the agent again if it has crashed; returns what was done, in words, None if nothing was."""
        crash = None if self.given_up else self._crash
        if crash is None:
            return None
        if self.restarts == MOST_RESTARTS:
            self.given_up = True
            return f"an agent died of {crash} again, and is given up; see {self.log}"
        self.restarts += 1
        self.process = self._started()
        return f"an agent died of {crash}, and was started again; see {self.log}"

    def failures(self) -> list[AgentEvent]:
        """The runs of this agent that failed, and its own failure, in order."""
        return [event for event in agent_events.read(self.events) if event.reason]


def start(path: str, count: int | None, process_per_run: bool, folder: Path) -> list[AgentProcess]:
    """Start agents of the sweep ENTITY/PROJECT/SWEEP, by default one per GPU, or two on a CPU.

    Each has a GPU or a share of the cores, and a session of its own. Their logs and events are files in the
    folder. process_per_run: see wandb_tl.agent.
    """
    gpus = visible_gpus()
    # Two runs with half of the cores each are faster than one after the other: small layers scale badly.
    count = count or len(gpus) or 2
    agents = []
    for number in range(count):
        # W&B's own agent, which runs other programs, would otherwise give up after three failed runs.
        environment = {"WANDB_AGENT_DISABLE_FLAPPING": "true", **os.environ}
        # By it, the agent would use W&B's own process of this one.
        environment.pop("WANDB_SERVICE", None)
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        else:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // count)))
        name = f"agent-{path.split('/')[-1]}-{number}"
        agents.append(_start_one(path, process_per_run, folder / name, environment))
    return agents


def _start_one(path: str, process_per_run: bool, base: Path, environment: dict[str, str]) -> AgentProcess:
    """Start an agent. base: its log and its events are this file with the suffixes .log and .jsonl."""
    log, events = base.with_name(f"{base.name}.log"), base.with_name(f"{base.name}.jsonl")
    # The failures of an earlier start of this sweep must not be reported again.
    events.unlink(missing_ok=True)
    command = [sys.executable, "-m", "wandb_tl.agent", path, "--until-eof", "--events", str(events.resolve())]
    return AgentProcess(
        [*command, *(["--process-per-run"] if process_per_run else [])], environment, log, events
    )


def usable_cores() -> int:
    """How many cores this process may use, by its CPU affinity and the limit of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists() and (parts := quota.read_text().split())[0] != "max":
        cores = min(cores, math.ceil(int(parts[0]) / int(parts[1])))
    return cores


def visible_gpus() -> list[str]:
    """The names of the visible GPUs for CUDA_VISIBLE_DEVICES, one per GPU."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu not in ("", "-1")]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return []
    return [str(number) for number, _ in enumerate(re.findall(r"^GPU \d", listing.stdout, re.MULTILINE))]


def stop(agents: Iterable[AgentProcess]) -> None:
    """End the agents. Each passes SIGTERM on to its run, which the sweep then hands out again."""
    processes = [agent.process for agent in agents]
    for process in processes:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            # Its run has a process group of its own and would outlive the agent.
            for child in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
            process.wait()
