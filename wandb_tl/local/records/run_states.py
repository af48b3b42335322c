"""The states of a run: what each means, who moves a run from which to which, and the SQL for it.

| state | what it means |
|:--|:--|
| pending | a sweep has handed the run out, or a scheduler has queued it; no process has started it |
| running | a process logs to it |
| preempting | its process has called `mark_preempting()` and still logs |
| finished | its process ended with exit code 0 |
| failed | its process ended with another exit code |
| killed | its process ended because a person, a sweep or hyperband asked it to stop |
| preempted | its process ended after `mark_preempting()`; its sweep hands it out again |
| crashed | its process is gone and has not reported how it ended |

| move | who makes it | from | to |
|:--|:--|:--|:--|
| `claimed` | a sweep that hands the run out | none, pending, crashed, preempted | pending |
| `started` | `wandb.init`, or a rewind | any | running, or the state that the client sends (`checked`) |
| `heard` | each request of the file stream | live, crashed | running, preempting |
| `ended` | the file stream's last request | any | finished, failed, killed, preempted |
| `seen_alive` | the heartbeat of the run's agent | crashed, preempted | pending, running, preempting |
| `set_by_hand` | `wandb.Api()` | see BY_HAND | pending, failed |
| `GONE` | the watch over silent runs, or the run's agent | live | killed, preempted, finished, crashed |

A live run is pending, running or preempting.

No other module spells a state. A move is a function that returns the columns to update (for one row), or the
assignments of an UPDATE (for many rows).
"""

from __future__ import annotations

from enum import StrEnum

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.rows import Columns, RunRow
from wandb_tl.local.records.transaction import Transaction


class RunState(StrEnum):
    """A run's state as the database and the clients spell it."""

    PENDING = "pending"
    RUNNING = "running"
    PREEMPTING = "preempting"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"
    PREEMPTED = "preempted"
    CRASHED = "crashed"


# A process works on the run, or an agent is about to start a process.
LIVE = (RunState.PENDING, RunState.RUNNING, RunState.PREEMPTING)
# The run has ended, and nobody waits for it. One that was preempted is handed out again.
ENDED = (RunState.FINISHED, RunState.FAILED, RunState.KILLED, RunState.CRASHED)
ENDED_BADLY = (RunState.FAILED, RunState.CRASHED, RunState.KILLED)
# The run's process has reported how it ended, or the server has done so in its place.
ENDED_KNOWINGLY = (RunState.FINISHED, RunState.FAILED, RunState.KILLED, RunState.PREEMPTED)

# The states that wandb.Api() may set, and the states that each may be set from.
BY_HAND: dict[str, tuple[RunState, ...]] = {
    RunState.PENDING: (RunState.RUNNING, RunState.FAILED, RunState.CRASHED, RunState.PREEMPTED),
    RunState.FAILED: (RunState.PENDING, RunState.RUNNING),
}

# The exit code of a run that ended by KeyboardInterrupt, also when the client raised it because the run was
# stopped on the server.
INTERRUPTED = 255

# A run's client sends a request at least every 30 s, also while it uploads; an agent sends one every 5 s for
# the runs whose processes it sees. The client repeats a lost request within seconds: one may be missing, two
# may not.
SILENCE_SECONDS = 50

# A run that an agent claimed and never started depends on the agent alone, whose silence is noticed earlier.
AGENT_SILENCE_SECONDS = 45

# How many times a crashed run is handed out again. A run that never reached wandb.init usually fails again,
# and gets fewer tries. A preempted run has no limit.
REPEATS = 2
REPEATS_UNSTARTED = 1


def sql_list(states: tuple[RunState, ...]) -> str:
    """States as an SQL list: ('pending', 'running')."""
    return "(" + ", ".join(f"'{state}'" for state in states) + ")"


IS_LIVE = f"state IN {sql_list(LIVE)}"
IS_RUNNING = f"state = '{RunState.RUNNING}'"
IS_FINISHED = f"state = '{RunState.FINISHED}'"
IS_CRASHED = f"state = '{RunState.CRASHED}'"
# Queued by a scheduler outside of the server; no agent has it. A sweep that ends deletes such runs.
IS_QUEUED = f"state = '{RunState.PENDING}' AND agent_id IS NULL"

# Ended without a report from its process. A run that crashed before may have two processes: the one that
# lost its connection and reports that it was preempted may not be the one that the run's agent watches.
GIVEN_UP = f"({IS_CRASHED} OR state = '{RunState.PREEMPTED}' AND (exit_code IS NULL OR crashes > 0))"
# An agent looks after a run that is live, and after one that was given up and may still be alive. The states
# come first, because there is an index of them.
IS_LOOKED_AFTER = (
    f"(state IN {sql_list((*LIVE, RunState.CRASHED, RunState.PREEMPTED))}"
    f" AND (state != '{RunState.PREEMPTED}' OR {GIVEN_UP}))"
)

