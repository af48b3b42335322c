"""Sweeps in the database: created, changed, joined by prior runs, and given runs."""

from __future__ import annotations

import json
import secrets
import string
from functools import partial

import yaml

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import filters
from wandb_tl.local.records.rows import Columns, ProjectRow, RunRow, SqlValue, SweepRow
from wandb_tl.local.records.run_states import IS_CRASHED, IS_LIVE, IS_QUEUED, LIVE, RunState
from wandb_tl.local.records.transaction import Transaction, existing
from wandb_tl.local.sweeps import config_check, grid, observations, sweep_config
from wandb_tl.local.sweeps.sweep_config import Point, SweepConfig
from wandb_tl.local.sweeps.sweep_states import OVER, SweepState


def create(
    db: Transaction, project: ProjectRow, config: str, **details: SqlValue
) -> tuple[SweepRow, list[str]]:
    """A new sweep from YAML text, and warnings about the keys of its config that have no effect.

    Raises RequestError for a config that cannot be run.
    """
    warnings = db.outside(("config", config), partial(config_check.check, config))
    details.setdefault("display_name", sweep_config.parse(config).get("name"))
    sweep_id = db.insert(
        "sweep",
        project_id=project["id"],
        name=short_id(),
        config=config,
        state=SweepState.PENDING,
        created_at=db.now,
        updated_at=db.now,
        **details,
    )
    return existing(db.get("sweep", sweep_id)), warnings


def change(db: Transaction, sweep: SweepRow, config: str | None, state: str | None) -> list[str]:
    """Give a sweep another config or state; returns warnings about the config.

    A finished sweep that is set to RUNNING resumes: new and freed points are handed out, and runs that
    crashed too often may be repeated again. Raises RequestError for a config or a state that it cannot have.
    """
    changes: Columns = {"updated_at": db.now}
    warnings: list[str] = []
    if config:
        warnings = db.outside(("config", config), partial(config_check.check, config))
        changes["config"] = config
        if sweep["state"] in OVER and not state:
            warnings.append(f"the sweep is over: to resume it, type wandb sweep --resume {sweep['name']}")
    if state:
        changes["state"] = _move(db, sweep, state)
    db.update("sweep", sweep["id"], **changes)
    before, after = (sweep_config.parse(text) for text in (sweep["config"], config or sweep["config"]))
    if observations.noted_name(before) != observations.noted_name(after):
        observations.note_again(db, existing(db.get("sweep", sweep["id"])))
    return warnings


def cap_runs(db: Transaction, sweep: SweepRow, cap: int | None) -> list[str]:
    """Limit how many runs a sweep makes in all, None for no limit; returns warnings about the config.

    The runs that it has made stay. Raises RequestError for a sweep that is cancelled, and for a limit that
    its config cannot have.
    """
    if sweep["state"] == SweepState.CANCELED:
        raise RequestError("the sweep is cancelled, and makes no more runs")
    config = sweep_config.read(sweep["config"])
    if cap is None:
        config.pop("run_cap", None)
    else:
        config["run_cap"] = cap
    return change(db, sweep, yaml.safe_dump(config, sort_keys=False, allow_unicode=True), None)


def _move(db: Transaction, sweep: SweepRow, state: str) -> SweepState:
    """The state that a sweep is set to by this name; its runs are stopped or freed as the state requires."""
    if state.upper() not in list(SweepState):
        raise RequestError(f"a sweep cannot be {state}; it can be {', '.join(SweepState)}")
    new = SweepState(state.upper())
    if sweep["state"] == SweepState.CANCELED != new:
        raise RequestError("the sweep is cancelled, and cannot be resumed: make a new one")
    if new == SweepState.CANCELED:
        db.run(f"UPDATE run SET stop_requested = 1 WHERE sweep_id = ? AND {IS_LIVE}", sweep["id"])
    elif new == SweepState.RUNNING and sweep["state"] == SweepState.FINISHED:
        db.run(f"UPDATE run SET crashes = 0 WHERE sweep_id = ? AND {IS_CRASHED}", sweep["id"])
    if new in OVER:
        _empty_queue(db, sweep)
    return new


