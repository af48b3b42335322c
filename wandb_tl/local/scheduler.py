"""Which agent of a sweep runs what, and when a sweep is over.

A hand-out is a row of `run`, written before the agent hears of it; a point of a grid counts as taken as long
as that row exists, so a deleted run gives its point back. One transaction at a time makes a claim atomic.
"""

from __future__ import annotations

import hashlib
import json
import random

from wandb_tl.local import observations, search, sweep_config
from wandb_tl.local.file_stream import LIVE
from wandb_tl.local.silence import GONE
from wandb_tl.local.store import Database, Row
from wandb_tl.local.sweeps import add_run

# How often a crashed run is handed out again; one that never got as far as wandb.init mostly cannot. A
# preempted one is, however often.
REPEATS = 2
REPEATS_UNSTARTED = 1

# A run that was given up for its silence alone may live beyond a broken network: so long it is given before
# another process takes its place. Where its own agent goes on without it, nothing is waited for.
RETURN_SECONDS = 120

# Runs that are over without having said so. Of one that crashed before, a process that was cut off may still
# be about: where it says that it was preempted, that need not be the process of the run's agent.
GIVEN_UP = "(state = 'crashed' OR state = 'preempted' AND (exit_code IS NULL OR crashes > 0))"

# A script looks every 15 s whether it shall stop, and then has the rest of this to send what it has. A
# function under wandb.agent does not look: only its agent stops it.
STOP_SECONDS = 45


def heartbeat(db: Database, agent: Row, alive: set[str]) -> list[Row]:
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


def _not_its_own(db: Database, sweep: Row, agent: Row, alive: set[str]) -> list[str]:
    """Of the runs that an agent is at work on, those that were deleted or given to another meanwhile."""
    own = "SELECT 1 FROM run WHERE project_id = ? AND name = ? AND agent_id = ?"
    return [name for name in sorted(alive) if not db.one(own, sweep["project_id"], name, agent["id"])]


def _look_after_runs(db: Database, agent: Row, alive: set[str]) -> list[str]:
    """Note which of the agent's runs live and which are gone; returns those that should long have stopped."""
    overdue = []
    # The states first, because there is an index of them.
    looked_after = (
        "SELECT * FROM run WHERE agent_id = ? AND state IN (?, ?, ?, 'crashed', 'preempted')"
        f" AND (state != 'preempted' OR {GIVEN_UP})"
    )
    for run in db.all(looked_after, agent["id"], *LIVE):
        if run["name"] not in alive:
            if run["state"] in LIVE:
                # A script that ends well has said so before its process is gone.
                db.run(f"UPDATE run SET {GONE} WHERE id = ?", run["id"])
            continue
        changes: Row = {"heartbeat_at": db.now}
        if run["state"] == "crashed":
            # Given up while the network was down, which was no crash.
            state = "running" if run["started_at"] else "pending"
            changes |= {"state": state, "crashes": max(run["crashes"] - 1, 0)}
        elif run["state"] == "preempted":
            changes |= {"state": "preempting", "exit_code": None}
        if not run["stop_requested"]:
            changes["stop_seen_at"] = None
        elif run["stop_seen_at"] is None:
            changes["stop_seen_at"] = db.now
        elif db.now - run["stop_seen_at"] > STOP_SECONDS:
            overdue.append(run["name"])
        db.update("run", run["id"], **changes)
    return overdue


# Runs that may be handed out again: those that had begun, and those that never did.
STARTED_AGAIN = (
    "(sweep_args IS NOT NULL AND NOT prior AND (state = 'preempted'"
    f" OR state = 'crashed' AND crashes <= {REPEATS} AND started_at IS NOT NULL))"
)
UNSTARTED_AGAIN = (
    "(sweep_args IS NOT NULL AND NOT prior AND started_at IS NULL"
    f" AND state = 'crashed' AND crashes <= {REPEATS_UNSTARTED})"
)
# Of the first, those that nothing is waited for; ?2 is when one that only fell silent must have spoken last.
SURELY_GONE = (
    f"(NOT {GIVEN_UP} OR heartbeat_at IS NULL OR heartbeat_at < ?2"
    " OR heartbeat_at < (SELECT heartbeat_at FROM agent WHERE agent.id = run.agent_id))"
)


