"""Which run an agent of a sweep gets, and when a sweep is over.

A hand-out is a row of `run`, written before the agent is told of it. A point of a grid counts as taken while
that row exists, so deleting a run frees its point. There is one transaction at a time, so claims are atomic.
"""

from __future__ import annotations

import json
import random
from functools import partial
from typing import Literal, NotRequired, TypedDict

from wandb_tl.local.records.rows import AgentRow, Columns, RunRow, SweepRow
from wandb_tl.local.records.run_states import (
    GIVEN_UP,
    GONE,
    IS_LIVE,
    IS_LOOKED_AFTER,
    IS_QUEUED,
    LIVE,
    STARTED_AGAIN,
    UNSTARTED_AGAIN,
    claimed,
    seen_alive,
)
from wandb_tl.local.records.transaction import Transaction, existing
from wandb_tl.local.sweeps import grid, observations, sweep_config
from wandb_tl.local.sweeps.observations import Trial
from wandb_tl.local.sweeps.sweep_config import Point, SweepConfig
from wandb_tl.local.sweeps.sweep_rows import add_run, finish
from wandb_tl.local.sweeps.sweep_states import SweepState

# A run whose process was given up for its silence alone may only be cut off by a broken network. Another
# process takes its place after this time, or at once if its own agent continues without it.
RETURN_SECONDS = 120

# A script asks every 15 s whether it should stop, and has the rest of this time to send what it has. A
# function under wandb.agent does not ask: its agent stops it after this time.
STOP_SECONDS = 45


class Command(TypedDict):
    """What an agent is to do: start or resume a run, stop one, or exit. Only runs have program and args."""

    type: Literal["run", "resume", "stop", "exit"]
    run_id: NotRequired[str]
    program: NotRequired[str]
    args: NotRequired[Point]


def heartbeat(db: Transaction, agent: AgentRow, alive: set[str]) -> list[Command]:
    """The commands for an agent that reports which runs' processes are alive.

    Commands of different types never mix, because an agent inside a script reads only the first one.
    """
    db.update("agent", agent["id"], heartbeat_at=db.now)
    sweep = existing(db.get("sweep", agent["sweep_id"]))
    unwanted = [*_not_its_own(db, sweep, agent, alive), *_look_after_runs(db, agent, alive)]
    if sweep["state"] == SweepState.CANCELED:
        return [_stop(name) for name in sorted(alive)] or [{"type": "exit"}]
    if alive or sweep["state"] == SweepState.PAUSED:
        return [_stop(name) for name in unwanted]
    if sweep["state"] == SweepState.FINISHED:
        return [{"type": "exit"}]
    config = sweep_config.parse(sweep["config"])
    command = _hand_out(db, sweep, config, agent)
    if command is not None:
        if sweep["state"] == SweepState.PENDING:
            db.update("sweep", sweep["id"], state=SweepState.RUNNING, updated_at=db.now)
        return [command]
    # A scheduler may queue another run, or say that the search is over.
    is_open = sweep_config.scheduled_outside(config) and not _has_made_all(db, sweep, config)
    if is_open or _may_need_repeating(db, sweep):
        return []
    finish(db, sweep)
    return [{"type": "exit"}]


def _stop(name: str) -> Command:
    return {"type": "stop", "run_id": name}


def _not_its_own(db: Transaction, sweep: SweepRow, agent: AgentRow, alive: set[str]) -> list[str]:
    """Those of the agent's live runs that were deleted or given to another agent meanwhile."""
    own = "SELECT 1 FROM run WHERE project_id = ? AND name = ? AND agent_id = ?"
    return [name for name in sorted(alive) if not db.one(own, sweep["project_id"], name, agent["id"])]


def _look_after_runs(db: Transaction, agent: AgentRow, alive: set[str]) -> list[str]:
    """Record which of the agent's runs are alive and which are gone; returns those overdue to stop."""
    overdue = []
    looked_after = f"SELECT * FROM run WHERE agent_id = ? AND {IS_LOOKED_AFTER}"
    for run in db.all(looked_after, agent["id"], row=RunRow):
        if run["name"] not in alive:
            if run["state"] in LIVE:
                # A script that ends well has reported it before its process is gone.
                db.run(f"UPDATE run SET {GONE} WHERE id = ?", run["id"])
            continue
        changes: Columns = {"heartbeat_at": db.now, **seen_alive(run)}
        if not run["stop_requested"]:
            changes["stop_seen_at"] = None
        elif run["stop_seen_at"] is None:
            changes["stop_seen_at"] = db.now
        elif db.now - run["stop_seen_at"] > STOP_SECONDS:
            overdue.append(run["name"])
        db.update("run", run["id"], **changes)
    return overdue


