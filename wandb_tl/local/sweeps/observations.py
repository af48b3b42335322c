"""What a sweep's runs have logged of its metric, noted as it arrives for those who search or stop by it.

A value is a finite number under the metric's name in a line of history. `number` counts a run's values from
1, and so do hyperband's bands. Only sweeps that need the values have them noted.
"""

from __future__ import annotations

import json

from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.json_path import find, finite, json_object
from wandb_tl.local.records.run_states import IS_RUNNING
from wandb_tl.local.sweeps import hyperband, sweep_config


def noted_name(config: Row) -> str | None:
    """The metric by whose values the sweep searches, stops runs or ends; None for a sweep that does not."""
    name = sweep_config.metric_name(config)
    if not isinstance(name, str) or sweep_config.scheduled_outside(config):
        return None
    wanted = config.get("early_terminate") or config["metric"].get("target") is not None
    return name if wanted or config["method"] == "bayes" else None


def note(db: Transaction, run: Row, offset: int, lines: list[str]) -> None:
    """A run of a sweep has logged lines of history, from the line `offset` on.

    May ask it and others to stop, if they are too bad by now, or end the sweep, if its target is reached.
    """
    sweep = db.get("sweep", run["sweep_id"])
    config = sweep_config.parse(sweep["config"])
    name = noted_name(config)
    if not lines or name is None:
        return
    before, values = _write(db, run["id"], name, offset, lines)
    if not values:
        return
    rule = hyperband.of_config(config)
    for band in rule.crossed(before, before + len(values)) if rule else ():
        _stop_bad_runs(db, sweep, rule, band, sign_of(config))
    target = config["metric"].get("target")
    if isinstance(target, (int, float)) and sweep["state"] == "RUNNING":
        sign = sign_of(config)
        if min(sign * value for value in values) <= sign * target:
            db.update("sweep", sweep["id"], state="FINISHED", updated_at=db.now)


def note_again(db: Transaction, sweep: Row, stream: str) -> None:
    """Read all histories, which are in this stream, anew: the metric has changed, or runs have joined."""
    name = noted_name(sweep_config.parse(sweep["config"]))
    db.run("DELETE FROM metric_value WHERE run_id IN (SELECT id FROM run WHERE sweep_id = ?)", sweep["id"])
    if name is None:
        return
    for run in db.all("SELECT id FROM run WHERE sweep_id = ?", sweep["id"]):
        _write(db, run["id"], name, 0, _history_of(db, run, stream))


def _history_of(db: Transaction, run: Row, stream: str) -> list[str]:
    query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? ORDER BY line"
    return [row["text"] for row in db.all(query, run["id"], stream)]


def sign_of(config: Row) -> int:
    """What makes the metric's values ones to be minimized."""
    return -1 if config["metric"].get("goal") == "maximize" else 1


def _write(db: Transaction, run_id: int, name: str, offset: int, lines: list[str]) -> tuple[int, list[float]]:
    """Note the values of lines; returns how many there were before, and the values.

    Lines that are sent again take the place of what they brought before.
    """
    end = offset + len(lines)
    db.run("DELETE FROM metric_value WHERE run_id = ? AND line >= ? AND line < ?", run_id, offset, end)
    last = "SELECT number FROM metric_value WHERE run_id = ? AND line < ? ORDER BY line DESC LIMIT 1"
    before = db.value(last, run_id, offset) or 0
    found = [
        (line, value)
        for line, text in enumerate(lines, start=offset)
        if (value := _value(text, name)) is not None
    ]
    db.many(
        "INSERT INTO metric_value (run_id, line, number, value) VALUES (?, ?, ?, ?)",
        [(run_id, line, number, value) for number, (line, value) in enumerate(found, start=before + 1)],
    )
    return before, [value for _, value in found]


def _value(text: str, name: str) -> float | None:
    # Most lines of a run that logs much do not hold the metric.
    if name.rpartition(".")[2] not in text and "\\" not in text:
        return None
    return finite(find(json_object(text), name))


def _stop_bad_runs(db: Transaction, sweep: Row, rule: hyperband.Hyperband, band: int, sign: int) -> None:
    """Ask the running runs that a band is the last one of to stop where they do not come up to it."""
    reached = db.all(
        "SELECT value FROM run JOIN metric_value ON run_id = run.id WHERE sweep_id = ? AND number = ?",
        sweep["id"],
        band,
    )
    threshold = rule.threshold([sign * row["value"] for row in reached])
    candidates = db.all(
        "SELECT run.id, max(number) AS count, min(value * ?1) AS best,"
        " max(CASE WHEN number = ?2 THEN value * ?1 END) AS there"
        " FROM run JOIN metric_value ON run_id = run.id"
        f" WHERE sweep_id = ?3 AND {IS_RUNNING} AND NOT stop_requested GROUP BY run.id",
        sign,
        band,
        sweep["id"],
    )
    for run in candidates:
        judged = run["there"] if rule.strict else run["best"]
        # None where a line that was sent again has lost its value.
        if rule.band_of(run["count"]) == band and judged is not None and judged > threshold:
            db.update("run", run["id"], stop_requested=1, early_stopped=1)


def trials(db: Transaction, sweep: Row) -> list[Row]:
    """The sweep's runs in their order, with what they reached of the metric.

    Columns: state, arguments (a point), least, greatest and latest (of history, None if it has none), summary
    (the number in the run's summary or None), early_stopped.
    """
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
    for row in rows:
        row["arguments"] = json.loads(row["arguments"])
        row["summary"] = finite(row["summary"])
    return rows
