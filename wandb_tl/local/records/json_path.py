"""JSON strings: the object in a string, the value at a dotted path, and numbers that SQLite can store."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from wandb_tl.local.records.kept import Kept

# An object that a client sent: a run's config or summary, a line of its history, a view's spec.
JsonObject = dict[str, Any]


# The levels of objects and lists in each other. Each costs one of Python's frames wherever JSON is written or
# shown, of which there are a thousand.
DEEPEST = 100
# Of the texts whose objects are kept: the configs and summaries of 1,000 runs. An object takes six times the
# memory of its text, and 24 times if it is a list of empty objects.
KEPT_CHARACTERS = 8_000_000
# A half of a surrogate pair, as JSON escapes it. Neither SQLite nor a page can hold one without the other.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def json_object(text: str, loads: Callable[[str], Any] = json.loads) -> JsonObject | None:
    """The JSON object that a string holds, None if it holds anything else, or more than DEEPEST levels.

    Lone surrogates become question marks.
    """
    try:
        value = loads(text)
        if not isinstance(value, dict):
            return None
        return value if is_storable(text) else storable(value)
    except (ValueError, RecursionError):
        return None


def is_storable(text: str, start: int = 0, end: int | None = None) -> bool:
    """Whether a JSON text, or a part of it, surely needs no change by `storable`."""
    stop = len(text) if end is None else end
    few = text.count("[", start, stop) + text.count("{", start, stop) <= DEEPEST
    return few and not _SURROGATE.search(text, start, stop)


def storable(value: Any, levels: int = DEEPEST) -> Any:
    """A JSON value with question marks for lone surrogates. Raises ValueError if it has more levels."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode()
    if not isinstance(value, (dict, list)):
        return value
    if not levels:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep")
    if isinstance(value, dict):
        return {storable(key): storable(item, levels - 1) for key, item in value.items()}
    return [storable(item, levels - 1) for item in value]


# As json_object. Do not change the result.
kept_object = Kept(json_object, KEPT_CHARACTERS)


def pluck(text: str | None, path: str) -> Any:
    """SQL function: the value at `path` in a JSON object, as an SQL value (lists and objects as JSON).

    A key may itself contain dots, so the longest literal key wins: "a.b" is looked up before a -> b.
    """
    value = find(kept_object(text), path) if text else None
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return sql_number(value) if isinstance(value, int) else value


def sql_number(value: int) -> int | float:
    """The number as SQLite can hold it: a float where it needs more than 64 bits."""
    if -(1 << 63) <= value < 1 << 63:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def find(value: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none; literal keys with dots come first."""
    if not isinstance(value, dict):
        return None
    if path in value:
        return value[path]
    head = _longest_key(value, path)
    return None if head is None else find(value[head], path[len(head) + 1 :])


def _longest_key(value: JsonObject, path: str) -> str | None:
    """The longest key that begins a path and is followed by a dot in it; None if there is none."""
    heads: Iterable[str]
    if path.count(".") <= DEEPEST:
        # Few to look up, longest first.
        parts = path.split(".")
        heads = (".".join(parts[:cut]) for cut in range(len(parts) - 1, 0, -1))
        return next((head for head in heads if head in value), None)
    # Such as a link to a page may have, to keep the server busy: one pass over the keys instead.
    heads = (key for key in value if path.startswith(f"{key}."))
    return max(heads, key=len, default=None)


def finite(value: Any) -> float | None:
    """The value as a finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def whole(value: Any) -> int | None:
    """A number without its fraction; None for any other value, and for a number beyond 64 bits."""
    if not isinstance(value, (int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    number = int(value)
    return number if -(1 << 63) <= number < 1 << 63 else None
