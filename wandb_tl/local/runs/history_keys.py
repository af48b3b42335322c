"""Which keys a run has logged: counted as its lines arrive, so that no growing history is read again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.json_path import json_object
from wandb_tl.local.records.streams import HISTORY


def strict(value: Any) -> Any:
    """The value with non-finite numbers as strings: wandb-core cannot read an answer with a bare NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    return value


def keys_of(db: Transaction, run: Row) -> Row | None:
    """{"lastStep", "keys": {key: {"typeCounts", "previousValue"}}}, None for a run without history.

    Nested dictionaries appear under dotted keys.
    """
    found, _ = _read_on(db, run)
    return found if found["keys"] else None


def note(db: Transaction, run_id: int) -> None:
    """Keep with a run what its lines say that have come since this was done last."""
    run = db.get("run", run_id)
    found, count = _read_on(db, run)
    if count > run["history_keys_lines"]:
        db.update("run", run_id, history_keys=json.dumps(found), history_keys_lines=count)


def _read_on(db: Transaction, run: Row) -> tuple[Row, int]:
    """What is kept with a run, and what the lines after that say; and how many lines that are."""
    found = json.loads(run["history_keys"]) if run["history_keys"] else {"lastStep": -1, "keys": {}}
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
        found["lastStep"] = max(found["lastStep"], row["step"] if row["step"] is not None else -1)
        line = json_object(row["text"]) or {}
        try:
            logged = [(key, _kind(value), strict(value)) for key, value in _flat(line)]
        except RecursionError:
            # Nested so deeply that nobody can show it.
            continue
        for key, kind, value in logged:
            known = found["keys"].setdefault(key, {"typeCounts": [], "previousValue": None})
            for counter in known["typeCounts"]:
                if counter["type"] == kind:
                    counter["count"] += 1
                    break
            else:
                known["typeCounts"].append({"type": kind, "count": 1})
            known["previousValue"] = value
    return found, count


def _flat(row: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, dict) and "_type" not in value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["_type"])
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "nil"
    return {str: "string", list: "list"}.get(type(value), "number")
