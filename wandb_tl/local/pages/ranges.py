"""Ranges on the axes of parallel coordinates, as the address of a page keeps them: from.lr=0.001&to.lr=0.1.

A category stands at its place among the names on its axis. Either end may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wandb_tl.local.records.json_path import finite

# What the names of the two ends of a range begin with.
PREFIXES = ("from.", "to.")


def within(axes: list[Any], lines: list[dict[str, Any]], query: Mapping[str, str]) -> set[str] | None:
    """The ids of the lines that are in all ranges; None where the query has no range.

    axes, lines: those of the chart, see sweep.Parallel. An end that is not on its axis does not count.
    """
    ids: set[str] | None = None
    for place, axis in enumerate(axes):
        low, high = (_position(axis, query.get(f"{end}.{axis['name']}")) for end in ("from", "to"))
        if low is None and high is None:
            continue
        positions = {line["id"]: _position(axis, line["values"][place]) for line in lines}
        matches = {
            id
            for id, at in positions.items()
            if at is not None and (low is None or at >= low) and (high is None or at <= high)
        }
        ids = matches if ids is None else ids & matches
    return ids


def _position(axis: Any, value: Any) -> float | None:
    """Where a value, or the string of one in an address, is on its axis; None if it is not there."""
    if axis["type"] == "category":
        return axis["categories"].index(value) if value in axis["categories"] else None
    try:
        return finite(float(value)) if isinstance(value, str) else finite(value)
    except ValueError:
        return None
