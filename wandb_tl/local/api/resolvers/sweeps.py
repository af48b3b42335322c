"""Sweeps and their agents."""

from __future__ import annotations

import json

from wandb_tl.local.api.context import Info, Payload, Resolvers
from wandb_tl.local.api.inputs import (
    AgentHeartbeatInput,
    CreateAgentInput,
    EnqueueSweepRunInput,
    UpsertSweepInput,
)
from wandb_tl.local.api.resolvers import projects
from wandb_tl.local.api.resolvers.runs import run_page
from wandb_tl.local.api.scalars import argument
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import filters as filtering
from wandb_tl.local.records import run_states
from wandb_tl.local.records.names import decode_id, encode_id, ensure_project, project_named
from wandb_tl.local.records.rows import AgentRow, Columns, ProjectRow, SweepRow
from wandb_tl.local.records.transaction import Page, Transaction, existing
from wandb_tl.local.sweeps import hand_out, sweep_config, sweep_rows
from wandb_tl.local.sweeps.sweep_states import OVER, SweepState

# The keys that sweeps can be filtered by. A sweep's state is in capitals, but users also write it in lower
# case, like a run's state.
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


def sweep(row: ProjectRow, info: Info, sweepName: str) -> SweepRow | None:
    query = "SELECT * FROM sweep WHERE project_id = ? AND name = ?"
    return info.context.db.one(query, row["id"], sweepName, row=SweepRow)


def sweeps(
    row: ProjectRow,
    info: Info,
    first: int | None = None,
    after: str | None = None,
    filters: str | None = None,
) -> Page:
    condition, values = filtering.where(filters, SWEEPS)
    query = f"SELECT * FROM sweep WHERE project_id = ? AND {condition} ORDER BY id DESC"
    return info.context.db.page(query, [row["id"], *values], first, after)


def total_sweeps(row: ProjectRow, info: Info) -> int:
    return int(info.context.db.value("SELECT count(*) FROM sweep WHERE project_id = ?", row["id"]))


def by_id(db: Transaction, storage_id: str) -> SweepRow:
    sweep = db.get("sweep", decode_id("Sweep", storage_id))
    if sweep is None:
        raise RequestError("there is no such sweep; it may have been deleted")
    return sweep


def upsert_sweep(_row: object, info: Info, input: UpsertSweepInput) -> Payload:
    """Create a sweep; with `id`, change one."""
    db = info.context.db
    fields: Columns = {
        "display_name": input.get("displayName"),
        "description": input.get("description"),
        "controller": input.get("controller"),
        "scheduler": input.get("scheduler"),
    }
    columns = {column: value for column, value in fields.items() if value is not None}
    sweep_id = input.get("id")
    if sweep_id:
        sweep = by_id(db, sweep_id)
        db.update("sweep", sweep["id"], **columns)
        warnings = sweep_rows.change(db, sweep, input.get("config"), input.get("state"))
        sweep = existing(db.get("sweep", sweep["id"]))
    else:
        project = ensure_project(db, input.get("entityName"), input.get("projectName"))
        sweep, warnings = sweep_rows.create(db, project, input.get("config") or "", **columns)
    filters = input.get("priorRunsFilters")
    if filters:
        sweep_rows.join(db, sweep, filters)
    return {"sweep": sweep, "config_validation_warnings": warnings}


def enqueue_sweep_run(_row: object, info: Info, input: EnqueueSweepRunInput) -> Payload:
    """Add a run to the queue of a sweep that `wandb sweep-scheduler` drives; agents take the oldest first."""
    db = info.context.db
    sweep = by_id(db, input["id"])
    if not sweep_config.scheduled_outside(sweep_config.parse(sweep["config"])):
        raise RequestError("the sweep has no scheduler in its config: the server itself chooses its runs")
    if sweep["state"] in OVER:
        raise RequestError(f"the sweep is {sweep['state'].lower()}")
    point = argument(input["config"], "config")
    if not all(isinstance(value, dict) and "value" in value for value in point.values()):
        raise RequestError("the config of a run must be an object such as {lr: {value: 0.1}}")
    run = sweep_rows.add_run(db, sweep, point, input.get("displayName"))
    # wandb-core identifies runs by the names that users see.
    return {"id": run["name"]}