# Condition for runs in STARTED_AGAIN whose process is surely gone. ?2 is the time since which a run that was
# given up for its silence must not have been heard.
SURELY_GONE = (
    f"(NOT {GIVEN_UP} OR heartbeat_at IS NULL OR heartbeat_at < ?2"
    " OR heartbeat_at < (SELECT heartbeat_at FROM agent WHERE agent.id = run.agent_id))"
)


def _may_need_repeating(db: Transaction, sweep: SweepRow) -> bool:
    """Whether a run of the sweep may still have to be repeated, for which an agent must wait."""
    at_work = f"({IS_LIVE} AND NOT ({IS_QUEUED}))"
    query = f"SELECT 1 FROM run WHERE sweep_id = ? AND ({at_work} OR {STARTED_AGAIN}) LIMIT 1"
    return db.one(query, sweep["id"]) is not None


def _has_made_all(db: Transaction, sweep: SweepRow, config: SweepConfig) -> bool:
    """Whether the sweep has handed out as many points as its run_cap allows."""
    cap = config.get("run_cap")
    if cap is None:
        return False
    # A run in the queue of a scheduler has not been handed out yet.
    made = "SELECT count(*) FROM run WHERE sweep_id = ? AND sweep_args IS NOT NULL AND NOT prior"
    return bool(db.value(f"{made} AND NOT ({IS_QUEUED})", sweep["id"]) >= cap)


def _hand_out(db: Transaction, sweep: SweepRow, config: SweepConfig, agent: AgentRow) -> Command | None:
    """Claim a run for an agent: one to resume, else a new one, else one that never started; None if none.

    In this order, because an agent gives up after a few failures in a row: a run that failed before
    wandb.init will mostly fail again, and must not keep the agent from the points that work.
    """
    repeatable = "SELECT * FROM run WHERE sweep_id = ?1 AND {} ORDER BY id LIMIT 1"
    started = repeatable.format(f"{STARTED_AGAIN} AND {SURELY_GONE}")
    if run := db.one(started, sweep["id"], db.now - RETURN_SECONDS, row=RunRow):
        return _claim(db, run, config, agent, "resume")
    if run := _new_run(db, sweep, config):
        return _claim(db, run, config, agent, "run")
    if run := db.one(repeatable.format(UNSTARTED_AGAIN), sweep["id"], row=RunRow):
        return _claim(db, run, config, agent, "resume")
    return None


def _new_run(db: Transaction, sweep: SweepRow, config: SweepConfig) -> RunRow | None:
    """The oldest run in the queue of an outside scheduler, or a run for the sweep's next point."""
    if _has_made_all(db, sweep, config):
        return None
    if sweep_config.scheduled_outside(config):
        queued = f"SELECT * FROM run WHERE sweep_id = ? AND {IS_QUEUED} ORDER BY id"
        return db.one(queued, sweep["id"], row=RunRow)
    point = _next_point(db, sweep, config)
    return None if point is None else add_run(db, sweep, point)


def _claim(
    db: Transaction, run: RunRow, config: SweepConfig, agent: AgentRow, kind: Literal["run", "resume"]
) -> Command:
    """Give a run to an agent; returns the command for it."""
    db.update("run", run["id"], **claimed(agent["id"], db.now))
    point = json.loads(run["sweep_args"] or "{}")
    return {"type": kind, "run_id": run["name"], "program": config.get("program", ""), "args": point}


def _next_point(db: Transaction, sweep: SweepRow, config: SweepConfig) -> Point | None:
    if config["method"] == "grid":
        return grid.next_point(db, sweep, config)
    seed = sweep_config.seed_of(config)
    query = "SELECT count(*) FROM run WHERE sweep_id = ? AND sweep_args IS NOT NULL AND NOT prior"
    made = db.value(query, sweep["id"])
    # Without a seed not the number of rows: after a deletion that would draw a point again.
    last = db.value("SELECT seq FROM sqlite_sequence WHERE name = 'run'") or 0
    text = f"{sweep['name']}/{last}" if seed is None else f"{seed}/{made}"
    if config["method"] == "random":
        if seed is not None:
            return grid.next_draw(db, sweep, config, seed)
        return grid.draw(config, random.Random(text))
    propose = partial(_propose, config, observations.trials(db, sweep), text)
    return db.outside(("bayes", sweep["id"]), propose)


def _propose(config: SweepConfig, trials: list[Trial], seed: str) -> Point:
    # Imported here: numpy would more than double the memory of a server whose sweeps are grids.
    from wandb_tl.local.sweeps import bayes

    return bayes.propose(config, trials, bayes.seed_of(seed))
