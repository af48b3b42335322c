"""The keys that a run has logged, counted as lines arrive, so that a growing history is not read again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, TypedDict

from wandb_tl.local.records.json_path import JsonObject, json_object
from wandb_tl.local.records.rows import RunRow
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.records.transaction import Transaction, existing

# Keys of a run that are counted: each request reads and writes them. W&B advises against more. The lines
# themselves keep all keys.
MOST_KEYS = 10_000
# Other clients wait while lines are counted. More than a request brings at once, see file_stream.
NOTED_LINES = 5000


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
    """Count lines that have arrived since the last call, and store the result with the run.

    After a change of a long history it takes several calls until all of its lines are counted again.
    """
    run = existing(db.get("run", run_id))
    history_keys, count = _up_to_date(db, run, NOTED_LINES)
    if count > run["history_keys_lines"]:
        db.update("run", run_id, history_keys=json.dumps(history_keys), history_keys_lines=count)


def _up_to_date(db: Transaction, run: RunRow, limit: int = -1) -> tuple[HistoryKeys, int]:
    """The stored counts with those of newer lines added, and the number of lines counted.

    limit: of newer lines, -1 for all.
    """
    history_keys: HistoryKeys = {"lastStep": -1, "keys": {}}
    if run["history_keys"]:
        history_keys = json.loads(run["history_keys"])
    count = run["history_keys_lines"]
    rows = db.all(
        "SELECT line, step, text FROM stream_line WHERE run_id = ? AND stream = ? AND line >= ?"
        " ORDER BY line LIMIT ?",
        run["id"],
        HISTORY,
        count,
        limit,
    )
    for row in rows:
        count = row["line"] + 1
        history_keys["lastStep"] = max(history_keys["lastStep"], -1 if row["step"] is None else row["step"])
        line = json_object(row["text"]) or {}
        keys = history_keys["keys"]
        for key, value in flat(line):
            if key in keys or len(keys) < MOST_KEYS:
                statistics = keys.setdefault(key, {"typeCounts": [], "previousValue": None})
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
