"""The scheduler of a sweep as a process beside its agents: `wandb sweep-scheduler` chooses the runs.

A sweep has one if its definition has the key `scheduler`. The server then only hands out what it queues.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from wandb_tl.errors import FailedError, InputError

# The engines that choose runs: the package of each, and what installs it.
ENGINES = {
    "optuna": ("optuna", "wandb-tl[scheduler]"),
    "ax": ("ax", "wandb[ax]"),
    "wandb": ("sweeps", "wandb[sweeps]"),
}
# How often the scheduler looks for runs that have ended: an agent waits that long for its next run.
POLL_SECONDS = 2
# How long it has to see that the sweep is over, and to end after it was told to.
NOTICE_SECONDS, STOP_SECONDS = 3 * POLL_SECONDS, 30
# How often in a row a scheduler that ends early is started again, and what counts as a row: seconds of life.
# Its state is on the server. A busy machine or a network that is away may end it as a bad definition does.
MOST_RESTARTS, SHORT_SECONDS = 2, 300
# How the client marks what a user has to know among its lines.
MARKS = ("wandb: WARNING ", "wandb: ERROR ")


def check(scheduler: object) -> None:
    """InputError if a sweep's key `scheduler` names an engine or a file that this process does not have."""
    if not isinstance(scheduler, Mapping) or scheduler.get("engine") not in ENGINES:
        engine = scheduler.get("engine") if isinstance(scheduler, Mapping) else scheduler
        raise InputError(f"scheduler.engine: got {engine}, takes one of {', '.join(ENGINES)}")
    package, installed_by = ENGINES[scheduler["engine"]]
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"the sweep's scheduler needs the package {package}, which is not installed: "
            f'pip install "{installed_by}"'
        )
    source = scheduler.get("source")
    if source is not None and not Path(str(source)).is_file():
        raise InputError(
            f"scheduler.source: no file {source} in {Path.cwd()}; start the command in the folder it lies in"
        )


@dataclass
class SchedulerProcess:
    """`wandb sweep-scheduler` as a process. Its log has its output. was_cut: whether stop() had to end it.

    path: ENTITY/PROJECT/SWEEP. batch: how many runs it keeps queued or running, which is one per agent, so
    that each run is chosen by the results of those before. It ends with the process that has started it.
    """

    path: str
    batch: int
    log: Path
    restarts: int = 0
    is_over: bool = False
    was_cut: bool = False
    _printed: int = field(default=0, init=False)
    _started_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        # Warnings of an earlier start of this sweep must not be printed again.
        self._printed = self.log.stat().st_size if self.log.exists() else 0
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        self._started_at = time.monotonic()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "WANDB_SILENT": "false"}
        # By it, the scheduler would use W&B's own process of this one.
        environment.pop("WANDB_SERVICE", None)
        command = [sys.executable, "-m", "wandb_tl.sweeping.sweep_scheduler", self.path]
        options = ["--batch-size", str(self.batch), "--poll-interval", str(POLL_SECONDS)]
        with self.log.open("a") as file:
            return subprocess.Popen(
                [*command, *options],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def news(self) -> list[str]:
        """What to print since the last call: warnings, errors, and how the scheduler has ended.

        One that was killed or has failed is started again. FailedError if that does not help, so that nobody
        chooses runs.
        """
        code = None if self.is_over else self.process.poll()
        lines = [f"scheduler: {text}" for line in self._new_lines() if (text := _marked(line))]
        if code is None:
            return lines
        if code == 0:
            self.is_over = True
            return [*lines, f"scheduler: {self._last_line()}"]
        how = self._last_line() if code > 0 else f"killed by {signal.Signals(-code).name}"
        if time.monotonic() - self._started_at > SHORT_SECONDS:
            self.restarts = 0
        if self.restarts == MOST_RESTARTS:
            raise FailedError(f"the scheduler has ended again ({how}), and is given up; see {self.log}")
        self.restarts += 1
        self.process = self._started()
        return [*lines, f"warning: the scheduler has ended ({how}), and was started again; see {self.log}"]

    def _new_lines(self) -> list[str]:
        """The complete lines that it has written since the last call."""
        with self.log.open("rb") as file:
            file.seek(self._printed)
            complete, _, _ = file.read().rpartition(b"\n")
        self._printed += len(complete) + bool(complete)
        return complete.decode(errors="replace").splitlines()

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["no output"]
        return lines[-1].removeprefix("wandb: ").removeprefix("ERROR ")

    def stop(self, notice_seconds: float = 0) -> None:
        """End the scheduler, after some time in which it may see that the sweep is over.

        What it has queued stays queued.
        """
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(notice_seconds)
            return
        self.was_cut = True
        # It may have its end already.
        with suppress(OSError):
            self.process.stdin.close() if self.process.stdin else None
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # W&B's own process has a session of its own.
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            self.process.kill()
            self.process.wait()


def _marked(line: str) -> str | None:
    """A line that the client marks as a warning or an error, without its name; None for other lines."""
    return line.removeprefix("wandb: ") if line.startswith(MARKS) else None


def start(path: str, batch: int, folder: Path) -> SchedulerProcess:
    """Start the scheduler of the sweep ENTITY/PROJECT/SWEEP. Its log is a file in the folder."""
    return SchedulerProcess(path, batch, folder / f"scheduler-{path.split('/')[-1]}.log")


def has_one(definition: Mapping[str, Any]) -> bool:
    """Whether `wandb sweep-scheduler` chooses the runs of the sweep with this definition."""
    return bool(definition.get("scheduler"))