def _may_come_back(db: Database, sweep: Row) -> bool:
    """Whether a run may yet have to be repeated: somebody must be there to do it."""
    query = f"SELECT 1 FROM run WHERE sweep_id = ? AND (state IN (?, ?, ?) OR {STARTED_AGAIN}) LIMIT 1"
    return db.one(query, sweep["id"], *LIVE) is not None


def _hand_out(db: Database, sweep: Row, config: Row, agent: Row) -> Row | None:
    """Claim a run for an agent: one to go on with, a new point, or one that never started; None if none.

    In this order, because an agent gives up after a few failures in a row: what failed before wandb.init
    will mostly fail again, and must not keep it from the points that work.
    """
    repeatable = "SELECT * FROM run WHERE sweep_id = ?1 AND {} ORDER BY id LIMIT 1"
    again = db.one(
        repeatable.format(f"{STARTED_AGAIN} AND {SURELY_GONE}"), sweep["id"], db.now - RETURN_SECONDS
    )
    if again is None and sweep_config.scheduled_outside(config):
        queued = "SELECT * FROM run WHERE sweep_id = ? AND state = 'pending' AND agent_id IS NULL ORDER BY id"
        run = db.one(queued, sweep["id"])
        if run is not None:
            return _claim(db, run, config, agent, "run")
    elif again is None:
        arguments = _next_point(db, sweep, config)
        if arguments is not None:
            return _claim(db, add_run(db, sweep, arguments), config, agent, "run")
    again = again or db.one(repeatable.format(UNSTARTED_AGAIN), sweep["id"])
    return None if again is None else _claim(db, again, config, agent, "resume")


def _claim(db: Database, run: Row, config: Row, agent: Row, kind: str) -> Row:
    """Give a run to an agent; returns the command that says so."""
    cleared = {"preempting": 0, "exit_code": None, "stop_requested": 0, "stop_seen_at": None}
    db.update("run", run["id"], state="pending", agent_id=agent["id"], claimed_at=db.now, **cleared)
    arguments = json.loads(run["sweep_args"])
    return {"type": kind, "run_id": run["name"], "program": config.get("program") or "", "args": arguments}


def _next_point(db: Database, sweep: Row, config: Row) -> Row | None:
    cap = config.get("run_cap")
    made = "SELECT count(*) FROM run WHERE sweep_id = ? AND sweep_args IS NOT NULL AND NOT prior"
    if cap is not None and db.value(made, sweep["id"]) >= cap:
        return None
    if config["method"] == "grid":
        taken = db.all(
            "SELECT sweep_args FROM run WHERE sweep_id = ? AND sweep_args IS NOT NULL", sweep["id"]
        )
        seen = {row["sweep_args"] for row in taken}
        points = search.grid_keys(json.dumps(config["parameters"]))
        found = next((point for point in points if point not in seen), None)
        return None if found is None else json.loads(found)
    # Not the number of rows: after a deletion that would draw a point again.
    last = db.value("SELECT seq FROM sqlite_sequence WHERE name = 'run'") or 0
    seed = f"{sweep['name']}/{last}"
    if config["method"] == "random":
        return search.draw(config, random.Random(seed))
    return _likely_better_point(db, sweep, config, seed)


def _likely_better_point(db: Database, sweep: Row, config: Row, seed: str) -> Row:
    # Only here: numpy would more than double the memory of a server whose sweeps are grids.
    from wandb_tl.local import bayes

    trials = [bayes.Trial(**row) for row in observations.trials(db, sweep)]
    digest = hashlib.sha256(seed.encode()).digest()
    return bayes.propose(config, trials, int.from_bytes(digest[:8]))
