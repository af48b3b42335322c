"""The file stream: what a running script has logged since the last request.

wandb-core posts {"files": {stream: {"offset": int, "content": [line, ...]}}, "complete": bool, "exitcode":
int, "preempting": bool} every transmit interval, and {} every 30 s when there is nothing to say. `offset`
counts lines of the stream, so that a request which is sent twice changes nothing. The answer is {} or
{"stopped": true}.

Nothing is refused that could be understood later: a 4xx answer ends the run's uploads for good.
"""

from __future__ import annotations

import json
from typing import Any

from wandb_tl.local import history_keys, observations
from wandb_tl.local.store import Database, Refused, Row, project_named, run_named

HISTORY = history_keys.HISTORY
EVENTS = "wandb-events.jsonl"
SUMMARY = "wandb-summary.json"
OUTPUT = "output.log"

# States of a run that something still works on.
LIVE = ("pending", "running", "preempting")


def receive(
    db: Database, entity: str, project: str, name: str, body: Row, writer: str | None = None
) -> dict[str, Any]:
    """Store one request's lines and the state that follows from it; returns the answer.

    `writer` is one of several processes that write the run together (mode="shared"), None for the only one.
    Raises Refused (404) for a run that does not exist, because it was deleted.
    """
    run = run_named(db, project_named(db, entity, project), name)
    if run is None:
        raise Refused(f"there is no run {entity}/{project}/{name}", 404)
    for stream, chunk in (body.get("files") or {}).items():
        offset, lines = int(chunk.get("offset") or 0), chunk.get("content") or []
        if writer is None:
            write_lines(db, run, stream, offset, lines)
        else:
            _write_shared(db, run, stream, writer, offset, lines)
    db.update("run", run["id"], heartbeat_at=db.now, **_state_after(run, body))
    logged = (body.get("files") or {}).get(HISTORY)
    if logged and run["sweep_id"] is not None:
        offset, lines = int(logged.get("offset") or 0), logged.get("content") or []
        if writer is not None:
            # Its own lines lie among those of others: the sweep looks at all of them.
            offset, lines = 0, observations.history_of(db, run, HISTORY)
        observations.note(db, run, offset, lines)
        run = db.get("run", run["id"])
    return {"stopped": True} if run["stop_requested"] and not body.get("complete") else {}


def write_lines(db: Database, run: Row, stream: str, offset: int, lines: list[str]) -> None:
    """Put lines at their place in a stream. Later lines stay: progress bars rewrite earlier ones."""
    if not lines:
        return
    if stream == SUMMARY:
        db.update("run", run["id"], summary=lines[-1])
        return
    if stream == HISTORY and offset < run["history_keys_lines"]:
        db.update("run", run["id"], history_keys=None, history_keys_lines=0)
    counted = stream in (HISTORY, EVENTS)
    rows = (
        (run["id"], stream, line, _step(text) if counted else None, text)
        for line, text in enumerate(lines, start=offset)
    )
    db.many(
        "INSERT OR REPLACE INTO stream_line (run_id, stream, line, step, text) VALUES (?, ?, ?, ?, ?)", rows
    )
    if stream == HISTORY:
        history_keys.note(db, run["id"])


def _write_shared(db: Database, run: Row, stream: str, writer: str, offset: int, lines: list[str]) -> None:
    """Put one writer's lines behind those of the others, or where they went when they were sent before."""
    if stream == SUMMARY:
        known = json.loads(db.value("SELECT summary FROM run WHERE id = ?", run["id"]))
        lines = [json.dumps(known | json.loads(line)) for line in lines[-1:]]
        write_lines(db, run, stream, 0, lines)
        return
    place = (run["id"], stream, writer)
    for number, text in enumerate(lines, start=offset):
        query = "SELECT line FROM shared_line WHERE run_id = ? AND stream = ? AND writer = ? AND number = ?"
        line = db.value(query, *place, number)
        if line is None:
            line = line_count(db, run["id"], stream)
            db.run("INSERT INTO shared_line VALUES (?, ?, ?, ?, ?)", *place, number, line)
        write_lines(db, run, stream, line, [text])


def _step(text: str) -> int | None:
    try:
        step = json.loads(text).get("_step")
    except (ValueError, AttributeError):
        return None
    return int(step) if isinstance(step, (int, float)) else None


def _state_after(run: Row, body: Row) -> Row:
    preempting = bool(body.get("preempting") or run["preempting"])
    if body.get("complete"):
        code = int(body.get("exitcode") or 0)
        # `stopped` raises KeyboardInterrupt in the script, which then ends with 255, or with 1 where the
        # exception passed through `with wandb.init()`.
        if code == 0:
            state = "finished"
        elif run["stop_requested"]:
            # Whoever stopped it does not want it repeated, though its SIGTERM handler may think so.
            state = "killed"
        elif preempting:
            state = "preempted"
        else:
            state = "killed" if code == 255 else "failed"
        return {"state": state, "exit_code": code, "preempting": int(preempting)}
    if run["state"] in (*LIVE, "crashed"):
        # A run that was given up for its silence is alive after all, and never crashed.
        state = "preempting" if preempting else "running"
        crashes = run["crashes"] - (run["state"] == "crashed")
        return {"state": state, "preempting": int(preempting), "crashes": max(crashes, 0)}
    return {}


def line_count(db: Database, run_id: int, stream: str) -> int:
    last = db.value("SELECT max(line) FROM stream_line WHERE run_id = ? AND stream = ?", run_id, stream)
    return 0 if last is None else last + 1
