"""Runs: made and changed by wandb-core, read by wandb.Api()."""

from __future__ import annotations

import json
import logging
import random
import secrets
from typing import Any, cast

from wandb_tl.local.api.context import Info, Payload, Resolver, Resolvers
from wandb_tl.local.api.inputs import (
    AlertInput,
    DeleteRunInput,
    IdInput,
    RewindRunInput,
    RunNameInput,
    UpdateRunStateInput,
    UpsertBucketInput,
)
from wandb_tl.local.api.resolvers import projects, viewer
from wandb_tl.local.api.scalars import argument
from wandb_tl.local.artifacts import run_deletion
from wandb_tl.local.errors import RequestError, one_line
from wandb_tl.local.records import filters
from wandb_tl.local.records.json_path import DEEPEST, JsonObject, find, json_object
from wandb_tl.local.records.names import decode_id, encode_id, ensure_project, project_named, run_named
from wandb_tl.local.records.rows import Columns, ProjectRow, RunRow, SqlValue
from wandb_tl.local.records.run_states import LIVE, RunState, checked, set_by_hand, started
from wandb_tl.local.records.streams import EVENTS, HISTORY, OUTPUT, line_count
from wandb_tl.local.records.transaction import Page, Transaction, existing
from wandb_tl.local.runs import alerts, branches, console, history, history_keys
from wandb_tl.local.runs.history import SampleSpec

log = logging.getLogger("wandb_tl.local")

# A GraphQL Int has 32 bits.
MOST_LINES = 2**31 - 1
ADJECTIVES = ("amber", "brisk", "calm", "daring", "eager", "fresh", "gentle", "honest", "jolly", "keen")
NOUNS = ("aspen", "brook", "cedar", "delta", "fjord", "grove", "harbor", "juniper", "lagoon", "orchard")

# The fields of UpsertBucketInput that are a column each; null does not change the column.
COLUMNS: dict[str, str] = {
    "groupName": "group_name",
    "jobType": "job_type",
    "displayName": "display_name",
    "description": "description",
    "notes": "notes",
    "commit": "commit_hash",
    "config": "config",
    "summaryMetrics": "summary",
    "host": "host",
    "jobProgram": "program",
    "jobRepo": "repo",
    "state": "state",
}


def by_id(db: Transaction, storage_id: str) -> RunRow:
    run = db.get("run", decode_id("Run", storage_id))
    if run is None:
        raise RequestError("there is no such run; it may have been deleted")
    return run


def run(row: ProjectRow, info: Info, name: str, desc: str | None = None) -> RunRow | None:
    return run_named(info.context.db, row, name)


def bucket(row: ProjectRow, info: Info, name: str, missingOk: bool | None = None) -> RunRow | None:
    """The run of this name, if a process has started it."""
    run = run_named(info.context.db, row, name)
    return run if run is not None and run["started_at"] is not None else None


def run_page(
    db: Transaction,
    condition: str,
    values: list[SqlValue],
    first: int | None,
    after: str | None,
    order: str | None = None,
) -> Page:
    """A page of the runs that meet an SQL condition."""
    terms, bound = filters.order_by(order)
    return db.page(f"SELECT * FROM run WHERE {condition} ORDER BY {terms}", [*values, *bound], first, after)


def runs(
    row: ProjectRow,
    info: Info,
    filters: str | None = None,
    order: str | None = None,
    first: int | None = None,
    after: str | None = None,
    **_: object,
) -> Page:
    condition, values = _in_project(row, filters)
    return run_page(info.context.db, condition, values, first, after, order)


def run_count(row: ProjectRow, info: Info, filters: str | None = None) -> int:
    condition, values = _in_project(row, filters)
    return int(info.context.db.value(f"SELECT count(*) FROM run WHERE {condition}", *values))


def _in_project(project: ProjectRow, text: str | None) -> tuple[str, list[SqlValue]]:
    condition, values = filters.where(text)
    return f"run.project_id = ? AND {condition}", [project["id"], *values]


