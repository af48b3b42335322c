"""Runs that go on from a step of a run: of the same one (`resume_from`) or of another one (`fork_from`)."""

from __future__ import annotations

import json

from wandb_tl.local.file_stream import EVENTS, HISTORY, OUTPUT
from wandb_tl.local.store import Database, Refused, Row, find, json_object, run_named


def rewind(db: Database, run: Row, metric: str, value: float) -> Row:
    """Forget what a run logged after a step, and start it again there; returns the run.

    Raises Refused for another measure than `_step`, the only one that the client offers.
    """
    if metric != "_step":
        raise Refused(f"a run is taken up at a _step, not at a {metric}")
    db.run("DELETE FROM stream_line WHERE run_id = ? AND stream = ? AND step > ?", run["id"], HISTORY, value)
    kept = "SELECT line FROM stream_line WHERE run_id = ?1 AND stream = ?2"
    db.run(f"DELETE FROM metric_value WHERE run_id = ?1 AND line NOT IN ({kept})", run["id"], HISTORY)
    # The console and the system metrics are not counted in steps: they begin anew.
    db.run("DELETE FROM stream_line WHERE run_id = ? AND stream IN (?, ?)", run["id"], EVENTS, OUTPUT)
    changes: Row = {"history_keys": None, "history_keys_lines": 0, "summary": _summary(db, run)}
    changes |= {"state": "running", "exit_code": None, "stop_requested": 0, "preempting": 0}
    db.update("run", run["id"], heartbeat_at=db.now, **changes)
    return db.get("run", run["id"])


def fork(db: Database, run: Row, project: Row, config: str | None) -> None:
    """Give a new run the history of the run that its config says it branches from, up to that step.

    Raises Refused where there is no such run.
    """
    point = find(json_object(config or "{}"), "_wandb.value.branch_point")
    if not isinstance(point, dict):
        return
    parent = run_named(db, project, str(point.get("run_id")))
    if parent is None:
        raise Refused(f"there is no run {point.get('run_id')} to fork from in {project['name']}")
    db.run(
        "INSERT INTO stream_line (run_id, stream, line, step, text)"
        " SELECT ?, stream, line, step, text FROM stream_line WHERE run_id = ? AND stream = ? AND step <= ?",
        run["id"],
        parent["id"],
        HISTORY,
        point.get("step"),
    )
    db.update("run", run["id"], summary=_summary(db, run))


def _summary(db: Database, run: Row) -> str:
    """The last value of every key in a run's history."""
    summary: Row = {}
    lines = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? ORDER BY line"
    for row in db.all(lines, run["id"], HISTORY):
        summary |= json_object(row["text"]) or {}
    return json.dumps(summary)
