"""Sweeps and their agents."""

from __future__ import annotations

import json
from typing import Any

from graphql import GraphQLResolveInfo

from wandb_tl.local.api.resolvers import projects
from wandb_tl.local.api.resolvers.runs import run_page
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import filters as filtering
from wandb_tl.local.records import run_states
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.names import decode_id, encode_id, ensure_project, project_named
from wandb_tl.local.sweeps import hand_out, sweep_config, sweep_rows

# What sweeps can be filtered by. Users see states in capitals, and write them as runs' states are written.
SWEEPS = filtering.Kind(
    table="sweep",
    plural="sweeps",
    columns={
        "name": "sweep.name",
        "state": "sweep.state COLLATE NOCASE",
        "display_name": "sweep.display_name",
        "displayName": "sweep.display_name",
        "description": "sweep.description",
    },
    times={
        "created_at": "sweep.created_at",
        "createdAt": "sweep.created_at",
        "updated_at": "sweep.updated_at",
        "updatedAt": "sweep.updated_at",
    },
    sets={},
)


def sweep(row: Row, info: GraphQLResolveInfo, sweepName: str) -> Row | None:
    query = "SELECT * FROM sweep WHERE project_id = ? AND name = ?"
    return info.context.db.one(query, row["id"], sweepName)


def sweeps(
    row: Row,
    info: GraphQLResolveInfo,
    first: int | None = None,
    after: str | None = None,
    filters: str | None = None,
) -> Row:
    condition, values = filtering.where(filters, SWEEPS)
    query = f"SELECT * FROM sweep WHERE project_id = ? AND {condition} ORDER BY id DESC"
    return info.context.db.page(query, [row["id"], *values], first, after)


def total_sweeps(row: Row, info: GraphQLResolveInfo) -> int:
    return info.context.db.value("SELECT count(*) FROM sweep WHERE project_id = ?", row["id"])


def by_id(db: Transaction, storage_id: str) -> Row:
    found = db.get("sweep", decode_id("Sweep", storage_id))
    if found is None:
        raise RequestError("there is no such sweep; it may have been deleted")
    return found


