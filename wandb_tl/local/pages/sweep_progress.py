"""How far a sweep is: its runs that ended, the time that is left, and its agents."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from wandb_tl.local.pages.console_lines import reason
from wandb_tl.local.pages.values import Run
from wandb_tl.local.records.rows import AgentRow, SweepRow
from wandb_tl.local.records.run_states import AGENT_SILENCE_SECONDS, ENDED, LIVE, RunState
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.sweeps.sweep_states import OVER

# Of a sweep's agents, those that were heard last.
AGENTS = 50
# Of the runs that failed or crashed, the newest ones, whose reasons the page gives.
FAILURES = 3


class Agent(NamedTuple):
    """An agent: the run that it works on, None between runs; silence: seconds since it was heard."""

    name: str
    host: str | None
    run: Run | None
    silence: float

    @property
    def is_at_work(self) -> bool:
        return self.silence < AGENT_SILENCE_SECONDS


class Failure(NamedTuple):
    """A run that failed or crashed, and the last line of its console, "" without one."""

    run: Run
    reason: str


@dataclass
class Progress:
    """The runs of a sweep by what became of them.

    ended: runs that will not run again; a run that waits for an agent, or that was preempted, has not ended.
    expected: how many the sweep makes in all, None for a sweep without an end. seconds_left: an estimate,
    None where there is nothing to estimate from, and for a sweep that starts no more runs. failures: the
    newest ones. is_without_result: runs have ended, and none of them has finished.
    """

    ended: int
    expected: int | None
    states: list[tuple[RunState, int]]
    agents: list[Agent]
    seconds_left: float | None
    failures: list[Failure]
    is_without_result: bool

    @property
    def at_work(self) -> int:
        return sum(agent.is_at_work for agent in self.agents)


def progress(db: Transaction, sweep: SweepRow, runs: list[Run], expected: int | None, over: bool) -> Progress:
    """The progress of a sweep with these runs. over: no run is handed out, and none is live."""
    ended = [run for run in runs if run.state in ENDED]
    states = Counter(run.state for run in runs if run.state != RunState.FINISHED)
    agents = [] if over else agents_of(db, sweep, runs)
    at_work = sum(agent.is_at_work for agent in agents)
    left = None if sweep["state"] in OVER else seconds_left(runs, expected, at_work)
    failed = [run for run in runs if run.state in (RunState.FAILED, RunState.CRASHED)]
    return Progress(
        ended=len(ended),
        expected=expected,
        states=[(state, states[state]) for state in RunState if states[state]],
        agents=agents,
        seconds_left=left,
        failures=[Failure(run, reason(db, run.row["id"])) for run in failed[: -FAILURES - 1 : -1]],
        is_without_result=bool(ended) and all(run.state != RunState.FINISHED for run in ended),
    )


def agents_of(db: Transaction, sweep: SweepRow, runs: list[Run]) -> list[Agent]:
    """The sweep's agents, the one heard last first."""
    query = "SELECT * FROM agent WHERE sweep_id = ? ORDER BY heartbeat_at DESC LIMIT ?"
    current = {run.row["agent_id"]: run for run in runs if run.live}
    return [
        Agent(agent["name"], agent["host"], current.get(agent["id"]), max(db.now - agent["heartbeat_at"], 0))
        for agent in db.all(query, sweep["id"], AGENTS, row=AgentRow)
    ]


def seconds_left(runs: list[Run], expected: int | None, agents: int) -> float | None:
    """Until a sweep has all its runs, if they take as long as the finished ones did, on the agents at work.

    None without an end, without agents at work, and before the first run has finished.
    """
    durations = [run.seconds for run in runs if run.state == RunState.FINISHED]
    if expected is None or not agents or not durations:
        return None
    mean = sum(durations) / len(durations)
    left = expected - sum(run.state in ENDED for run in runs)
    done = sum(min(run.seconds, mean) for run in runs if run.state in LIVE)
    return max(left * mean - done, 0) / min(agents, left) if left > 0 else 0.0
