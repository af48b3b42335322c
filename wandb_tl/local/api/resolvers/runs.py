"""Runs: made and changed by wandb-core, read by wandb.Api()."""

from __future__ import annotations

import json
import logging
import random
import secrets
from typing import Any

from graphql import GraphQLResolveInfo

from wandb_tl.local.api.resolvers import projects, viewer
from wandb_tl.local.artifacts import blobs, versions
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import filters
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.json_path import find, json_object
from wandb_tl.local.records.names import decode_id, encode_id, ensure_project, project_named, run_named
from wandb_tl.local.records.run_states import LIVE, RunState, set_by_hand, started
from wandb_tl.local.records.streams import EVENTS, HISTORY, OUTPUT
from wandb_tl.local.runs import branches, file_stream, history, history_keys

log = logging.getLogger("wandb_tl.local")

ADJECTIVES = ("amber", "brisk", "calm", "daring", "eager", "fresh", "gentle", "honest", "jolly", "keen")
NOUNS = ("aspen", "brook", "cedar", "delta", "fjord", "grove", "harbor", "juniper", "lagoon", "orchard")

# The fields of UpsertBucketInput that are a column each; null leaves the column as it is.
COLUMNS = {
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


def by_id(db: Transaction, storage_id: str) -> Row:
    run = db.get("run", decode_id("Run", storage_id))
    if run is None:
        raise RequestError("there is no such run; it may have been deleted")
    return run


def run(row: Row, info: GraphQLResolveInfo, name: str, desc: str | None = None) -> Row | None:
    return run_named(info.context.db, row, name)


def bucket(row: Row, info: GraphQLResolveInfo, name: str, missingOk: bool | None = None) -> Row | None:
    found = run_named(info.context.db, row, name)
    return found if found is not None and found["started_at"] is not None else None


def run_page(
    db: Transaction,
    condition: str,
    values: list[Any],
    first: int | None,
    after: str | None,
    order: str | None = None,
) -> Row:
    terms, bound = filters.order_by(order)
    return db.page(f"SELECT * FROM run WHERE {condition} ORDER BY {terms}", [*values, *bound], first, after)


def runs(
    row: Row,
    info: GraphQLResolveInfo,
    filters: str | None = None,
    order: str | None = None,
    first: int | None = None,
    after: str | None = None,
    **_: Any,
) -> Row:
    condition, values = _in_project(row, filters)
    return run_page(info.context.db, condition, values, first, after, order)


def run_count(row: Row, info: GraphQLResolveInfo, filters: str | None = None) -> int:
    condition, values = _in_project(row, filters)
    return info.context.db.value(f"SELECT count(*) FROM run WHERE {condition}", *values)


def _in_project(project: Row, text: str | None) -> tuple[str, list[Any]]:
    condition, values = filters.where(text)
    return f"run.project_id = ? AND {condition}", [project["id"], *values]


def upsert_bucket(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    """Make, start, resume or change a run.

    The first upsert of a process names its host; with `id` it resumes, without it the run begins anew, and
    what an earlier process logged under this name is dropped, unless both write the run together. An upsert
    by `id` without a host comes from wandb.Api().
    """
    db, changes = info.context.db, _columns(info.context.db, input)
    found, project = None, None
    if input.get("id"):
        found = by_id(db, input["id"])
    else:
        project = ensure_project(db, input.get("entityName"), input.get("modelName"))
        found = run_named(db, project, input.get("name"))
    if found is None:
        return {"bucket": _make(db, project, input, changes), "inserted": True}
    if info.context.shared and "config" in changes:
        changes["config"] = _merged(found["config"], changes["config"])
    if input.get("host") is not None:
        changes |= started(input.get("state"), db.now) | {"started_at": found["started_at"] or db.now}
        if found["state"] not in LIVE:
            # What is asked of a run that lives, or is about to, is asked of this process.
            changes["stop_requested"] = 0
        if not input.get("id") and not info.context.shared:
            changes = _wiped(db, found) | changes
    db.update("run", found["id"], **changes)
    return {"bucket": db.get("run", found["id"]), "inserted": found["started_at"] is None}


def _columns(db: Transaction, input: Row) -> Row:
    """The columns that an UpsertBucketInput gives. RequestError for an invalid config or summary."""
    for field in ("config", "summaryMetrics"):
        if input.get(field) is not None and json_object(input[field]) is None:
            raise RequestError(f"a run's {field} must be the text of a JSON object")
    columns = {column: input[field] for field, column in COLUMNS.items() if input.get(field) is not None}
    if input.get("tags") is not None:
        columns["tags"] = json.dumps(input["tags"])
    if input.get("sweep"):
        name = input["sweep"].rpartition("/")[2]
        columns["sweep_id"] = db.value("SELECT id FROM sweep WHERE name = ?", name)
    return columns


def _make(db: Transaction, project: Row, input: Row, columns: Row) -> Row:
    number = db.value("SELECT count(*) FROM run WHERE project_id = ?", project["id"]) + 1
    names = {"name": input.get("name") or secrets.token_hex(4), "display_name": invented_name(number)}
    times = {"created_at": db.now, "started_at": db.now}
    row = names | columns | started(input.get("state"), db.now) | times
    run_id = db.insert("run", project_id=project["id"], **row)
    branches.fork(db, db.get("run", run_id), project, input.get("config"))
    return db.get("run", run_id)


def _wiped(db: Transaction, run: Row) -> Row:
    """Drop what a run has logged; returns the columns that follow."""
    for table in ("stream_line", "shared_line", "metric_value"):
        db.run(f"DELETE FROM {table} WHERE run_id = ?", run["id"])
    return {"summary": "{}", "history_keys": None, "history_keys_lines": 0}


def _merged(config: str, other: str) -> str:
    """The configs of two processes that write a run together; what `_wandb` says of each stays."""
    merged, added = json_object(config) or {}, json_object(other) or {}
    own = [_own(each) for each in (merged, added)]
    writers = (own[0].get("e") or {}) | (own[1].get("e") or {})
    return json.dumps(merged | added | {"_wandb": {"value": own[0] | own[1] | {"e": writers}}})


def _own(config: Row) -> Row:
    """What the client itself keeps in a run's config."""
    own = find(config, "_wandb.value")
    return own if isinstance(own, dict) else {}


def invented_name(number: int) -> str:
    return f"{random.choice(ADJECTIVES)}-{random.choice(NOUNS)}-{number}"


def rewind_run(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    found = _by_name(info.context.db, input)
    return {"rewound_run": branches.rewind(info.context.db, found, input["metricName"], input["metricValue"])}


def notify_alert(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    """There is nobody to send it to: it goes to the server's own output."""
    found = _by_name(info.context.db, input)
    title, text = (" ".join(input[part].split()) for part in ("title", "text"))
    log.warning(
        "%s from run %s (%s): %s: %s", input["severity"], found["name"], found["display_name"], title, text
    )
    return {"success": True}


def _by_name(db: Transaction, input: Row) -> Row:
    project = project_named(db, input.get("entityName"), input.get("projectName"))
    found = run_named(db, project, input["runName"])
    if found is None:
        raise RequestError(f"there is no run {input['runName']} in {input.get('projectName')}")
    return found


def stop_run(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    found = by_id(info.context.db, input["id"])
    if found["state"] in LIVE:
        info.context.db.update("run", found["id"], stop_requested=1)
    return {"success": True}


def update_run_state(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    found = by_id(info.context.db, input["id"])
    info.context.db.update("run", found["id"], **set_by_hand(found, input["state"]))
    return {"success": True}


def delete_run(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    """Forget a run with its files.

    With deleteArtifacts also the versions that it logged. Twice does no harm.
    """
    db = info.context.db
    found = db.get("run", decode_id("Run", input["id"]))
    if found is None:
        return {}
    if input.get("deleteArtifacts"):
        for artifact in db.all("SELECT * FROM artifact WHERE created_by = ?", found["id"]):
            info.context.dead_blobs.extend(versions.delete(db, artifact, with_aliases=True))
    blob_ids = [row["blob_id"] for row in db.all("SELECT blob_id FROM file WHERE run_id = ?", found["id"])]
    db.run("DELETE FROM run WHERE id = ?", found["id"])
    info.context.dead_blobs.extend(blobs.unused(db, blob_ids))
    return {}


def wandb_config(row: Row, _info: GraphQLResolveInfo, keys: list[str] | None = None) -> str:
    own = _own(json_object(row["config"]) or {})
    return json.dumps({key: own[key] for key in own if keys is None or key in keys})


def history_lines(
    row: Row,
    info: GraphQLResolveInfo,
    minStep: int | None = None,
    maxStep: int | None = None,
    samples: int | None = None,
) -> list[str]:
    db = info.context.db
    if minStep is None and maxStep is None:
        return history.sampled(db, row["id"], HISTORY, samples)
    return history.between(db, row["id"], int(minStep or 0), int(maxStep) if maxStep is not None else 1 << 62)


def sampled_history(row: Row, info: GraphQLResolveInfo, specs: list[str]) -> list[list[Row]]:
    return [history.sampled_keys(info.context.db, row["id"], json.loads(spec)) for spec in specs]


def log_lines(
    row: Row,
    info: GraphQLResolveInfo,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    **_: Any,
) -> Row:
    return history.log_lines(info.context.db, row["id"], first, after, last)


def _lines(stream: str) -> Any:
    return lambda row, info: file_stream.line_count(info.context.db, row["id"], stream)


RESOLVERS = {
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
        "historyLineCount": _lines(HISTORY),
        "eventsLineCount": _lines(EVENTS),
        "logLineCount": _lines(OUTPUT),
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
