"""The agents of a sweep, from their start to their end, and what is said when they fail."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wandb_tl import signals
from wandb_tl.command_line import shell_command
from wandb_tl.sweeping import agent_processes, embedded_server, scheduler_process, slurm
from wandb_tl.sweeping.agent_processes import AgentProcess
from wandb_tl.sweeping.scheduler_process import SchedulerProcess
from wandb_tl.sweeping.slurm import AgentArray

if TYPE_CHECKING:
    from wandb_tl.analysis.results import Results, RunStatus

Agents = list[AgentProcess] | list[AgentArray]

LOGS = Path("wandb")


@dataclass(frozen=True)
class Outcome:
    """What became of a sweep's runs when its agents have ended.

    finished: how many have. missing: how many have not and should, with those that never started. unfinished:
    those of them that started, by id. was_cut: whether its scheduler was ended before it had finished.
    """

    finished: int
    missing: int
    unfinished: dict[str, RunStatus]
    was_cut: bool
    agents: Agents

    @property
    def is_complete(self) -> bool:
        return not self.missing and not self.was_cut

    def print_missing(self, command: str) -> None:
        """Print the runs that are missing, and the command that resumes the sweep."""
        from wandb_tl.sweeping.watching import print_unfinished

        print_unfinished(self.missing, self.unfinished, self.agents)
        print(f"To resume the sweep: {command}", file=sys.stderr)
        runs = "1 run" if self.missing == 1 else f"{self.missing} runs"
        what = f"{runs} did not finish" if self.missing else "the agents ended before the scheduler"
        print(f"error: {what}; see {_logs(self.agents)}", file=sys.stderr)


def run_agents(results: Results, options: argparse.Namespace) -> Outcome:
    """Run the agents of a sweep until they end. If it fails or is interrupted, they are stopped.

    results: of the sweep.
    """
    from wandb_tl.sweeping.watching import watch

    start, path, total = time.monotonic(), results.path, results.expected_runs()
    is_scheduled = scheduler_process.has_one(results.definition())
    # Before the agents start: from then on, a failure has to stop them.
    page = page_of(results, options)
    agents = start_agents(path, options)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped_on_failure(agents))
        scheduler = stack.enter_context(started_scheduler(path, agents, options)) if is_scheduled else None
        also = f", its scheduler to {scheduler.log}" if scheduler else ""
        print(f"Sweep {path}; its agents write to {_logs(agents)}{also}\nFollow it at {page}", flush=True)
        if options.local:
            print("(the link logs in one browser, within ten minutes)", flush=True)
        statuses = watch(agents, scheduler, results, total)
    finished = sum(status.finished for status in statuses.values())
    stopped = sum(status.stopped for status in statuses.values()) if results.ends_early() else 0
    early = f", {stopped} stopped early" if stopped else ""
    runs = "run" if finished == 1 else "runs"
    print(f"{finished} {runs} finished{early}, after {time.monotonic() - start:,.0f} s\n", flush=True)
    # Runs that a scheduler has queued and no agent has claimed end with the sweep. It may end before run_cap.
    begun = {run_id: one for run_id, one in statuses.items() if not (is_scheduled and one.pending)}
    unfinished = {
        run_id: one
        for run_id, one in begun.items()
        if not one.finished and not (results.ends_early() and one.stopped)
    }
    missing = len(unfinished) if is_scheduled else max(total or 0, len(begun)) - finished - stopped
    return Outcome(finished, missing, unfinished, scheduler is not None and scheduler.was_cut, agents)


def page_of(results: Results, options: argparse.Namespace) -> str:
    """The address of the sweep's page."""
    return embedded_server.page_link(results.path, options.root) if options.local else results.url


def _logs(agents: Agents) -> str:
    return ", ".join(str(agent.log) for agent in agents)


def start_agents(path: str, options: argparse.Namespace) -> Agents:
    """Start the agents of a sweep on this machine, or as jobs of SLURM."""
    if options.slurm is None:
        return agent_processes.start(path, options.agents, options.process_per_run, LOGS)
    return slurm.start(path, options.agents, options.process_per_run, LOGS, slurm.parse(options.slurm))


@contextlib.contextmanager
def started_scheduler(path: str, agents: Agents, options: argparse.Namespace) -> Iterator[SchedulerProcess]:
    """Start the scheduler of a sweep; after the block, end it: what it has queued stays in the sweep."""
    # An array of SLURM has several agents.
    count = len(agents) if options.slurm is None else options.agents or slurm.DEFAULT_AGENTS
    scheduler = scheduler_process.start(path, count, LOGS)
    try:
        yield scheduler
    except BaseException:
        with signals.ignored():
            scheduler.stop()
        raise
    scheduler.stop(scheduler_process.NOTICE_SECONDS)
    if scheduler.process.returncode == 0 and not scheduler.was_cut:
        # It has seen the end of the sweep after its agents have.
        for line in scheduler.news():
            print(line, file=sys.stderr)


@contextlib.contextmanager
def stopped_on_failure(agents: Agents) -> Iterator[None]:
    """Stop the agents if the block fails or is interrupted. Only Ctrl-C stops jobs of SLURM."""
    try:
        yield
    except BaseException as error:
        # A closing terminal may send several signals: they must not interrupt this.
        with signals.ignored():
            stop_agents(agents, isinstance(error, KeyboardInterrupt))
        raise


@contextlib.contextmanager
def resumable(command: str) -> Iterator[None]:
    """Print the command that resumes the sweep if the block fails or is interrupted."""
    try:
        yield
    except BaseException as error:
        interrupted = "Interrupted. " if isinstance(error, KeyboardInterrupt) else ""
        print(f"\n{interrupted}The sweep keeps its runs. To resume it: {command}", file=sys.stderr)
        raise


@contextlib.contextmanager
def before_the_agents() -> Iterator[None]:
    """Say that nothing is lost if Ctrl-C interrupts the block, which comes before the agents start."""
    try:
        yield
    except KeyboardInterrupt:
        print(
            "\nInterrupted before the agents started: nothing is lost. Start the same command again.",
            file=sys.stderr,
        )
        raise


def stop_agents(agents: Agents, interrupted: bool) -> None:
    """End agents on this machine; cancel jobs of SLURM if the user has interrupted this command."""
    agent_processes.stop(agent for agent in agents if isinstance(agent, AgentProcess))
    if interrupted:
        slurm.stop(agent for agent in agents if isinstance(agent, AgentArray))


def command_to_resume(path: str, options: argparse.Namespace) -> str:
    """The command that resumes an interrupted sweep with the same options."""
    flags = ["--local"] if options.local else []
    flags += ["--process-per-run"] if options.process_per_run else []
    for name in ("root", "agents", "slurm", "seeds", "reports", "readme"):
        if (value := getattr(options, name)) is not None:
            flags += [f"--{name}", str(value)]
    return shell_command("wandb_tl.run_sweep", path, *flags)
