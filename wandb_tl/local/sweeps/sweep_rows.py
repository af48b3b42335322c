"""Sweeps: made, changed, joined by runs of before, and given runs."""

from __future__ import annotations

import json
import secrets
import string
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import filters
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.run_states import CANCELLED, IS_CRASHED, IS_LIVE, IS_QUEUED, LIVE, RunState
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.sweeps import grid, observations, sweep_config

STATES = ("PENDING", "RUNNING", "PAUSED", "FINISHED", "CANCELED")


def create(db: Transaction, project: Row, config: str, **details: Any) -> tuple[Row, list[str]]:
    """A new sweep from YAML text, and warnings about what it will not heed.

    Raises RequestError for a wrong config.
    """
    parsed = sweep_config.parse(config)
    warnings = sweep_config.check(parsed)
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


def change(db: Transaction, sweep: Row, config: str | None, state: str | None) -> list[str]:
    """Give a sweep another config or state; returns warnings about the config.

    A sweep that is over goes on when it is set to RUNNING: new and freed points are handed out, and runs that
    crashed too often get all their chances again. Raises RequestError for a state that cannot be.
    """
    changes: Row = {"updated_at": db.now}
    warnings: list[str] = []
    if config:
        warnings = sweep_config.check(sweep_config.parse(config))
        changes["config"] = config
        if sweep["state"] in ("FINISHED", "CANCELED") and not state:
            warnings.append(f"the sweep is over; wandb sweep --resume {sweep['name']} goes on with it")
    if state:
        changes["state"] = state.upper()
        if changes["state"] not in STATES:
            raise RequestError(f"a sweep cannot be {state}; it can be {', '.join(STATES)}")
        if sweep["state"] == "CANCELED" != changes["state"]:
            raise RequestError("the sweep was cancelled, which is final")
        if changes["state"] == "CANCELED":
            _stop_runs(db, sweep)
        elif changes["state"] == "RUNNING" and sweep["state"] == "FINISHED":
            db.run(f"UPDATE run SET crashes = 0 WHERE sweep_id = ? AND {IS_CRASHED}", sweep["id"])
    db.update("sweep", sweep["id"], **changes)
    before, after = (sweep_config.parse(text) for text in (sweep["config"], config or sweep["config"]))
    if observations.noted_name(before) != observations.noted_name(after):
        observations.note_again(db, db.get("sweep", sweep["id"]), HISTORY)
    return warnings


def _stop_runs(db: Transaction, sweep: Row) -> None:
    db.run(f"UPDATE run SET stop_requested = 1 WHERE sweep_id = ? AND {IS_LIVE}", sweep["id"])
    # Nobody is at work on what waits in the queue of a scheduler.
    db.run(f"UPDATE run SET {CANCELLED} WHERE sweep_id = ? AND {IS_QUEUED}", sweep["id"])


def join(db: Transaction, sweep: Row, filter_text: str) -> None:
    """Runs of the sweep's project, chosen by a filter in JSON text, become prior runs of the sweep.

    They count as observations, and one that stands on a point of a grid takes it. Runs that the sweep itself
    made stay as they are. RequestError where there is no such run, and for one that another sweep works on
    or would only repeat.
    """
    condition, values = filters.where(filter_text)
    found = db.all(
        f"SELECT * FROM run WHERE run.project_id = ? AND {condition}", sweep["project_id"], *values
    )
    if not found:
        raise RequestError("there is no such prior run in the sweep's project")
    config = sweep_config.parse(sweep["config"])
    for run in found:
        if run["sweep_id"] == sweep["id"] and not run["prior"]:
            continue
        if run["sweep_id"] not in (None, sweep["id"]):
            if run["state"] in LIVE:
                raise RequestError(f"the prior run {run['name']} is at work for another sweep")
            other = db.get("sweep", run["sweep_id"])
            if other["state"] not in ("FINISHED", "CANCELED"):
                raise RequestError(
                    f"the prior run {run['name']} belongs to the sweep {other['name']}, which would run its"
                    f" point again: end it first, with wandb sweep --stop {other['name']}"
                )
        point = None
        if config["method"] == "grid" and config.get("parameters"):
            point = grid.grid_point(config, json.loads(run["config"]))
        own = None if point is None else grid.canonical(point)
        db.update("run", run["id"], sweep_id=sweep["id"], agent_id=None, prior=1, sweep_args=own)
    observations.note_again(db, sweep, HISTORY)


def add_run(db: Transaction, sweep: Row, arguments: Row, display_name: str | None = None) -> Row:
    """A run for an agent to start, in state pending. `arguments` is a point, {"lr": {"value": 0.1}, ...}."""
    number = db.value("SELECT count(*) FROM run WHERE project_id = ?", sweep["project_id"]) + 1
    run_id = db.insert(
        "run",
        project_id=sweep["project_id"],
        name=short_id(),
        display_name=display_name or f"sweep-{sweep['name']}-{number}",
        state=RunState.PENDING,
        config=json.dumps(arguments),
        sweep_id=sweep["id"],
        sweep_args=grid.canonical(arguments),
        created_at=db.now,
    )
    return db.get("run", run_id)


def short_id() -> str:
    """A name of eight characters, as sweeps, their agents and their runs have."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def expected_runs(config: Row) -> int | None:
    """How many runs a sweep makes in all; None for one without an end."""
    size = None
    if config["method"] == "grid" and config.get("parameters"):
        size = grid.distinct_points(config)
    limits = [limit for limit in (size, config.get("run_cap")) if limit is not None]
    return min(limits) if limits else None


def best_value(db: Transaction, sweep: Row) -> float | None:
    """The best value of the sweep's metric in its runs' summaries, None where there is none."""
    config = sweep_config.parse(sweep["config"])
    name = sweep_config.metric_name(config)
    if not isinstance(name, str):
        return None
    best = "max" if config["metric"].get("goal") == "maximize" else "min"
    query = (
        f"SELECT {best}(value) FROM (SELECT pluck(summary, ?) AS value FROM run WHERE sweep_id = ?)"
        " WHERE typeof(value) IN ('integer', 'real') AND abs(value) < 9e999"
    )
    return db.value(query, name, sweep["id"])
