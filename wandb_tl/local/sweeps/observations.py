"""The values that a sweep's runs have logged of its metric, for Bayesian search, hyperband and targets.

A value is a finite number under the metric's name in a line of history. `number` counts a run's values from
1, as hyperband's bands do. Values are stored as they arrive, for those sweeps alone that need them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from wandb_tl.local.records.json_path import JsonObject, find, finite, json_object
from wandb_tl.local.records.rows import RunRow, SweepRow
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.records.transaction import Transaction, existing
from wandb_tl.local.sweeps import hyperband, sweep_config
from wandb_tl.local.sweeps.sweep_config import Point, SweepConfig
from wandb_tl.local.sweeps.sweep_states import SweepState


@dataclass(frozen=True)
class Trial:
    """A run as Bayesian search sees it: its point and the values that it logged of the metric.

    least, greatest and latest are those of its history, None if it logged none; summary is the value in its
    summary. `early_stopped`: hyperband asked it to stop.
    """

    state: str
    arguments: Point
    least: float | None = None
    greatest: float | None = None
    latest: float | None = None
    summary: float | None = None
    early_stopped: bool = False

    def extreme(self, least: bool) -> float | None:
        """The least or the greatest value that the run has logged."""
        logged = self.least if least else self.greatest
        values = [value for value in (logged, self.summary) if value is not None]
        return None if not values else min(values) if least else max(values)


def noted_name(config: SweepConfig) -> str | None:
    """The metric by whose values the sweep searches, stops runs or ends; None for a sweep that does not."""
    metric = config.get("metric")
    if metric is None or sweep_config.scheduled_outside(config):
        return None
    needed = config.get("early_terminate") or "target" in metric or config["method"] == "bayes"
    return metric["name"] if needed else None


def sign_of(config: SweepConfig) -> int:
    """The factor that turns the metric's values into values to be minimized."""
    return -1 if sweep_config.maximizes(config) else 1


def note(db: Transaction, run: RunRow, offset: int, rows: list[JsonObject | None]) -> None:
    """Store the values in lines of history that a run of a sweep has logged, from the line `offset` on.

    rows: the objects in the lines, None for a line without one. Hyperband may then ask this run and others to
    stop, and the sweep ends if its target is reached.
    """
    sweep = existing(db.get("sweep", run["sweep_id"]))
    config = sweep_config.parse(sweep["config"])
    name = noted_name(config)
    if not rows or name is None:
        return
    before, values = _write(db, run["id"], offset, [finite(find(row, name)) for row in rows])
    if not values:
        return
    sign = sign_of(config)
    if rule := hyperband.of_config(config):
        for band in rule.crossed(before, before + len(values)):
            hyperband.stop_bad_runs(db, sweep, rule, band, sign)
    target = config["metric"].get("target")
    reached = target is not None and min(sign * value for value in values) <= sign * target
    if reached and sweep["state"] == SweepState.RUNNING:
        db.update("sweep", sweep["id"], state=SweepState.FINISHED, updated_at=db.now)


def note_again(db: Transaction, sweep: SweepRow) -> None:
    """Store the values of all runs' histories anew: the metric has changed, or runs have joined."""
    name = noted_name(sweep_config.parse(sweep["config"]))
    db.run("DELETE FROM metric_value WHERE run_id IN (SELECT id FROM run WHERE sweep_id = ?)", sweep["id"])
    if name is None:
        return
    history = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? ORDER BY line"
    for run in db.all("SELECT id FROM run WHERE sweep_id = ?", sweep["id"]):
        lines = [row["text"] for row in db.all(history, run["id"], HISTORY)]
        _write(db, run["id"], 0, [_value(text, name) for text in lines])


def _write(db: Transaction, run_id: int, offset: int, logged: list[float | None]) -> tuple[int, list[float]]:
    """Store the values in lines; returns the number of values before these lines, and the values.

    logged: one for each line, None for a line without a value. Lines that are sent again replace the values
    that they brought before.
    """
    end = offset + len(logged)
    db.run("DELETE FROM metric_value WHERE run_id = ? AND line >= ? AND line < ?", run_id, offset, end)
    last = "SELECT number FROM metric_value WHERE run_id = ? AND line < ? ORDER BY line DESC LIMIT 1"
    before = db.value(last, run_id, offset) or 0
    values = [(line, value) for line, value in enumerate(logged, start=offset) if value is not None]
    db.many(
        "INSERT INTO metric_value (run_id, line, number, value) VALUES (?, ?, ?, ?)",
        [(run_id, line, number, value) for number, (line, value) in enumerate(values, start=before + 1)],
    )
    return before, [value for _, value in values]


def _value(text: str, name: str) -> float | None:
    # Most lines of a run that logs much do not hold the metric.
    if name.rpartition(".")[2] not in text and "\\" not in text:
        return None
    return finite(find(json_object(text), name))


def trials(db: Transaction, sweep: SweepRow) -> list[Trial]:
    """The sweep's runs in the order in which they were made. The sweep must have a metric."""
    name = sweep_config.parse(sweep["config"])["metric"]["name"]
    own = "(SELECT {} FROM metric_value WHERE run_id = run.id{})"
    rows = db.all(
        "SELECT state, early_stopped, coalesce(sweep_args, config) AS arguments,"
        " pluck(summary, ?1) AS summary,"
        f" {own.format('min(value)', '')} AS least, {own.format('max(value)', '')} AS greatest,"
        f" {own.format('value', ' ORDER BY line DESC LIMIT 1')} AS latest"
        " FROM run WHERE sweep_id = ?2 ORDER BY id",
        name,
        sweep["id"],
    )
    return [
        Trial(
            state=row["state"],
            arguments=json.loads(row["arguments"]),
            least=row["least"],
            greatest=row["greatest"],
            latest=row["latest"],
            summary=finite(row["summary"]),
            early_stopped=bool(row["early_stopped"]),
        )
        for row in rows
    ]
