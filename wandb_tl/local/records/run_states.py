"""The states of a run: which there are, who moves a run from one to another, and the SQL that goes with them.

| state | what it means |
|:--|:--|
| pending | a sweep has handed the run out, or a scheduler has queued it; no process has started it |
| running | a process logs to it |
| preempting | its process has said that its machine is wanted back |
| finished | its process ended with exit code 0 |
| failed | its process ended with another exit code |
| killed | its process ended because a person, a sweep or hyperband asked it to stop |
| preempted | it ended after `mark_preempting()`; its sweep hands it out again |
| crashed | its process is gone and has not said how it ended |

No other module spells a state. A move is one function (for a row in hand) or one SQL assignment (for many).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Transaction

Row = dict[str, Any]


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


# A process works on the run, or an agent is about to start one.
LIVE = (RunState.PENDING, RunState.RUNNING, RunState.PREEMPTING)
ENDED_BADLY = (RunState.FAILED, RunState.CRASHED, RunState.KILLED)
# The run's process, or the server in its place, has said how it ended.
ENDED_KNOWINGLY = (RunState.FINISHED, RunState.FAILED, RunState.KILLED, RunState.PREEMPTED)

# What wandb.Api() may set: the new state and the states from which.
BY_HAND = {
    RunState.PENDING: (RunState.RUNNING, RunState.FAILED, RunState.CRASHED, RunState.PREEMPTED),
    RunState.FAILED: (RunState.PENDING, RunState.RUNNING),
}

# Exit code that wandb's client gives a run which KeyboardInterrupt ended, as `stopped` does.
INTERRUPTED = 255

# A run's client speaks at least every 30 s, also while it uploads, and an agent every 5 s for the runs whose
# processes it sees. A lost message is sent again within seconds: one may be missing, two may not.
SILENCE_SECONDS = 50

# An agent that is gone is noticed earlier: a run that it claimed and never started waits only for it.
AGENT_SILENCE_SECONDS = 45

# How often a crashed run is handed out again. One that never reached wandb.init mostly cannot, and gets fewer
# tries. A preempted run has no limit.
REPEATS = 2
REPEATS_UNSTARTED = 1


def sql_list(states: tuple[RunState, ...]) -> str:
    """States as an SQL list: ('pending', 'running')."""
    return "(" + ", ".join(f"'{state}'" for state in states) + ")"


IS_LIVE = f"state IN {sql_list(LIVE)}"
IS_RUNNING = f"state = '{RunState.RUNNING}'"
IS_FINISHED = f"state = '{RunState.FINISHED}'"
IS_CRASHED = f"state = '{RunState.CRASHED}'"
# Queued by a scheduler outside of the server; no agent has it.
IS_QUEUED = f"state = '{RunState.PENDING}' AND agent_id IS NULL"

# Ended without a word of its process. A run that crashed before may have two processes: one that was cut off
# and says that it was preempted need not be the one that the run's agent watches.
GIVEN_UP = f"({IS_CRASHED} OR state = '{RunState.PREEMPTED}' AND (exit_code IS NULL OR crashes > 0))"
# An agent looks after a run that is live, or that was given up and may yet prove to be alive.
IS_LOOKED_AFTER = (
    f"(state IN {sql_list((*LIVE, RunState.CRASHED, RunState.PREEMPTED))}"
    f" AND (state != '{RunState.PREEMPTED}' OR {GIVEN_UP}))"
)

# Assignments of an UPDATE that ends a run whose process is gone without a word. The log of a sweep's
# scheduler is a run that never says that it is over.
GONE = (
    f"state = CASE WHEN stop_requested THEN '{RunState.KILLED}' WHEN preempting THEN '{RunState.PREEMPTED}'"
    " WHEN EXISTS (SELECT 1 FROM sweep WHERE sweep.project_id = run.project_id"
    f"  AND run.name = sweep.name || '-scheduler') THEN '{RunState.FINISHED}' ELSE '{RunState.CRASHED}' END,"
    " crashes = crashes + (NOT stop_requested AND NOT preempting)"
)
# Assignment of an UPDATE for a run that nobody is at work on and that is not wanted any more.
CANCELLED = f"state = '{RunState.KILLED}'"

# Runs that a sweep hands out again: those that had started, and those that never did.
STARTED_AGAIN = (
    f"(sweep_args IS NOT NULL AND NOT prior AND (state = '{RunState.PREEMPTED}'"
    f" OR {IS_CRASHED} AND crashes <= {REPEATS} AND started_at IS NOT NULL))"
)
UNSTARTED_AGAIN = (
    "(sweep_args IS NOT NULL AND NOT prior AND started_at IS NULL"
    f" AND {IS_CRASHED} AND crashes <= {REPEATS_UNSTARTED})"
)


def begun(state: str | None, now: float) -> Row:
    """Columns of a run that a process begins to work on, or goes on with.

    state: what the client asks for, running if it asks for none.
    """
    return {"state": state or RunState.RUNNING, "exit_code": None, "preempting": 0, "heartbeat_at": now}


def claimed(agent_id: int, now: float) -> Row:
    """Columns of a run that is handed out to an agent."""
    cleared = {"preempting": 0, "exit_code": None, "stop_requested": 0, "stop_seen_at": None}
    return {"state": RunState.PENDING, "agent_id": agent_id, "claimed_at": now, **cleared}


def ended(run: Row, exit_code: int, preempting: bool) -> Row:
    """Columns of a run whose process says that it has ended."""
    if exit_code == 0:
        state = RunState.FINISHED
    elif run["stop_requested"]:
        # Whoever stopped it does not want it repeated, though its SIGTERM handler may have marked it.
        state = RunState.KILLED
    elif preempting:
        state = RunState.PREEMPTED
    else:
        state = RunState.KILLED if exit_code == INTERRUPTED else RunState.FAILED
    return {"state": state, "exit_code": exit_code, "preempting": int(preempting)}


def spoken(run: Row, preempting: bool) -> Row:
    """Columns of a run whose process logs. Nothing for a run that has ended knowingly.

    A run that was given up for its silence is alive after all, and never crashed.
    """
    if run["state"] not in (*LIVE, RunState.CRASHED):
        return {}
    state = RunState.PREEMPTING if preempting else RunState.RUNNING
    crashes = run["crashes"] - (run["state"] == RunState.CRASHED)
    return {"state": state, "preempting": int(preempting), "crashes": max(crashes, 0)}


def seen_alive(run: Row) -> Row:
    """Columns of a run whose process its agent sees, though it had been given up: the network was down."""
    if run["state"] == RunState.CRASHED:
        state = RunState.RUNNING if run["started_at"] else RunState.PENDING
        return {"state": state, "crashes": max(run["crashes"] - 1, 0)}
    if run["state"] == RunState.PREEMPTED:
        return {"state": RunState.PREEMPTING, "exit_code": None}
    return {}


def set_by_hand(run: Row, state: str) -> Row:
    """Columns of a run whose state wandb.Api() sets. Raises RequestError for a move that is not allowed."""
    if run["sweep_id"] is not None:
        raise RequestError("the state of a sweep's run cannot be set")
    if state not in list(RunState) or run["state"] not in BY_HAND.get(RunState(state), ()):
        raise RequestError(f"a run that is {run['state']} cannot be set to {state}")
    return {"state": state}


def exit_code_of(run: Row) -> int:
    """The exit code from which another server derives the run's state. A crash ends as failed there."""
    if run["state"] == RunState.FINISHED:
        return 0
    if run["state"] == RunState.KILLED:
        return INTERRUPTED
    return run["exit_code"] if run["exit_code"] not in (None, 0, INTERRUPTED) else 1


def give_up_silent(db: Transaction) -> None:
    """End the runs that nobody has heard of for too long.

    Silence is counted from when this server began to listen: while it was down it could hear nobody.
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
