"""Which agent of a sweep runs what, and when a sweep is over.

A hand-out is a row of `run`, written before the agent hears of it; a point of a grid counts as taken as long
as that row exists, so a deleted run gives its point back. One transaction at a time makes a claim atomic.
"""

from __future__ import annotations

import hashlib
import json
import random

from wandb_tl.local.records.database import Row, Transaction
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
from wandb_tl.local.sweeps import grid, observations, sweep_config
from wandb_tl.local.sweeps.sweep_rows import add_run

# A run that was given up for its silence alone may live beyond a broken network: so long it is given before
# another process takes its place. Where its own agent goes on without it, nothing is waited for.
RETURN_SECONDS = 120

# A script looks every 15 s whether it shall stop, and then has the rest of this to send what it has. A
# function under wandb.agent does not look: only its agent stops it.
STOP_SECONDS = 45


def heartbeat(db: Transaction, agent: Row, alive: set[str]) -> list[Row]:
    """An agent says which runs' processes live; returns the commands for it.

    Commands: {"type": "run" or "resume", "run_id", "program", "args"}, {"type": "stop", "run_id"}, {"type":
    "exit"}. They never mix, because an agent within a script reads only the first.
    """
    db.update("agent", agent["id"], heartbeat_at=db.now)
    sweep = db.get("sweep", agent["sweep_id"])
    unwanted = [*_not_its_own(db, sweep, agent, alive), *_look_after_runs(db, agent, alive)]
    if sweep["state"] == "CANCELED":
        return [_stop(name) for name in sorted(alive)] or [{"type": "exit"}]
    if alive or sweep["state"] == "PAUSED":
        return [_stop(name) for name in unwanted]
    if sweep["state"] == "FINISHED":
        return [{"type": "exit"}]
    config = sweep_config.parse(sweep["config"])
    command = _hand_out(db, sweep, config, agent)
    if command is not None:
        if sweep["state"] == "PENDING":
            db.update("sweep", sweep["id"], state="RUNNING", updated_at=db.now)
        return [command]
    if sweep_config.scheduled_outside(config) or _may_come_back(db, sweep):
        return []
    db.update("sweep", sweep["id"], state="FINISHED", updated_at=db.now)
    return [{"type": "exit"}]


def _stop(name: str) -> Row:
    return {"type": "stop", "run_id": name}


def _not_its_own(db: Transaction, sweep: Row, agent: Row, alive: set[str]) -> list[str]:
    """Of the runs that an agent is at work on, those that were deleted or given to another meanwhile."""
    own = "SELECT 1 FROM run WHERE project_id = ? AND name = ? AND agent_id = ?"
    return [name for name in sorted(alive) if not db.one(own, sweep["project_id"], name, agent["id"])]


def _look_after_runs(db: Transaction, agent: Row, alive: set[str]) -> list[str]:
    """Note which of the agent's runs live and which are gone; returns those that should long have stopped."""
    overdue = []
    looked_after = f"SELECT * FROM run WHERE agent_id = ? AND {IS_LOOKED_AFTER}"
    for run in db.all(looked_after, agent["id"]):
        if run["name"] not in alive:
            if run["state"] in LIVE:
                # A script that ends well has said so before its process is gone.
                db.run(f"UPDATE run SET {GONE} WHERE id = ?", run["id"])
            continue
        changes: Row = {"heartbeat_at": db.now, **seen_alive(run)}
        if not run["stop_requested"]:
            changes["stop_seen_at"] = None
        elif run["stop_seen_at"] is None:
            changes["stop_seen_at"] = db.now
        elif db.now - run["stop_seen_at"] > STOP_SECONDS:
            overdue.append(run["name"])
        db.update("run", run["id"], **changes)
    return overdue


# Of the runs in STARTED_AGAIN, those whose process is surely gone; ?2 is when one that only fell silent must
# have spoken last.
SURELY_GONE = (
    f"(NOT {GIVEN_UP} OR heartbeat_at IS NULL OR heartbeat_at < ?2"
    " OR heartbeat_at < (SELECT heartbeat_at FROM agent WHERE agent.id = run.agent_id))"
)


def _may_come_back(db: Transaction, sweep: Row) -> bool:
    """Whether a run may yet have to be repeated: somebody must be there to do it."""
    query = f"SELECT 1 FROM run WHERE sweep_id = ? AND ({IS_LIVE} OR {STARTED_AGAIN}) LIMIT 1"
    return db.one(query, sweep["id"]) is not None


def _hand_out(db: Transaction, sweep: Row, config: Row, agent: Row) -> Row | None:
    """Claim a run for an agent: one to go on with, a new point, or one that never started; None if none.

    In this order, because an agent gives up after a few failures in a row: what failed before wandb.init
    will mostly fail again, and must not keep it from the points that work.
    """
    repeatable = "SELECT * FROM run WHERE sweep_id = ?1 AND {} ORDER BY id LIMIT 1"
    again = db.one(
        repeatable.format(f"{STARTED_AGAIN} AND {SURELY_GONE}"), sweep["id"], db.now - RETURN_SECONDS
    )
    if again is None and sweep_config.scheduled_outside(config):
        queued = f"SELECT * FROM run WHERE sweep_id = ? AND {IS_QUEUED} ORDER BY id"
        run = db.one(queued, sweep["id"])
        if run is not None:
            return _claim(db, run, config, agent, "run")
    elif again is None:
        arguments = _next_point(db, sweep, config)
        if arguments is not None:
            return _claim(db, add_run(db, sweep, arguments), config, agent, "run")
    again = again or db.one(repeatable.format(UNSTARTED_AGAIN), sweep["id"])
    return None if again is None else _claim(db, again, config, agent, "resume")


def _claim(db: Transaction, run: Row, config: Row, agent: Row, kind: str) -> Row:
    """Give a run to an agent; returns the command that says so."""
    db.update("run", run["id"], **claimed(agent["id"], db.now))
    arguments = json.loads(run["sweep_args"])
    return {"type": kind, "run_id": run["name"], "program": config.get("program") or "", "args": arguments}


def _next_point(db: Transaction, sweep: Row, config: Row) -> Row | None:
    cap = config.get("run_cap")
    made = "SELECT count(*) FROM run WHERE sweep_id = ? AND sweep_args IS NOT NULL AND NOT prior"
    if cap is not None and db.value(made, sweep["id"]) >= cap:
        return None
    if config["method"] == "grid":
        taken = db.all(
            "SELECT sweep_args FROM run WHERE sweep_id = ? AND sweep_args IS NOT NULL", sweep["id"]
        )
        seen = {row["sweep_args"] for row in taken}
        points = grid.grid_keys(json.dumps(config["parameters"]))
        found = next((point for point in points if point not in seen), None)
        return None if found is None else json.loads(found)
    # Not the number of rows: after a deletion that would draw a point again.
    last = db.value("SELECT seq FROM sqlite_sequence WHERE name = 'run'") or 0
    seed = f"{sweep['name']}/{last}"
    if config["method"] == "random":
        return grid.draw(config, random.Random(seed))
    return _likely_better_point(db, sweep, config, seed)


def _likely_better_point(db: Transaction, sweep: Row, config: Row, seed: str) -> Row:
    # Only here: numpy would more than double the memory of a server whose sweeps are grids.
    from wandb_tl.local.sweeps import bayes

    trials = [bayes.Trial(**row) for row in observations.trials(db, sweep)]
    digest = hashlib.sha256(seed.encode()).digest()
    return bayes.propose(config, trials, int.from_bytes(digest[:8]))
