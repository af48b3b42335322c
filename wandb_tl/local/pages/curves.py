"""Curves: what runs logged of one metric, over the axis that they declared for it."""

from __future__ import annotations

import fnmatch
import json
from typing import Any

from wandb_tl.local.pages.values import Run, is_number, read_line, told
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.json_path import find
from wandb_tl.local.records.streams import EVENTS, HISTORY, line_count
from wandb_tl.local.runs import history, history_keys

POINTS = 400
RUNS = 100
# A family with more members, such as test/accuracy_by_class/…, is kept apart from the common metrics.
FAMILY = 6


def metric_keys(db: Transaction, run: Row) -> list[str]:
    """The keys of a run's history that hold numbers, without the client's own."""
    keys = (history_keys.keys_of(db, run) or {"keys": {}})["keys"]
    return [
        key
        for key, known in keys.items()
        if not key.startswith("_") and any(counter["type"] == "number" for counter in known["typeCounts"])
    ]


def by_family(db: Transaction, runs: list[Run]) -> tuple[list[str], dict[str, list[str]]]:
    """The metrics of some runs: those of small families together, and {family: keys} of the large ones."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for key in metric_keys(db, run.row):
            if not is_axis(run.row, key) and key not in found.setdefault(family(key), []):
                found[family(key)].append(key)
    large = {name: sorted(keys) for name, keys in sorted(found.items()) if name and len(keys) > FAMILY}
    common = sorted(key for name, keys in found.items() if name not in large for key in keys)
    return common, large


def family(key: str) -> str:
    """The first parts of a key, two at most, without the last: metrics of one family belong together."""
    return "/".join(key.split("/")[:-1][:2])


def declared_metrics(run: Row) -> list[Row]:
    """What run.define_metric was told, as core sends it."""
    return [entry if isinstance(entry, dict) else {} for entry in told(run, "m", list)]


def axis(run: Row, key: str) -> str:
    """The step metric that run.define_metric declared for a key, else _step.

    A declaration is {"1": name or "2": glob, "5": number of the step metric in their list, from 1}.
    """
    declared = declared_metrics(run)
    # What is declared of a key by its name goes before what is declared of all keys like it.
    named = [entry for entry in declared if entry.get("1") == key]
    globs = [entry for entry in declared if isinstance(entry.get("2"), str)]
    alike = [entry for entry in globs if fnmatch.fnmatchcase(key, entry["2"])]
    number = next((entry.get("5") for entry in [*named, *alike]), None)
    if isinstance(number, int) and 0 < number <= len(declared):
        return declared[number - 1].get("1") or "_step"
    return "_step"


def is_axis(run: Row, key: str) -> bool:
    """Whether other metrics are drawn over this one: it is no curve of its own."""
    declared = declared_metrics(run)
    steps = [entry.get("5") for entry in declared]
    return any(entry.get("1") == key and number in steps for number, entry in enumerate(declared, start=1))


def of_runs(db: Transaction, runs: list[Run], key: str) -> dict[str, Any]:
    """The curves of up to RUNS runs: {"key", "axis", "series": [{"id", "name", "color", "points"}]}.

    A point is [x, y], y null where the run logged no finite number. The first RUNS runs are drawn.
    """
    axes = [axis(run.row, key) for run in runs]
    # Over one axis only where all have it; steps are what every run has.
    shared = axes[0] if len(set(axes)) == 1 else "_step"
    series = []
    for run in runs[:RUNS]:
        points = of_run(db, run.row, key, shared)
        if points:
            series.append({"id": run.id, "name": run.name, "color": run.color, "points": points})
    return {"key": key, "axis": shared, "series": series}


def of_run(
    db: Transaction, run: Row, key: str, over: str, stream: str = HISTORY
) -> list[tuple[float, float | None]]:
    """About POINTS points of one run at most, evenly spread, the last one among them."""
    points = []
    for row in map(read_line, _lines(db, run, key, stream)):
        x, y = find(row, over), find(row, key)
        if is_number(x) and y is not None:
            points.append((x, y if is_number(y) else None))
    return points


def _lines(db: Transaction, run: Row, key: str, stream: str) -> list[str]:
    """Lines that have the key, chosen before they are parsed: a long history has thousands."""
    place = (run["id"], stream)
    count = line_count(db, run["id"], stream)
    if count > 4 * POINTS:
        # A key that stands in most lines is found in a few of them; only a rare one needs a look at all.
        spread = [round(i * (count - 1) / (POINTS - 1)) for i in range(POINTS)] + list(
            range(count - 5, count)
        )
        among = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND line IN (SELECT value FROM"
        rows = db.all(f"{among} json_each(?)) ORDER BY line", *place, json.dumps(spread))
        found = [row["text"] for row in rows if find(read_line(row["text"]), key) is not None]
        if len(found) >= POINTS / 2:
            return found
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
    """How a key may stand in a line: letters as they are or as escapes; of a dotted one, its last part."""
    part = key.rpartition(".")[2]
    escaped, plain = (json.dumps(part, ensure_ascii=ascii_only) for ascii_only in (True, False))
    return (escaped, plain) if part == key else (escaped[1:-1], plain[1:-1])


def system_keys(db: Transaction, run: Row) -> list[str]:
    """What the client measured of the machine."""
    last = read_line(history.last_line(db, run["id"], EVENTS) or "{}")
    return sorted(key for key, value in last.items() if key.startswith("system.") and is_number(value))


def system(db: Transaction, run: Run, key: str) -> dict[str, Any]:
    points = of_run(db, run.row, key, "_runtime", EVENTS)
    return {
        "key": key.removeprefix("system."),
        "axis": "seconds",
        "series": [{"id": run.id, "name": run.name, "color": run.color, "points": points}],
    }
