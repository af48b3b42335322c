"""What happens to a sweep's processes, and when: drawn from a seed."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence

import psutil

from .stage import INT, KILL, PATIENCE_SECONDS, TERM, Process, Stage, send, wait_for

# A run whose process was killed is handed out again twice.
MOST_CRASHES = 1
# How often a fault waits until there is training. The others also hit processes that are starting.
TRAINING_SHARE = 0.8
PAUSE_SECONDS = (0.3, 5.0)
CUT_SECONDS = (0.0, 3.0)
AWAY_SECONDS = (0.5, 4.0)


class Faults:
    """Faults of a stage in an order and at moments that a seed determines.

    counts: the faults so far, by name.
    """

    def __init__(self, stage: Stage, seed: int | str, only: tuple[str, ...] = ()) -> None:
        self._stage, self._random = stage, random.Random(seed)
        self._family: Process | None = None
        self.counts: Counter[str] = Counter()
        faults: dict[str, Callable[[], bool]] = {
            "training SIGKILL": lambda: self._kill_training(KILL),
            "training SIGTERM": lambda: self._kill_training(TERM),
            "helper SIGKILL": self._kill_helper,
            "agent SIGKILL": lambda: self._kill("agent", KILL),
            "agent SIGTERM": lambda: self._kill("agent", TERM),
            "agent SIGINT": lambda: self._kill("agent", INT),
            "run_sweep SIGKILL": lambda: self._kill("run_sweep", KILL),
            "run_sweep SIGTERM": lambda: self._kill("run_sweep", TERM),
            "run_sweep SIGINT": lambda: self._kill("run_sweep", INT),
            "server SIGKILL": lambda: self._restart_server(KILL),
            "server SIGTERM": lambda: self._restart_server(TERM),
            "network": self._cut_network,
        }
        self._faults = {name: fault for name, fault in faults.items() if not only or name in only}

    def next(self) -> str:
        """Wait for a moment, and let something happen; returns its name, "" if there was nothing to hit."""
        if self._random.random() < TRAINING_SHARE:
            wait_for(lambda: self._stage.members("training") or not self._stage.members("run_sweep"))
        self.wait(*PAUSE_SECONDS)
        # Each kind of process is hit as often as another, by whatever signal.
        kind = self._random.choice(sorted({name.split()[0] for name in self._faults}))
        name = self._random.choice(sorted(name for name in self._faults if name.split()[0] == kind))
        return name if self.happen(name) else ""

    def wait(self, least: float, most: float) -> None:
        """Wait for a number of seconds between the two."""
        time.sleep(self._random.uniform(least, most))

    def shuffled(self, names: Sequence[str]) -> list[str]:
        return self._random.sample(names, len(names))

    def happen(self, name: str, of: Process | None = None) -> bool:
        """Let the fault of this name happen now; whether there was something to hit.

        of: hit only this process and those that it or its children have started.
        """
        self._family = of
        happened = self._faults[name]()
        self.counts[name] += happened
        return happened

    def _victim(self, kind: str) -> psutil.Process | None:
        members = sorted(self._stage.members(kind, self._family), key=lambda process: process.pid)
        return self._random.choice(members) if members else None

    def _kill(self, kind: str, number: int) -> bool:
        victim = self._victim(kind)
        if victim is None:
            return False
        try:
            # Before the signal: a process that has ended has no parents.
            parents = {parent.pid for parent in victim.parents()}
        except psutil.NoSuchProcess:
            return False
        if not send(victim, number):
            return False
        for process in self._stage.processes:
            if process.popen.pid == victim.pid:
                process.signals.append(number)
            if kind == "agent" and number != KILL and process.popen.pid in parents:
                process.has_lost_agents = True
        return True

    def _kill_training(self, number: int) -> bool:
        return self._may_crash() and self._kill("training", number)

    def _kill_helper(self) -> bool:
        return self._may_crash() and self._kill("helper", KILL)

    def _may_crash(self) -> bool:
        """Whether each run may crash once more and still be handed out again."""
        try:
            [[most]] = self._stage.query("SELECT max(crashes) FROM run WHERE state != 'finished'")
        except sqlite3.Error:
            # The server may just start or recover.
            return False
        return int(most or 0) <= MOST_CRASHES

    def _restart_server(self, number: int) -> bool:
        self._family = None
        if not self._kill("server", number):
            return False
        if self._stage.proxy:
            [*_, server] = [process for process in self._stage.processes if process.name == "server"]
            server.popen.wait(PATIENCE_SECONDS)
            time.sleep(self._random.uniform(*AWAY_SECONDS))
            self._stage.start_server()
        return True

    def _cut_network(self) -> bool:
        if self._stage.proxy is None:
            return False
        self._stage.proxy.cut(self._random.uniform(*CUT_SECONDS))
        return True
