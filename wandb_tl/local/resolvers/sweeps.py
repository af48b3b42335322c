"""Sweeps and their agents."""

from __future__ import annotations

import json
from typing import Any

from graphql import GraphQLResolveInfo

from wandb_tl.local import scheduler
from wandb_tl.local.resolvers import projects
from wandb_tl.local.resolvers.runs import run_page
from wandb_tl.local.store import Refused, Row, decode_id, encode_id, ensure_project, project_named


def sweep(row: Row, info: GraphQLResolveInfo, sweepName: str) -> Row | None:
    query = "SELECT * FROM sweep WHERE project_id = ? AND name = ?"
    return info.context.db.one(query, row["id"], sweepName)


def sweeps(
    row: Row, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None, **_: Any
) -> Row:
    query = "SELECT * FROM sweep WHERE project_id = ? ORDER BY id DESC"
    return info.context.db.page(query, [row["id"]], first, after)


def total_sweeps(row: Row, info: GraphQLResolveInfo) -> int:
    return info.context.db.value("SELECT count(*) FROM sweep WHERE project_id = ?", row["id"])


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
        made, warnings = scheduler.create(db, project, input.get("config") or "", **details)
        return {"sweep": made, "config_validation_warnings": warnings}
    found = db.get("sweep", decode_id("Sweep", input["id"]))
    if found is None:
        raise Refused("there is no such sweep")
    db.update("sweep", found["id"], **details)
    warnings = scheduler.change(db, found, input.get("config"), input.get("state"))
    return {"sweep": db.get("sweep", found["id"]), "config_validation_warnings": warnings}


def create_agent(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    found = db.one("SELECT * FROM sweep WHERE name = ?", input["sweep"].rpartition("/")[2])
    project = project_named(db, input.get("entityName"), input.get("projectName"))
    if found is None or (project is not None and found["project_id"] != project["id"]):
        raise Refused(f"there is no sweep {input['sweep']}")
    times = {"created_at": db.now, "heartbeat_at": db.now}
    agent_id = db.insert(
        "agent", sweep_id=found["id"], name=scheduler.short_id(), host=input["host"], **times
    )
    return {"agent": db.get("agent", agent_id)}


def agent_heartbeat(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    found = db.get("agent", decode_id("Agent", input["id"]))
    if found is None:
        raise Refused("there is no such agent; its sweep may have been deleted", 404)
    alive = {name for name, lives in json.loads(input.get("runState") or "{}").items() if lives}
    commands = scheduler.heartbeat(db, found, alive)
    return {"agent": found, "commands": json.dumps(commands)}


def method(row: Row, _info: GraphQLResolveInfo) -> str:
    return scheduler.parse(row["config"])["method"]


def runs(row: Row, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None) -> Row:
    return run_page(info.context.db, "run.sweep_id = ?", [row["id"]], first, after)


def run_count(row: Row, info: GraphQLResolveInfo) -> int:
    return info.context.db.value("SELECT count(*) FROM run WHERE sweep_id = ?", row["id"])


def agents(row: Row, info: GraphQLResolveInfo) -> Row:
    rows = info.context.db.all("SELECT * FROM agent WHERE sweep_id = ? ORDER BY id", row["id"])
    return {"edges": [{"node": agent} for agent in rows]}


def agent(row: Row, info: GraphQLResolveInfo, agentName: str) -> Row | None:
    query = "SELECT * FROM agent WHERE sweep_id = ? AND (name = ? OR id = ?)"
    return info.context.db.one(query, row["id"], agentName, decode_id("Agent", agentName))


def agent_state(row: Row, info: GraphQLResolveInfo) -> str:
    heard = row["heartbeat_at"] > info.context.db.now - scheduler.AGENT_SILENCE_SECONDS
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
        "createAgent": create_agent,
        "agentHeartbeat": agent_heartbeat,
    },
    "Sweep": {
        "id": lambda row, _: encode_id("Sweep", row["id"]),
        "project": projects.of_row,
        "method": method,
        "earlyStopJobRunning": lambda *_: False,
        "runCount": run_count,
        "runCountExpected": lambda row, _: scheduler.expected_runs(scheduler.parse(row["config"])),
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
