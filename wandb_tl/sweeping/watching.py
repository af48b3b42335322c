"""Waits for the agents of a sweep, and prints what becomes of its runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from wandb_tl.errors import InputError
from wandb_tl.progress import tqdm
from wandb_tl.sweeping.agent_processes import AgentProcess
from wandb_tl.sweeping.scheduler_process import SchedulerProcess
from wandb_tl.sweeping.slurm import AgentArray

Agents = Sequence[AgentProcess] | Sequence[AgentArray]

POLL_SECONDS = 3
# How soon the end of the last agent is seen.
LOOK_SECONDS = 0.1


class RunStatus(Protocol):
    """The name and the state of a run, as analysis.results has them."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def ended(self) -> bool: ...


Status = TypeVar("Status", bound=RunStatus, covariant=True)


class Runs(Protocol[Status]):
    """The runs of a sweep: their statuses by id, and what a run tries in words."""

    def statuses(self) -> Mapping[str, Status]: ...
    def description(self, run_id: str) -> str: ...


def watch(
    agents: Agents, scheduler: SchedulerProcess | None, runs: Runs[Status], total: int | None
) -> Mapping[str, Status]:
    """Wait for the agents to end. Print every run that ends, why runs fail, and the news of the scheduler.

    Agents and a scheduler that crash are started again. Returns the status of every run, by id. FailedError
    if the scheduler has failed.
    """
    printed: set[tuple[str, str]] = set()
    numbers: dict[str, int] = {}
    statuses: Mapping[str, Status] = {}
    with tqdm(total=total, unit="run") as progress:
        while True:
            for agent in agents:
                if isinstance(agent, AgentProcess) and (news := agent.restart_if_crashed()):
                    tqdm.write(f"warning: {news}", file=sys.stderr)
            _print_news(scheduler)
            working = any(agent.working for agent in agents)
            try:
                statuses = runs.statuses()
                ended = {run_id: status for run_id, status in statuses.items() if status.ended}
                for run_id, status in ended.items():
                    if (run_id, status.state) not in printed:
                        # A run that is handed out again keeps its number.
                        number = numbers.setdefault(run_id, len(numbers) + 1)
                        of = f" {number} of {total}" if total else ""
                        tqdm.write(f"{status.state}{of}: {runs.description(run_id)}")
                        printed.add((run_id, status.state))
                # A crashed run may be handed out again, and then no longer counts as ended.
                progress.update(len(ended) - progress.n)
            except InputError:
                # The agents retry while the server is away, and so does this.
                if not working:
                    raise
            reasons = {("error", event.reason) for agent in agents for event in agent.failures()}
            for _, reason in reasons - printed:
                tqdm.write(f"error: {reason}", file=sys.stderr)
            printed |= reasons
            if not working:
                return statuses
            _pause(agents)


def _pause(agents: Agents) -> None:
    """Wait some seconds, or until the last agent on this machine has ended."""
    deadline = time.monotonic() + POLL_SECONDS
    here = [agent for agent in agents if isinstance(agent, AgentProcess)]
    while time.monotonic() < deadline and (not here or any(agent.working for agent in here)):
        time.sleep(LOOK_SECONDS)


def _print_news(scheduler: SchedulerProcess | None) -> None:
    for line in scheduler.news() if scheduler else ():
        tqdm.write(line, file=sys.stderr)


def print_unfinished(missing: int, unfinished: Mapping[str, RunStatus], agents: Agents) -> None:
    """Print the runs that did not finish, each with its state and the reason that its last agent gave.

    Runs that failed for the same reason share one line with it, which is followed by their names.
    missing: how many runs the sweep lacks, with those that never started.
    """
    reasons = {event.run: event.reason for agent in agents for event in agent.failures()}
    alike: dict[tuple[str, str], list[str]] = {}
    for run_id, status in unfinished.items():
        key = status.state, reasons.get(run_id, "")
        alike.setdefault(key, []).append(f"{status.name} ({run_id})")
    for (state, reason), names in alike.items():
        if reason and len(names) > 1:
            print(f"{state}: {len(names)} runs: {reason}", *names, sep="\n  ", file=sys.stderr)
            continue
        for name in names:
            print(f"{state}: {name}{f': {reason}' if reason else ''}", file=sys.stderr)
    if never := missing - len(unfinished):
        runs = "1 run was" if never == 1 else f"{never} runs were"
        print(f"{runs} never started", file=sys.stderr)