def upsert_sweep(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    details = {
        "display_name": input.get("displayName"),
        "description": input.get("description"),
        "controller": input.get("controller"),
        "scheduler": input.get("scheduler"),
    }
    details = {column: value for column, value in details.items() if value is not None}
    if not input.get("id"):
        project = ensure_project(db, input.get("entityName"), input.get("projectName"))
        made, warnings = sweep_rows.create(db, project, input.get("config") or "", **details)
        if input.get("priorRunsFilters"):
            sweep_rows.join(db, made, input["priorRunsFilters"])
        return {"sweep": made, "config_validation_warnings": warnings}
    found = by_id(db, input["id"])
    db.update("sweep", found["id"], **details)
    warnings = sweep_rows.change(db, found, input.get("config"), input.get("state"))
    if input.get("priorRunsFilters"):
        sweep_rows.join(db, db.get("sweep", found["id"]), input["priorRunsFilters"])
    return {"sweep": db.get("sweep", found["id"]), "config_validation_warnings": warnings}


def enqueue_sweep_run(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    """Put a run in the queue of a sweep that `wandb sweep-scheduler` drives; agents take the oldest first."""
    db = info.context.db
    found = by_id(db, input["id"])
    if not sweep_config.scheduled_outside(sweep_config.parse(found["config"])):
        raise RequestError("the sweep has no scheduler in its config: the server itself chooses its runs")
    if found["state"] in ("FINISHED", "CANCELED"):
        raise RequestError(f"the sweep is {found['state'].lower()}")
    run = sweep_rows.add_run(db, found, json.loads(input["config"]), input.get("displayName"))
    # Core knows runs by the names that users see.
    return {"id": run["name"]}


def create_agent(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    found = db.one("SELECT * FROM sweep WHERE name = ?", input["sweep"].rpartition("/")[2])
    project = project_named(db, input.get("entityName"), input.get("projectName"))
    if found is None or (project is not None and found["project_id"] != project["id"]):
        raise RequestError(f"there is no sweep {input['sweep']}")
    times = {"created_at": db.now, "heartbeat_at": db.now}
    agent_id = db.insert(
        "agent", sweep_id=found["id"], name=sweep_rows.short_id(), host=input["host"], **times
    )
    return {"agent": db.get("agent", agent_id)}


def agent_heartbeat(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    found = db.get("agent", decode_id("Agent", input["id"]))
    if found is None:
        raise RequestError("there is no such agent; its sweep may have been deleted", 404)
    alive = {name for name, lives in json.loads(input.get("runState") or "{}").items() if lives}
    commands = hand_out.heartbeat(db, found, alive)
    return {"agent": found, "commands": json.dumps(commands)}


def method(row: Row, _info: GraphQLResolveInfo) -> str:
    return sweep_config.parse(row["config"])["method"]


def runs(row: Row, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None) -> Row:
    return run_page(info.context.db, "run.sweep_id = ?", [row["id"]], first, after)


def prior_runs(row: Row, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None) -> Row:
    return run_page(info.context.db, "run.sweep_id = ? AND run.prior", [row["id"]], first, after)


def controller_run_name(row: Row, _info: GraphQLResolveInfo) -> str | None:
    outside = sweep_config.scheduled_outside(sweep_config.parse(row["config"]))
    return f"{row['name']}-scheduler" if outside else None


def expected_runs(row: Row, _info: GraphQLResolveInfo) -> int | None:
    return sweep_rows.expected_runs(sweep_config.parse(row["config"]))


def run_count(row: Row, info: GraphQLResolveInfo) -> int:
    return info.context.db.value("SELECT count(*) FROM run WHERE sweep_id = ?", row["id"])


def agents(row: Row, info: GraphQLResolveInfo) -> Row:
    rows = info.context.db.all("SELECT * FROM agent WHERE sweep_id = ? ORDER BY id", row["id"])
    return {"edges": [{"node": agent} for agent in rows]}


def agent(row: Row, info: GraphQLResolveInfo, agentName: str) -> Row | None:
    query = "SELECT * FROM agent WHERE sweep_id = ? AND (name = ? OR id = ?)"
    return info.context.db.one(query, row["id"], agentName, decode_id("Agent", agentName))


def agent_state(row: Row, info: GraphQLResolveInfo) -> str:
    heard = row["heartbeat_at"] > info.context.db.now - run_states.AGENT_SILENCE_SECONDS
    return "RUNNING" if heard else "FINISHED"


def agent_runs(
    row: Row,
    info: GraphQLResolveInfo,
    first: int | None = None,
    after: str | None = None,
    order: str | None = None,
    **_: Any,
) -> Row:
    return run_page(info.context.db, "run.agent_id = ?", [row["id"]], first, after, order)


def total_runs(row: Row, info: GraphQLResolveInfo) -> int:
    return info.context.db.value("SELECT count(*) FROM run WHERE agent_id = ?", row["id"])


RESOLVERS = {
    "Project": {"sweep": sweep, "sweeps": sweeps, "totalSweeps": total_sweeps},
    "Mutation": {
        "upsertSweep": upsert_sweep,
        "enqueueSweepRun": enqueue_sweep_run,
        "createAgent": create_agent,
        "agentHeartbeat": agent_heartbeat,
    },
    "Sweep": {
        "id": lambda row, _: encode_id("Sweep", row["id"]),
        "project": projects.of_row,
        "method": method,
        "earlyStopJobRunning": lambda *_: False,
        "bestLoss": lambda row, info: sweep_rows.best_value(info.context.db, row),
        "controllerRunName": controller_run_name,
        "priorRuns": prior_runs,
        "runCount": run_count,
        "runCountExpected": expected_runs,
        "runs": runs,
        "agents": agents,
        "agent": agent,
    },
    "Agent": {
        "id": lambda row, _: encode_id("Agent", row["id"]),
        "state": agent_state,
        "totalRuns": total_runs,
        "runs": agent_runs,
    },
}
