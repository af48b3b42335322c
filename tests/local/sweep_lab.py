"""A sweep with hand-driven agents and runs, on a store of its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from wandb_tl.local import file_stream, scheduler, silence, sweeps
from wandb_tl.local.store import Store, ensure_project, run_named


def make_lab(tmp_path: Path) -> SimpleNamespace:
    """A store, a project, and shorthands for what agents and runs say. Time goes on only by `wait`."""
    store, clock = Store(tmp_path / "wandb.sqlite"), [1000.0]
    store.listening_since = 0.0

    def inside(action):
        with store.transaction() as db:
            db.now = clock[0]
            return action(db)

    project = inside(lambda db: ensure_project(db, None, "p"))

    def sweep(config: str):
        return inside(lambda db: sweeps.create(db, project, config)[0])

    def agent(sweep):
        times = {"created_at": clock[0], "heartbeat_at": clock[0]}
        row = {"sweep_id": sweep["id"], "name": sweeps.short_id(), **times}
        return inside(lambda db: db.get("agent", db.insert("agent", **row)))

    def beat(agent, *alive: str):
        return inside(lambda db: scheduler.heartbeat(db, agent, set(alive)))

    def post(name: str, **body):
        return inside(lambda db: file_stream.receive(db, "local", "p", name, body))

    def state(name: str) -> str:
        return inside(lambda db: run_named(db, project, name))["state"]

    def sweep_state(sweep) -> str:
        return inside(lambda db: db.get("sweep", sweep["id"]))["state"]

    def wait(seconds: float):
        clock[0] += seconds
        inside(silence.give_up_silent)

    return SimpleNamespace(**locals())