def finish(db: Transaction, sweep: SweepRow) -> None:
    """Move a sweep to FINISHED."""
    db.update("sweep", sweep["id"], state=SweepState.FINISHED, updated_at=db.now)
    _empty_queue(db, sweep)


def _empty_queue(db: Transaction, sweep: SweepRow) -> None:
    """Delete the runs that a scheduler has queued and no agent has claimed: they hold nothing but a point.

    `wandb sweep-scheduler` counts a run that was killed as one of run_cap when it starts again, so they must
    not end in that state.
    """
    db.run(f"DELETE FROM run WHERE sweep_id = ? AND {IS_QUEUED}", sweep["id"])


def join(db: Transaction, sweep: SweepRow, filter_text: str) -> None:
    """Make runs of the sweep's project prior runs of the sweep. A filter in JSON text chooses them.

    They count as observations, and one whose config is a point of the grid takes that point. Runs that the
    sweep itself made stay as they are. Raises RequestError if the filter matches no run, and for a run that
    works for another sweep or would be repeated by it.
    """
    condition, values = filters.where(filter_text)
    query = f"SELECT * FROM run WHERE run.project_id = ? AND {condition}"
    runs = db.all(query, sweep["project_id"], *values, row=RunRow)
    if not runs:
        raise RequestError("there is no such prior run in the sweep's project")
    config = sweep_config.parse(sweep["config"])
    for run in runs:
        if run["sweep_id"] == sweep["id"] and not run["prior"]:
            continue
        if run["sweep_id"] not in (None, sweep["id"]):
            _check_free(db, run)
        point = None
        if config["method"] == "grid" and config["parameters"]:
            point = grid.grid_point(config, json.loads(run["config"]))
        key = None if point is None else grid.canonical(point)
        db.update("run", run["id"], sweep_id=sweep["id"], agent_id=None, prior=1, sweep_args=key)
    observations.note_again(db, sweep)


def _check_free(db: Transaction, run: RunRow) -> None:
    """Raises RequestError for a run that its own sweep still works on or would repeat."""
    if run["state"] in LIVE:
        raise RequestError(f"the prior run {run['name']} is at work for another sweep")
    sweep = existing(db.get("sweep", run["sweep_id"]))
    if sweep["state"] not in OVER:
        raise RequestError(
            f"the prior run {run['name']} belongs to the sweep {sweep['name']}, which would run its"
            f" point again: end that sweep first, with wandb sweep --stop {sweep['name']}"
        )


def add_run(db: Transaction, sweep: SweepRow, point: Point, display_name: str | None = None) -> RunRow:
    """A pending run, for an agent to start."""
    number = db.value("SELECT count(*) FROM run WHERE project_id = ?", sweep["project_id"]) + 1
    run_id = db.insert(
        "run",
        project_id=sweep["project_id"],
        name=short_id(),
        display_name=display_name or f"sweep-{sweep['name']}-{number}",
        state=RunState.PENDING,
        config=json.dumps(point),
        sweep_id=sweep["id"],
        sweep_args=grid.canonical(point),
        created_at=db.now,
    )
    return existing(db.get("run", run_id))


def short_id() -> str:
    """A name of eight characters, which sweeps, their agents and their runs have."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def expected_runs(config: SweepConfig) -> int | None:
    """The number of runs that a sweep makes in all; None for a sweep without an end."""
    size = None
    if config["method"] == "grid" and config.get("parameters"):
        size = grid.distinct_points(config)
    limits = [limit for limit in (size, config.get("run_cap")) if limit is not None]
    # GraphQL's integers have 32 bits.
    return min(*limits, (1 << 31) - 1) if limits else None


def best_value(db: Transaction, sweep: SweepRow) -> float | None:
    """The best value of the sweep's metric in its runs' summaries, None if no summary has one."""
    config = sweep_config.parse(sweep["config"])
    name = sweep_config.metric_name(config)
    if name is None:
        return None
    best = "max" if sweep_config.maximizes(config) else "min"
    query = (
        f"SELECT {best}(value) FROM (SELECT pluck(summary, ?) AS value FROM run WHERE sweep_id = ?)"
        " WHERE typeof(value) IN ('integer', 'real') AND abs(value) < 9e999"
    )
    value: float | None = db.value(query, name, sweep["id"])
    return value
