"""Sweeps: which agent runs what, and when a sweep is over.

A hand-out is a row of `run`, written before the agent hears of it; a point of a grid counts as taken as long
as that row exists, so a deleted run gives its point back. One transaction at a time makes a claim atomic.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import sqlite3
import string
import threading
from typing import Any

import yaml

from wandb_tl.local import search
from wandb_tl.local.file_stream import LIVE
from wandb_tl.local.store import Database, Refused, Row, Store

log = logging.getLogger("wandb_tl.local")

STATES = ("PENDING", "RUNNING", "PAUSED", "FINISHED", "CANCELED")

# A run's client speaks at least every 30 s, an agent every 5 s.
SILENCE_SECONDS = 120

# Agents that are gone are missed earlier: a run they claimed and never started waits only for them.
AGENT_SILENCE_SECONDS = 45
WATCH_SECONDS = 10

# How often a crashed run is handed out again; one that never got as far as wandb.init mostly cannot. A
# preempted one is, however often.
REPEATS = 2
REPEATS_UNSTARTED = 1

# What becomes of a run whose process is gone without a word.
GONE = (
    "state = CASE WHEN stop_requested THEN 'killed' WHEN preempting THEN 'preempted' ELSE 'crashed' END,"
    " crashes = crashes + (NOT stop_requested AND NOT preempting)"
)


def keep_watch(store: Store, over: threading.Event) -> None:
    """Close silent runs until the server is over, whether or not anybody asks for them.

    It also shows the store that the server itself was awake all the while.
    """
    while not over.wait(WATCH_SECONDS):
        try:
            with store.transaction() as db:
                give_up_silent(db)
        except sqlite3.Error:
            # A full disk, say: it may have room the next time.
            log.exception("silent runs cannot be closed now")


def give_up_silent(db: Database) -> None:
    """Close runs that nobody has heard of for too long.

    The silence is counted from when this server began to listen: while it was down it could hear nobody.
    """
    for silence, silent_runs in (
        (SILENCE_SECONDS, "state IN ('running', 'preempting') AND coalesce(heartbeat_at, created_at) < ?1"),
        (
            AGENT_SILENCE_SECONDS,
            "state = 'pending' AND claimed_at < ?1 AND agent_id IN"
            " (SELECT id FROM agent WHERE heartbeat_at < ?1)",
        ),
    ):
        deadline = db.now - silence
        if db.listening_since <= deadline:
            db.run(f"UPDATE run SET {GONE} WHERE {silent_runs}", deadline)


def create(db: Database, project: Row, config: str, **details: Any) -> tuple[Row, list[str]]:
    """A new sweep from YAML text, and warnings about what it will not heed.

    Raises Refused for a wrong config.
    """
    parsed = parse(config)
    warnings = search.check(parsed)
    details.setdefault("display_name", parsed.get("name"))
    sweep_id = db.insert(
        "sweep",
        project_id=project["id"],
        name=short_id(),
        config=config,
        state="PENDING",
        created_at=db.now,
        updated_at=db.now,
        **details,
    )
    return db.get("sweep", sweep_id), warnings


def change(db: Database, sweep: Row, config: str | None, state: str | None) -> list[str]:
    """Give a sweep another config or state; returns warnings about the config."""
    changes: Row = {"updated_at": db.now}
    warnings: list[str] = []
    if config:
        warnings = search.check(parse(config))
        changes["config"] = config
    if state:
        if state.upper() not in STATES:
            raise Refused(f"a sweep cannot be {state}; it can be {', '.join(STATES)}")
        changes["state"] = state.upper()
        if sweep["state"] == "CANCELED" != changes["state"]:
            raise Refused("the sweep was cancelled, which is final")
        if changes["state"] == "CANCELED":
            db.run(
                "UPDATE run SET stop_requested = 1 WHERE sweep_id = ? AND state IN (?, ?, ?)",
                sweep["id"],
                *LIVE,
            )
    db.update("sweep", sweep["id"], **changes)
    return warnings


def parse(config: str) -> Row:
    try:
        return yaml.safe_load(config)
    except yaml.YAMLError as error:
        raise Refused(f"the sweep's config is no YAML: {' '.join(str(error).split())}") from None


def short_id() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def expected_runs(config: Row) -> int | None:
    """How many runs a sweep makes in all; None for one without an end."""
    size = search.grid_size(config) if config["method"] == "grid" else None
    limits = [limit for limit in (size, config.get("run_cap")) if limit is not None]
    return min(limits) if limits else None


def heartbeat(db: Database, agent: Row, alive: set[str]) -> list[Row]:
    """An agent says which runs' processes live; returns the commands for it.

    Commands: {"type": "run" or "resume", "run_id", "program", "args"}, {"type": "stop", "run_id"}, {"type":
    "exit"}.
    """
    db.update("agent", agent["id"], heartbeat_at=db.now)
    for run in db.all("SELECT * FROM run WHERE agent_id = ? AND state IN (?, ?, ?)", agent["id"], *LIVE):
        if run["name"] in alive:
            db.update("run", run["id"], heartbeat_at=db.now)
        else:
            # A script that ends well has said so before its process is gone.
            db.run(f"UPDATE run SET {GONE} WHERE id = ?", run["id"])
    sweep = db.get("sweep", agent["sweep_id"])
    if sweep["state"] == "CANCELED":
        return [{"type": "stop", "run_id": name} for name in sorted(alive)] or [{"type": "exit"}]
    if alive or sweep["state"] == "PAUSED":
        return []
    if sweep["state"] == "FINISHED":
        return [{"type": "exit"}]
    command = _hand_out(db, sweep, agent)
    if command is not None:
        if sweep["state"] == "PENDING":
            db.update("sweep", sweep["id"], state="RUNNING", updated_at=db.now)
        return [command]
    if _live_runs(db, sweep):
        # One of them may still be preempted or crash: somebody must be there to repeat it.
        return []
    db.update("sweep", sweep["id"], state="FINISHED", updated_at=db.now)
    return [{"type": "exit"}]


def _live_runs(db: Database, sweep: Row) -> int:
    return db.value("SELECT count(*) FROM run WHERE sweep_id = ? AND state IN (?, ?, ?)", sweep["id"], *LIVE)


def _hand_out(db: Database, sweep: Row, agent: Row) -> Row | None:
    """Claim a run for an agent: one to go on with, a new point, or one that never started; None if none.

    In this order, because an agent gives up after a few failures in a row: what failed before wandb.init
    will mostly fail again, and must not keep it from the points that work.
    """
    config = parse(sweep["config"])
    claim = {"state": "pending", "agent_id": agent["id"], "claimed_at": db.now}
    repeatable = "SELECT * FROM run WHERE sweep_id = ? AND sweep_args IS NOT NULL AND {} ORDER BY id LIMIT 1"
    started = "(state = 'preempted' OR state = 'crashed' AND crashes <= ? AND started_at IS NOT NULL)"
    unstarted = "state = 'crashed' AND crashes <= ? AND started_at IS NULL"
    again = db.one(repeatable.format(started), sweep["id"], REPEATS)
    arguments = None if again else _next_point(db, sweep, config)
    if arguments is None:
        again = again or db.one(repeatable.format(unstarted), sweep["id"], REPEATS_UNSTARTED)
        if again is None:
            return None
        db.update("run", again["id"], preempting=0, stop_requested=0, **claim)
        return _command("resume", again["name"], config, json.loads(again["sweep_args"]))
    name, number = (
        short_id(),
        db.value("SELECT count(*) FROM run WHERE project_id = ?", sweep["project_id"]) + 1,
    )
    db.insert(
        "run",
        project_id=sweep["project_id"],
        name=name,
        display_name=f"sweep-{sweep['name']}-{number}",
        config=json.dumps(arguments),
        sweep_id=sweep["id"],
        sweep_args=_canonical(arguments),
        created_at=db.now,
        **claim,
    )
    return _command("run", name, config, arguments)


def _command(kind: str, name: str, config: Row, arguments: Row) -> Row:
    return {"type": kind, "run_id": name, "program": config.get("program") or "", "args": arguments}


def _next_point(db: Database, sweep: Row, config: Row) -> Row | None:
    rows = db.all("SELECT sweep_args FROM run WHERE sweep_id = ? AND sweep_args IS NOT NULL", sweep["id"])
    if config.get("run_cap") is not None and len(rows) >= config["run_cap"]:
        return None
    if config["method"] == "random":
        # Not the number of rows: after a deletion that would draw a point again.
        last = db.value("SELECT seq FROM sqlite_sequence WHERE name = 'run'") or 0
        return search.draw(config, random.Random(f"{sweep['name']}/{last}"))
    taken = {row["sweep_args"] for row in rows}
    return next((point for point in search.grid(config) if _canonical(point) not in taken), None)


def _canonical(arguments: Row) -> str:
    return json.dumps(arguments, sort_keys=True)