def upsert_bucket(_row: object, info: Info, input: UpsertBucketInput) -> Payload:
    """Create, start, resume or change a run.

    The first upsert of a process names its host. With `id` it resumes the run; without `id` it restarts the
    run and deletes what an earlier process logged under this name, unless both write the run together. An
    upsert by `id` without a host comes from wandb.Api().
    """
    db, columns = info.context.db, _columns(info.context.db, input)
    storage_id = input.get("id")
    if storage_id:
        run = by_id(db, storage_id)
    else:
        project = ensure_project(db, input.get("entityName"), input.get("modelName"))
        named = run_named(db, project, input.get("name"))
        if named is None:
            return {"bucket": _make(db, project, input, columns), "inserted": True}
        run = named
    config = input.get("config")
    if info.context.shared and config is not None:
        columns["config"] = _merged(run["config"], config)
    if input.get("host") is not None:
        columns |= started(input.get("state"), db.now) | {"started_at": run["started_at"] or db.now}
        if run["state"] not in LIVE:
            # A request to stop the run's earlier process does not apply to this one.
            columns["stop_requested"] = 0
        if not storage_id and not info.context.shared:
            columns = _wiped(db, run) | columns
    db.update("run", run["id"], **columns)
    return {"bucket": db.get("run", run["id"]), "inserted": run["started_at"] is None}


def _columns(db: Transaction, input: UpsertBucketInput) -> Columns:
    """The columns that an input sets. Raises RequestError for an invalid config, summary or state."""
    fields: dict[str, Any] = {**input}
    for field in ("config", "summaryMetrics"):
        if fields.get(field) is not None and json_object(fields[field]) is None:
            raise RequestError(
                f"a run's {field} must be the JSON of an object, at most {DEEPEST} levels deep"
            )
    if fields.get("state") is not None:
        fields["state"] = checked(fields["state"])
    columns: Columns = {
        column: fields[field] for field, column in COLUMNS.items() if fields.get(field) is not None
    }
    if input.get("tags") is not None:
        columns["tags"] = json.dumps(input["tags"])
    sweep = input.get("sweep")
    if sweep:
        name = sweep.rpartition("/")[2]
        columns["sweep_id"] = db.value("SELECT id FROM sweep WHERE name = ?", name)
    return columns


def _make(db: Transaction, project: ProjectRow, input: UpsertBucketInput, columns: Columns) -> RunRow:
    number = db.value("SELECT count(*) FROM run WHERE project_id = ?", project["id"]) + 1
    names: Columns = {
        "name": input.get("name") or secrets.token_hex(4),
        "display_name": invented_name(number),
    }
    times: Columns = {"created_at": db.now, "started_at": db.now}
    row = names | columns | started(input.get("state"), db.now) | times
    run_id = db.insert("run", project_id=project["id"], **row)
    branches.fork(db, existing(db.get("run", run_id)), project, input.get("config"))
    return existing(db.get("run", run_id))


def _wiped(db: Transaction, run: RunRow) -> Columns:
    """Delete what a run has logged; returns the columns to reset."""
    for table in ("stream_line", "shared_line", "metric_value"):
        db.run(f"DELETE FROM {table} WHERE run_id = ?", run["id"])
    return {"summary": "{}", "history_keys": None, "history_keys_lines": 0}


def _merged(config: str, other: str) -> str:
    """The configs of two processes that write a run together; `_wandb` keeps the entries of each."""
    merged, added = json_object(config) or {}, json_object(other) or {}
    own = [_own(each) for each in (merged, added)]
    writers = _object(own[0].get("e")) | _object(own[1].get("e"))
    return json.dumps(merged | added | {"_wandb": {"value": own[0] | own[1] | {"e": writers}}})


def _own(config: JsonObject) -> JsonObject:
    """The client's own part of a run's config."""
    return _object(find(config, "_wandb.value"))


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def invented_name(number: int) -> str:
    return f"{random.choice(ADJECTIVES)}-{random.choice(NOUNS)}-{number}"


def rewind_run(_row: object, info: Info, input: RewindRunInput) -> Payload:
    run = _by_name(info.context.db, input)
    return {"rewound_run": branches.rewind(info.context.db, run, input["metricName"], input["metricValue"])}


def notify_alert(_row: object, info: Info, input: AlertInput) -> Payload:
    """Store an alert for the pages, and print it to the server's own output."""
    run = _by_name(info.context.db, input)
    wait_seconds = (input.get("waitDuration") or 0) / 1000
    is_new = alerts.note(info.context.db, run, input["severity"], input["title"], input["text"], wait_seconds)
    if not is_new:
        return {"success": True}
    origin = f"{input['severity']} from run {run['name']} ({run['display_name']})"
    log.warning("%s", one_line(f"{origin}: {input['title']}: {input['text']}"))
    return {"success": True}


def _by_name(db: Transaction, input: RunNameInput) -> RunRow:
    project = project_named(db, input.get("entityName"), input.get("projectName"))
    run = run_named(db, project, input["runName"])
    if run is None:
        raise RequestError(f"there is no run {input['runName']} in {input.get('projectName')}")
    return run


