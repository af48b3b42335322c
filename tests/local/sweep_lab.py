"""A sweep with hand-driven agents and runs, on a database of its own; and how real agents are started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_lab import post

from wandb_tl.local.records import run_states
from wandb_tl.local.records.database import Database, Row
from wandb_tl.local.records.names import ensure_project, run_named
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.sweeps import hand_out, sweep_rows

# `wandb agent PATH` with its heartbeat of 5 s made shorter, for which there is no setting.
AGENT = """
import sys
from wandb import wandb_agent
from wandb.cli.cli import cli

wandb_agent.Agent.POLL_INTERVAL = 0.5
cli.main(["agent", sys.argv[1]])
"""


class SweepLab:
    """A database, a project, and shorthands for what agents and runs say. Time goes on only by `wait`."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "wandb.sqlite")
        self.database.listening_since = 0.0
        self.now = 1000.0
        self.project = self.inside(lambda db: ensure_project(db, None, "p"))

    def inside(self, action: Callable[[Transaction], Any]) -> Any:
        with self.database.transaction() as db:
            db.now = self.now
            return action(db)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.inside(run_states.give_up_silent)

    def sweep(self, config: str) -> Row:
        return self.inside(lambda db: sweep_rows.create(db, self.project, config)[0])

    def agent(self, sweep: Row) -> Row:
        times = {"created_at": self.now, "heartbeat_at": self.now}
        row = {"sweep_id": sweep["id"], "name": sweep_rows.short_id(), **times}
        return self.inside(lambda db: db.get("agent", db.insert("agent", **row)))

    def beat(self, agent: Row, *alive: str) -> list[Row]:
        return self.inside(lambda db: hand_out.heartbeat(db, agent, set(alive)))

    def post(self, name: str, **body: Any) -> Row:
        return self.inside(lambda db: post(db, name, **body))

    def state(self, name: str) -> str:
        return self.inside(lambda db: run_named(db, self.project, name))["state"]

    def sweep_state(self, sweep: Row) -> str:
        return self.inside(lambda db: db.get("sweep", sweep["id"]))["state"]
