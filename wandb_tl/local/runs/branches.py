"""Runs that continue from a step of the same run (`resume_from`) or of another run (`fork_from`)."""

from __future__ import annotations

import json

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import run_states
from wandb_tl.local.records.json_path import JsonObject, find, json_object, whole
from wandb_tl.local.records.names import run_named
from wandb_tl.local.records.rows import Columns, ProjectRow, RunRow
from wandb_tl.local.records.streams import EVENTS, HISTORY, OUTPUT
from wandb_tl.local.records.transaction import Transaction, existing


def rewind(db: Transaction, run: RunRow, metric: str, value: float) -> RunRow:
    """Delete what a run logged after a step, and restart the run there; returns the run.

    Raises RequestError for any metric but `_step`, the only one that the client offers.
    """
    if metric != "_step":
        raise RequestError(f"a run can be resumed from a _step, not from a {metric}")
    db.run("DELETE FROM stream_line WHERE run_id = ? AND stream = ? AND step > ?", run["id"], HISTORY, value)
    kept = "SELECT line FROM stream_line WHERE run_id = ?1 AND stream = ?2"
    db.run(f"DELETE FROM metric_value WHERE run_id = ?1 AND line NOT IN ({kept})", run["id"], HISTORY)
    # The console and the system metrics have no steps: they start again.
    db.run("DELETE FROM stream_line WHERE run_id = ? AND stream IN (?, ?)", run["id"], EVENTS, OUTPUT)
    changes: Columns = {"history_keys": None, "history_keys_lines": 0, "summary": _summary(db, run)}
    changes |= run_states.started(None, db.now) | {"stop_requested": 0}
    db.update("run", run["id"], **changes)
    return existing(db.get("run", run["id"]))


def fork(db: Transaction, run: RunRow, project: ProjectRow, config: str | None) -> None:
    """Copy the history into a new run, up to the step, of the run that its config names as branch point.

    Raises RequestError if there is no such run.
    """
    point = find(json_object(config or "{}"), "_wandb.value.branch_point")
    if not isinstance(point, dict):
        return
    parent = run_named(db, project, str(point.get("run_id")))
    if parent is None:
        raise RequestError(f"there is no run {point.get('run_id')} to fork from in {project['name']}")
    db.run(
        "INSERT INTO stream_line (run_id, stream, line, step, text)"
        " SELECT ?, stream, line, step, text FROM stream_line WHERE run_id = ? AND stream = ? AND step <= ?",
        run["id"],
        parent["id"],
        HISTORY,
        whole(point.get("step")),
    )
    db.update("run", run["id"], summary=_summary(db, run))


def _summary(db: Transaction, run: RunRow) -> str:
    """JSON of the last value of every key in a run's history."""
    summary: JsonObject = {}
    lines = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? ORDER BY line"
    for row in db.all(lines, run["id"], HISTORY):
        summary |= json_object(row["text"]) or {}
    return json.dumps(summary)
