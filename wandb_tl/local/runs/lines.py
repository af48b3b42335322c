"""Lines of the streams, parsed. They are parsed before the transaction that stores them.

Parsing a line of 100,000 metrics takes longer than storing it, and other clients wait for a transaction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from wandb_tl.local.records import patient_json
from wandb_tl.local.records.json_path import JsonObject, json_object, whole
from wandb_tl.local.records.streams import EVENTS, HISTORY, SUMMARY

# The type of a value in a line of history, such as number, string, list or that of a media object, and the
# value if it is a number (a string if it is not finite), a boolean or a string of at most LONGEST characters,
# else None. A plain tuple, which Python's garbage collector need not look through.
Value = tuple[str, Any]


class Line(NamedTuple):
    """A line that a run has logged.

    text: as it is stored. row: the JSON object in it; None if there is none, and for a line of the console.
    step: of the line, None if it has none. values: of a line of history, by their keys; nested dictionaries
    are under dotted keys.
    """

    text: str
    row: JsonObject | None = None
    step: int | None = None
    values: Mapping[str, Value] = {}


# The last value of each key is stored once more with the run, and written at each request.
LONGEST = 1000


def parse(stream: str, text: str) -> Line:
    """A line of a stream. Other threads run while a long one is parsed."""
    row = json_object(text, patient_json.loads) if stream in (HISTORY, EVENTS, SUMMARY) else None
    if row is None:
        return Line(text)
    values = {key: _value(value) for key, value in flat(row)} if stream == HISTORY else {}
    return Line(text, row, whole(row.get("_step")), values)


def flat(row: JsonObject, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of a line's object, nested dictionaries under dotted keys."""
    for key, value in row.items():
        if isinstance(value, dict) and "_type" not in value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def strict(value: Any) -> Any:
    """The value with non-finite numbers as strings: wandb-core cannot parse an answer with a bare NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    return value


def _value(value: Any) -> Value:
    if isinstance(value, dict):
        return (str(value["_type"]), None)
    if isinstance(value, bool):
        return ("boolean", value)
    if value is None:
        return ("nil", None)
    if isinstance(value, str):
        return ("string", value if len(value) <= LONGEST else None)
    return ("list", None) if isinstance(value, list) else ("number", strict(value))
