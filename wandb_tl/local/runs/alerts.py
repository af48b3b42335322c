"""The alerts of runs: what a script says with `run.alert()`, for its run's and its sweep's page."""

from __future__ import annotations

from typing import NamedTuple

from wandb_tl.local.records.rows import RunRow
from wandb_tl.local.records.transaction import Transaction

# Of a page, the latest ones.
LATEST = 20


class Alert(NamedTuple):
    """severity: INFO, WARN or ERROR. created: Unix seconds. run, run_name: the run's id and its name."""

    severity: str
    title: str
    text: str
    created: float
    run: str
    run_name: str


def note(db: Transaction, run: RunRow, severity: str, title: str, text: str, wait_seconds: float) -> bool:
    """Store an alert of a run, unless one with the same title is younger than wait_seconds.

    Returns whether it was stored.
    """
    query = "SELECT max(created_at) FROM alert WHERE run_id = ? AND title = ?"
    last = db.value(query, run["id"], title)
    if last is not None and db.now - last < wait_seconds:
        return False
    db.insert("alert", run_id=run["id"], severity=severity, title=title, text=text, created_at=db.now)
    return True


def of_run(db: Transaction, run_id: int) -> list[Alert]:
    """The latest alerts of a run, the last one first."""
    return _where(db, "run.id = ?", run_id)


def of_sweep(db: Transaction, sweep_id: int) -> list[Alert]:
    """The latest alerts of a sweep's runs, the last one first."""
    return _where(db, "run.sweep_id = ?", sweep_id)


def _where(db: Transaction, condition: str, value: int) -> list[Alert]:
    rows = db.all(
        "SELECT severity, title, text, alert.created_at AS created, run.name AS run,"
        f" run.display_name AS run_name FROM alert JOIN run ON run.id = alert.run_id WHERE {condition}"
        " ORDER BY alert.id DESC LIMIT ?",
        value,
        LATEST,
    )
    return [Alert(**row) for row in rows]
