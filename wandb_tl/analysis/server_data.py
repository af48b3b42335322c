"""What a server or the folder of a report says about runs, in the types that the analysis expects.

Anyone who may write to a run decides what is in it: every number may be a list, and every name may have
characters that a terminal obeys. What has another type than it should have is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from wandb_tl.errors import InputError, printable

Item = TypeVar("Item")

# More than any sweep has; a server could send pages for ever.
MOST_RUNS = 100_000
# Of the name of a run, a device or a metric. W&B takes 128 characters.
LONGEST_TEXT = 1000
LARGEST_EXPONENT = 700


def number(value: Any) -> float:
    """A finite number, also one in a string, as a server may send it; NaN for anything else."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return math.nan
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return result if math.isfinite(result) else math.nan


def percentage(value: Any) -> float:
    """A number from 0 to 100; NaN for anything else."""
    result = number(value)
    return result if 0 <= result <= 100 else math.nan


def text(value: Any) -> str:
    """A string on one line; "" for anything else."""
    return printable(value[:LONGEST_TEXT]) if isinstance(value, str) else ""


def definition(values: Mapping[str, Any]) -> dict[str, Any]:
    """The definition of a sweep without the parts of other types than the analysis reads."""
    kinds: dict[str, Callable[[Any], Any]] = {
        "method": text,
        "metric": _metric,
        "metrics": _metrics,
        "parameters": _parameters,
    }
    parts = {key: kind(values[key]) for key, kind in kinds.items() if key in values}
    others = {key: value for key, value in values.items() if key not in kinds}
    return others | {key: part for key, part in parts.items() if part}


def bounded(items: Iterable[Item], origin: str, most: int = MOST_RUNS) -> Iterator[Item]:
    """The items of a server's pages. InputError if there are more than `most`."""
    for count, item in enumerate(islice(items, most + 1)):
        if count == most:
            raise InputError(f"{origin}: the server does not come to an end after {most:,} entries")
        yield item


def _metric(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not text(value.get("name")):
        return {}
    return value | {"name": text(value["name"]), "goal": text(value.get("goal")) or "minimize"}


def _metrics(value: Any) -> list[dict[str, Any]]:
    return [one for entry in value if (one := _metric(entry))] if isinstance(value, list) else []


def _parameters(value: Any) -> dict[str, dict[str, Any]]:
    entries = value.items() if isinstance(value, dict) else ()
    return {text(name): entry for name, entry in entries if text(name) and _is_parameter(entry)}


def _is_parameter(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    bounds = [number(entry[end]) for end in ("min", "max") if end in entry]
    kind = text(entry.get("distribution"))
    # Exponents of e.
    most = LARGEST_EXPONENT if "log_uniform" in kind and not kind.endswith("_values") else math.inf
    return (
        isinstance(entry.get("values", []), list)
        and all(abs(bound) < most for bound in bounds)
        and bounds == sorted(bounds)
    )
