"""Curves: the values that runs logged of one metric, over the step metric that they declared for it."""

from __future__ import annotations

import fnmatch
import json
from typing import TypedDict

from wandb_tl.local.pages.values import Run, client_records, is_number, read_line
from wandb_tl.local.records.database import Transaction
from wandb_tl.local.records.json_path import JsonObject, find
from wandb_tl.local.records.rows import RunRow
from wandb_tl.local.records.streams import EVENTS, HISTORY, line_count
from wandb_tl.local.runs import history, history_keys

POINTS = 400
RUNS = 100
# A family with more members, such as test/accuracy_by_class/…, is kept apart from the common metrics.
FAMILY = 6

# (x, y); y is None if the run logged a value that is not a finite number.
CurvePoint = tuple[float, float | None]


class Series(TypedDict):
    """The curve of one run."""

    id: str
    name: str
    color: str
    points: list[CurvePoint]


class Curves(TypedDict):
    """The curves of one metric, as charts.js draws them."""

    key: str
    axis: str
    series: list[Series]


def metric_keys(db: Transaction, run: RunRow) -> list[str]:
    """The keys of a run's history that hold numbers, without the client's own."""
    keys = history_keys.keys_of(db, run)
    return [
        key
        for key, statistics in (keys["keys"] if keys else {}).items()
        if not key.startswith("_") and any(count["type"] == "number" for count in statistics["typeCounts"])
    ]


def by_family(db: Transaction, runs: list[Run]) -> tuple[list[str], dict[str, list[str]]]:
    """The metrics of some runs: those of small families together, and {family: keys} of the large ones."""
    families: dict[str, list[str]] = {}
    for run in runs:
        for key in metric_keys(db, run.row):
            if not is_axis(run.row, key) and key not in families.setdefault(family(key), []):
                families[family(key)].append(key)
    large = {name: sorted(keys) for name, keys in sorted(families.items()) if name and len(keys) > FAMILY}
    common = sorted(key for name, keys in families.items() if name not in large for key in keys)
    return common, large


def family(key: str) -> str:
    """The first two parts of a key at most, without the last: metrics of one family belong together."""
    return "/".join(key.split("/")[:-1][:2])


def declared_metrics(run: RunRow) -> list[JsonObject]:
    """The declarations of run.define_metric, as wandb-core sends them."""
    return [entry if isinstance(entry, dict) else {} for entry in client_records(run, "m", list)]


def axis(run: RunRow, key: str) -> str:
    """The step metric that run.define_metric declared for a key, else _step.

    A declaration is {"1": name or "2": glob, "5": number of the step metric in their list, from 1}.
    """
    declarations = declared_metrics(run)
    # The declaration of a name takes precedence over those of globs.
    named = [entry for entry in declarations if entry.get("1") == key]
    globs = [entry for entry in declarations if isinstance(entry.get("2"), str)]
    matching = [entry for entry in globs if fnmatch.fnmatchcase(key, entry["2"])]
    number = next((entry.get("5") for entry in [*named, *matching]), None)
    if isinstance(number, int) and 0 < number <= len(declarations):
        return declarations[number - 1].get("1") or "_step"
    return "_step"


def is_axis(run: RunRow, key: str) -> bool:
    """Whether the key is the step metric of others, which has no curve of its own."""
    declarations = declared_metrics(run)
    steps = [entry.get("5") for entry in declarations]
    return any(
        entry.get("1") == key and number in steps for number, entry in enumerate(declarations, start=1)
    )


def of_runs(db: Transaction, runs: list[Run], key: str) -> Curves:
    """The curves of the first RUNS runs."""
    axes = [axis(run.row, key) for run in runs]
    # If the runs declared different step metrics, over the steps, which every run has.
    shared = axes[0] if len(set(axes)) == 1 else "_step"
    series: list[Series] = []
    for run in runs[:RUNS]:
        points = of_run(db, run.row, key, shared)
        if points:
            series.append({"id": run.id, "name": run.name, "color": run.color, "points": points})
    return {"key": key, "axis": shared, "series": series}


def of_run(db: Transaction, run: RunRow, key: str, step_key: str, stream: str = HISTORY) -> list[CurvePoint]:
    """The points of one run: about POINTS at most, evenly spread, with the last one."""
    points: list[CurvePoint] = []
    for line in map(read_line, _lines(db, run, key, stream)):
        x, y = find(line, step_key), find(line, key)
        if is_number(x) and y is not None:
            points.append((x, y if is_number(y) else None))
    return points


def _lines(db: Transaction, run: RunRow, key: str, stream: str) -> list[str]:
    """Lines with the key, chosen before they are parsed: a long history has thousands."""
    place = (run["id"], stream)
    count = line_count(db, run["id"], stream)
    if count > 4 * POINTS:
        # A few lines are enough for a key that most lines have; only a rare key needs a search of all lines.
        spread = [round(i * (count - 1) / (POINTS - 1)) for i in range(POINTS)]
        numbers = json.dumps([*spread, *range(count - 5, count)])
        query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND line IN (SELECT value FROM"
        rows = db.all(f"{query} json_each(?)) ORDER BY line", *place, numbers)
        lines = [row["text"] for row in rows if find(read_line(row["text"]), key) is not None]
        if len(lines) >= POINTS / 2:
            return lines
    rows = db.all(
        "SELECT text FROM (SELECT text, row_number() OVER (ORDER BY line) AS n, count(*) OVER () AS total"
        " FROM stream_line WHERE run_id = ?1 AND stream = ?2 AND (instr(text, ?3) OR instr(text, ?4))"
        " AND pluck(text, ?5) IS NOT NULL) WHERE n % ((total + ?6 - 1) / ?6) = 0 OR n = total",
        *place,
        *spellings(key),
        key,
        POINTS,
    )
    return [row["text"] for row in rows]


def spellings(key: str) -> tuple[str, str]:
    """The JSON spellings of a key, with and without escapes; of a dotted key, those of its last part."""
    part = key.rpartition(".")[2]
    escaped, plain = (json.dumps(part, ensure_ascii=ascii_only) for ascii_only in (True, False))
    return (escaped, plain) if part == key else (escaped[1:-1], plain[1:-1])


def system_keys(db: Transaction, run: RunRow) -> list[str]:
    """The keys of the client's measurements of the machine."""
    last = read_line(history.last_line(db, run["id"], EVENTS) or "{}")
    return sorted(key for key, value in last.items() if key.startswith("system.") and is_number(value))


def system(db: Transaction, run: Run, key: str) -> Curves:
    """The curve of one measurement of the machine, over seconds."""
    points = of_run(db, run.row, key, "_runtime", EVENTS)
    series: Series = {"id": run.id, "name": run.name, "color": run.color, "points": points}
    return {"key": key.removeprefix("system."), "axis": "seconds", "series": [series]}