def create_agent(_row: object, info: Info, input: CreateAgentInput) -> Payload:
    db = info.context.db
    name = input["sweep"].rpartition("/")[2]
    sweep = db.one("SELECT * FROM sweep WHERE name = ?", name, row=SweepRow)
    project = project_named(db, input.get("entityName"), input.get("projectName"))
    if sweep is None or (project is not None and sweep["project_id"] != project["id"]):
        raise RequestError(f"there is no sweep {input['sweep']}")
    times = {"created_at": db.now, "heartbeat_at": db.now}
    agent_id = db.insert(
        "agent", sweep_id=sweep["id"], name=sweep_rows.short_id(), host=input["host"], **times
    )
    return {"agent": db.get("agent", agent_id)}


def agent_heartbeat(_row: object, info: Info, input: AgentHeartbeatInput) -> Payload:
    db = info.context.db
    agent = db.get("agent", decode_id("Agent", input["id"]))
    if agent is None:
        raise RequestError("there is no such agent; its sweep may have been deleted", 404)
    states = argument(input.get("runState") or "{}", "runState")
    alive = {name for name, is_alive in states.items() if is_alive}
    commands = hand_out.heartbeat(db, agent, alive)
    return {"agent": agent, "commands": json.dumps(commands)}


def method(row: SweepRow, _info: Info) -> str:
    return sweep_config.parse(row["config"])["method"]


def runs(row: SweepRow, info: Info, first: int | None = None, after: str | None = None) -> Page:
    return run_page(info.context.db, "run.sweep_id = ?", [row["id"]], first, after)


def prior_runs(row: SweepRow, info: Info, first: int | None = None, after: str | None = None) -> Page:
    return run_page(info.context.db, "run.sweep_id = ? AND run.prior", [row["id"]], first, after)


def controller_run_name(row: SweepRow, _info: Info) -> str | None:
    outside = sweep_config.scheduled_outside(sweep_config.parse(row["config"]))
    return f"{row['name']}-scheduler" if outside else None


def expected_runs(row: SweepRow, _info: Info) -> int | None:
    return sweep_rows.expected_runs(sweep_config.parse(row["config"]))


def run_count(row: SweepRow, info: Info) -> int:
    return int(info.context.db.value("SELECT count(*) FROM run WHERE sweep_id = ?", row["id"]))


def agents(row: SweepRow, info: Info) -> Payload:
    query = "SELECT * FROM agent WHERE sweep_id = ? ORDER BY id"
    rows = info.context.db.all(query, row["id"], row=AgentRow)
    return {"edges": [{"node": agent} for agent in rows]}


def agent(row: SweepRow, info: Info, agentName: str) -> AgentRow | None:
    query = "SELECT * FROM agent WHERE sweep_id = ? AND (name = ? OR id = ?)"
    return info.context.db.one(query, row["id"], agentName, decode_id("Agent", agentName), row=AgentRow)


def agent_state(row: AgentRow, info: Info) -> str:
    is_alive = row["heartbeat_at"] > info.context.db.now - run_states.AGENT_SILENCE_SECONDS
    return SweepState.RUNNING if is_alive else SweepState.FINISHED


def agent_runs(
    row: AgentRow,
    info: Info,
    first: int | None = None,
    after: str | None = None,
    order: str | None = None,
    **_: object,
) -> Page:
    return run_page(info.context.db, "run.agent_id = ?", [row["id"]], first, after, order)


def total_runs(row: AgentRow, info: Info) -> int:
    return int(info.context.db.value("SELECT count(*) FROM run WHERE agent_id = ?", row["id"]))


RESOLVERS: Resolvers = {
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