# Assignments of an UPDATE that ends a run whose process is gone without a report. The log of a sweep's
# scheduler is a run that never reports its end.
GONE = (
    f"state = CASE WHEN stop_requested THEN '{RunState.KILLED}' WHEN preempting THEN '{RunState.PREEMPTED}'"
    " WHEN EXISTS (SELECT 1 FROM sweep WHERE sweep.project_id = run.project_id"
    f"  AND run.name = sweep.name || '-scheduler') THEN '{RunState.FINISHED}' ELSE '{RunState.CRASHED}' END,"
    " crashes = crashes + (NOT stop_requested AND NOT preempting)"
)

# Runs that a sweep hands out again: those that had started, and those that never started.
STARTED_AGAIN = (
    f"(sweep_args IS NOT NULL AND NOT prior AND (state = '{RunState.PREEMPTED}'"
    f" OR {IS_CRASHED} AND crashes <= {REPEATS} AND started_at IS NOT NULL))"
)
UNSTARTED_AGAIN = (
    "(sweep_args IS NOT NULL AND NOT prior AND started_at IS NULL"
    f" AND {IS_CRASHED} AND crashes <= {REPEATS_UNSTARTED})"
)


def checked(state: str) -> RunState:
    """The state that a client names. Raises RequestError if there is no such state."""
    if state not in list(RunState):
        raise RequestError(f"a run cannot be {state!r}; it can be {', '.join(RunState)}")
    return RunState(state)


def started(state: str | None, now: float) -> Columns:
    """Columns of a run that a process starts or resumes. state: what the client sends; None means running."""
    return {"state": state or RunState.RUNNING, "exit_code": None, "preempting": 0, "heartbeat_at": now}


def claimed(agent_id: int, now: float) -> Columns:
    """Columns of a run that is handed out to an agent."""
    cleared: Columns = {"preempting": 0, "exit_code": None, "stop_requested": 0, "stop_seen_at": None}
    return {"state": RunState.PENDING, "agent_id": agent_id, "claimed_at": now, **cleared}


def ended(run: RunRow, exit_code: int, preempting: bool) -> Columns:
    """Columns of a run whose process reports its end."""
    if exit_code == 0:
        state = RunState.FINISHED
    elif run["stop_requested"]:
        # A stopped run is not repeated, although its SIGTERM handler may have marked it as preempting.
        state = RunState.KILLED
    elif preempting:
        state = RunState.PREEMPTED
    else:
        state = RunState.KILLED if exit_code == INTERRUPTED else RunState.FAILED
    return {"state": state, "exit_code": exit_code, "preempting": int(preempting)}


def heard(run: RunRow, preempting: bool) -> Columns:
    """Columns of a run whose process logs; none for a run whose end was reported.

    A run that was given up for its silence is alive after all: that crash does not count.
    """
    if run["state"] not in (*LIVE, RunState.CRASHED):
        return {}
    state = RunState.PREEMPTING if preempting else RunState.RUNNING
    crashes = run["crashes"] - (run["state"] == RunState.CRASHED)
    return {"state": state, "preempting": int(preempting), "crashes": max(crashes, 0)}


def seen_alive(run: RunRow) -> Columns:
    """Columns of a run that was given up although its agent sees its process: the network was down."""
    if run["state"] == RunState.CRASHED:
        state = RunState.RUNNING if run["started_at"] else RunState.PENDING
        return {"state": state, "crashes": max(run["crashes"] - 1, 0)}
    if run["state"] == RunState.PREEMPTED:
        return {"state": RunState.PREEMPTING, "exit_code": None}
    return {}


def set_by_hand(run: RunRow, state: str) -> Columns:
    """Columns of a run whose state wandb.Api() sets. Raises RequestError for a move that is not allowed."""
    if run["sweep_id"] is not None:
        raise RequestError("the state of a sweep's run cannot be set")
    if run["state"] not in BY_HAND.get(state, ()):
        # The first words are those of W&B, for which scripts look.
        raise RequestError(f"invalid state transition: a run that is {run['state']} cannot be set to {state}")
    return {"state": state}


def exit_code_of(run: RunRow) -> int:
    """The exit code from which another server derives the run's state. A crashed run becomes failed there."""
    if run["state"] == RunState.FINISHED:
        return 0
    if run["state"] == RunState.KILLED:
        return INTERRUPTED
    code = run["exit_code"]
    return code if code is not None and code not in (0, INTERRUPTED) else 1


def give_up_silent(db: Transaction) -> None:
    """End the runs that have been silent for too long.

    Silence is counted from the moment when this server began to listen: it hears nothing while it is down.
    """
    silent = f"state IN {sql_list((RunState.RUNNING, RunState.PREEMPTING))}"
    waiting = f"state = '{RunState.PENDING}' AND claimed_at < ?1"
    for seconds, condition in (
        (SILENCE_SECONDS, f"{silent} AND coalesce(heartbeat_at, created_at) < ?1"),
        (AGENT_SILENCE_SECONDS, f"{waiting} AND agent_id IN (SELECT id FROM agent WHERE heartbeat_at < ?1)"),
    ):
        deadline = db.now - seconds
        if db.listening_since <= deadline:
            db.run(f"UPDATE run SET {GONE} WHERE {condition}", deadline)
