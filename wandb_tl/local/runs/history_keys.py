"""The keys that a run has logged, counted as lines arrive, so that a growing history is not read again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, TypedDict

from wandb_tl.local.records.database import Transaction, existing
from wandb_tl.local.records.json_path import JsonObject, json_object
from wandb_tl.local.records.rows import RunRow
from wandb_tl.local.records.streams import HISTORY


class TypeCount(TypedDict):
    """How many values of a key have a type: number, string, list, a media type, ..."""

    type: str
    count: int


class KeyStatistics(TypedDict):
    typeCounts: list[TypeCount]
    previousValue: Any


class HistoryKeys(TypedDict):
    """The answer to the client's `historyKeys`. Nested dictionaries appear under dotted keys."""

    lastStep: int
    keys: dict[str, KeyStatistics]


def strict(value: Any) -> Any:
    """The value with non-finite numbers as strings: wandb-core cannot parse an answer with a bare NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    return value


def keys_of(db: Transaction, run: RunRow) -> HistoryKeys | None:
    """The keys of a run's history, None for a run without history."""
    history_keys, _ = _up_to_date(db, run)
    return history_keys if history_keys["keys"] else None


def note(db: Transaction, run_id: int) -> None:
    """Count the lines that have arrived since the last call, and store the result with the run."""
    run = existing(db.get("run", run_id))
    history_keys, count = _up_to_date(db, run)
    if count > run["history_keys_lines"]:
        db.update("run", run_id, history_keys=json.dumps(history_keys), history_keys_lines=count)


def _up_to_date(db: Transaction, run: RunRow) -> tuple[HistoryKeys, int]:
    """The stored counts with those of newer lines added, and the number of lines counted."""
    history_keys: HistoryKeys = {"lastStep": -1, "keys": {}}
    if run["history_keys"]:
        history_keys = json.loads(run["history_keys"])
    count = run["history_keys_lines"]
    rows = db.all(
        "SELECT line, step, text FROM stream_line WHERE run_id = ? AND stream = ? AND line >= ?"
        " ORDER BY line",
        run["id"],
        HISTORY,
        count,
    )
    for row in rows:
        count = row["line"] + 1
        history_keys["lastStep"] = max(history_keys["lastStep"], -1 if row["step"] is None else row["step"])
        line = json_object(row["text"]) or {}
        for key, value in flat(line):
            statistics = history_keys["keys"].setdefault(key, {"typeCounts": [], "previousValue": None})
            _count(statistics, _kind(value))
            statistics["previousValue"] = strict(value)
    return history_keys, count


def _count(statistics: KeyStatistics, kind: str) -> None:
    for counter in statistics["typeCounts"]:
        if counter["type"] == kind:
            counter["count"] += 1
            return
    statistics["typeCounts"].append({"type": kind, "count": 1})


def flat(line: JsonObject, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of a line, nested dictionaries under dotted keys."""
    for key, value in line.items():
        if isinstance(value, dict) and "_type" not in value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["_type"])
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "nil"
    if isinstance(value, str):
        return "string"
    return "list" if isinstance(value, list) else "number"