def stop_run(_row: object, info: Info, input: IdInput) -> Payload:
    run = by_id(info.context.db, input["id"])
    if run["state"] in LIVE:
        info.context.db.update("run", run["id"], stop_requested=1)
    return {"success": True}


def update_run_state(_row: object, info: Info, input: UpdateRunStateInput) -> Payload:
    run = by_id(info.context.db, input["id"])
    info.context.db.update("run", run["id"], **set_by_hand(run, input["state"]))
    return {"success": True}


def delete_run(_row: object, info: Info, input: DeleteRunInput) -> Payload:
    """Delete a run with its files, and with deleteArtifacts the versions that it logged, if it exists."""
    db = info.context.db
    run = db.get("run", decode_id("Run", input["id"]))
    if run is None:
        return {}
    info.context.unused_blobs.extend(run_deletion.delete(db, run, bool(input.get("deleteArtifacts"))))
    return {}


def wandb_config(row: RunRow, _info: Info, keys: list[str] | None = None) -> str:
    own = _own(json_object(row["config"]) or {})
    return json.dumps({key: own[key] for key in own if keys is None or key in keys})


def history_lines(
    row: RunRow,
    info: Info,
    minStep: int | None = None,
    maxStep: int | None = None,
    samples: int | None = None,
) -> list[str]:
    db = info.context.db
    if minStep is None and maxStep is None:
        return history.sampled(db, row["id"], HISTORY, samples)
    return history.between(db, row["id"], minStep or 0, history.LAST_STEP if maxStep is None else maxStep)


def sampled_history(row: RunRow, info: Info, specs: list[str]) -> list[list[JsonObject]]:
    parsed = [cast(SampleSpec, argument(spec, "a spec of a sampled history")) for spec in specs]
    return [history.sampled_keys(info.context.db, row["id"], spec) for spec in parsed]


def log_lines(
    row: RunRow,
    info: Info,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    **_: object,
) -> Page:
    return console.log_lines(info.context.db, row["id"], first, after, last)


def _line_count(stream: str) -> Resolver:
    return lambda row, info: min(line_count(info.context.db, row["id"], stream), MOST_LINES)


RESOLVERS: Resolvers = {
    "Project": {"run": run, "bucket": bucket, "runs": runs, "runCount": run_count},
    "Mutation": {
        "upsertBucket": upsert_bucket,
        "rewindRun": rewind_run,
        "notifyScriptableRunAlert": notify_alert,
        "stopRun": stop_run,
        "updateRunState": update_run_state,
        "deleteRun": delete_run,
    },
    "Run": {
        "id": lambda row, _: encode_id("Run", row["id"]),
        "project": projects.of_row,
        "user": viewer.user,
        "group": lambda row, _: row["group_name"],
        "commit": lambda row, _: row["commit_hash"],
        "exitcode": lambda row, _: row["exit_code"],
        "summaryMetrics": lambda row, _: row["summary"],
        "tags": lambda row, _: json.loads(row["tags"]),
        "readOnly": lambda *_: False,
        "shouldStop": lambda row, _: bool(row["stop_requested"]),
        "stopped": lambda row, _: row["state"] == RunState.KILLED,
        "failed": lambda row, _: row["state"] in (RunState.FAILED, RunState.CRASHED),
        "running": lambda row, _: row["state"] in LIVE,
        "wandbConfig": wandb_config,
        "sweepName": lambda row, info: info.context.db.value(
            "SELECT name FROM sweep WHERE id = ?", row["sweep_id"]
        ),
        "systemMetrics": lambda row, info: history.last_line(info.context.db, row["id"], EVENTS) or "{}",
        "historyLineCount": _line_count(HISTORY),
        "eventsLineCount": _line_count(EVENTS),
        "logLineCount": _line_count(OUTPUT),
        "historyTail": lambda row, info: history.tail(info.context.db, row["id"], HISTORY),
        "eventsTail": lambda row, info: history.tail(info.context.db, row["id"], EVENTS),
        "historyKeys": lambda row, info: history_keys.keys_of(info.context.db, row),
        "history": history_lines,
        "events": lambda row, info, samples=None: history.sampled(
            info.context.db, row["id"], EVENTS, samples
        ),
        "sampledHistory": sampled_history,
        "parquetHistory": lambda row, info, liveKeys=None: {
            "parquet_urls": [],
            "live_data": history.ends(info.context.db, row["id"], liveKeys),
        },
        "logLines": log_lines,
    },
}
