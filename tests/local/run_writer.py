"""Writes sweeps and finished runs into a server over HTTP, as the client would, in milliseconds."""

from __future__ import annotations

import json
from typing import Any

from live_server import Server

# What run.define_metric("epoch") and define_metric("*", step_metric="epoch") put into the config.
OVER_EPOCHS = [{"1": "epoch", "6": [3]}, {"2": "*", "5": 1}]


def write_sweep(server: Server, project: str, definition: dict[str, Any]) -> str:
    """Create a sweep; returns its name."""
    document = """mutation ($config: String!, $project: String!) {
        upsertSweep(input: {config: $config, projectName: $project}) { sweep { name } } }"""
    made = server.query(document, config=json.dumps(definition), project=project)
    return made["upsertSweep"]["sweep"]["name"]


def write_run(
    server: Server,
    project: str,
    name: str,
    config: dict[str, Any],
    rows: list[dict[str, Any]],
    sweep: str | None = None,
    display_name: str | None = None,
    metrics: list[dict[str, Any]] = OVER_EPOCHS,
    finished: bool = True,
    exit_code: int = 0,
    console: list[str] | None = None,
) -> None:
    """Write a run with a row of history per step; its summary is the last row. console: lines on stderr."""
    values = {key: {"value": value} for key, value in config.items()}
    fields = {
        "modelName": project,
        "name": name,
        "displayName": display_name or name,
        "host": "h",
        "sweep": sweep,
        "config": json.dumps(values | {"_wandb": {"value": {"m": metrics}}}),
    }
    document = "mutation ($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted } }"
    server.query(document, input={key: value for key, value in fields.items() if value is not None})
    clock = {"_timestamp": 1.7e9, "_runtime": 0.0}
    lines = [
        json.dumps({"_step": step} | {key: start + step for key, start in clock.items()} | row)
        for step, row in enumerate(rows)
    ]
    files = {
        "wandb-history.jsonl": {"offset": 0, "content": lines},
        "wandb-summary.json": {"offset": 0, "content": lines[-1:]},
    }
    if console:
        lines = [f"ERROR 2026-11-01T12:00:00.000000 {line}" for line in console]
        files["output.log"] = {"offset": 0, "content": lines}
    end = {"complete": True, "exitcode": exit_code} if finished else {}
    status, _ = server.request(f"/files/local/{project}/{name}/file_stream", {"files": files, **end})
    assert status == 200
