"""What a sweep tries next: grids and random draws over its parameters.

A parameter is {"value": x}, {"values": [...]}, a distribution with its numbers (see distributions.py), or
{"parameters": {...}}, which nests others. A point is what an agent takes: {"lr": {"value": 0.1}, "outer":
{"value": {"inner": 1}}}.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from wandb_tl.local.records.database import Row
from wandb_tl.local.sweeps import distributions

Path = tuple[str, ...]
# How many points of grids are kept, at about 250 bytes each. One transaction at a time asks for them.
MOST_KEPT = 300_000
_kept_keys: dict[str, dict[str, None]] = {}

# What differs from every value.
_NOWHERE = object()


def leaves(parameters: Row, above: Path = ()) -> Iterator[tuple[Path, Row]]:
    """The parameters, nested ones under their paths."""
    for name, spec in parameters.items():
        if isinstance(spec, dict) and isinstance(spec.get("parameters"), dict):
            yield from leaves(spec["parameters"], (*above, name))
        else:
            yield (*above, name), spec


def grid(config: Row) -> Iterator[Row]:
    """All points of a grid; the last parameter changes fastest."""
    paths, choices = [], []
    for path, spec in leaves(config["parameters"]):
        paths.append(path)
        choices.append(grid_values(".".join(path), spec))
    for point in itertools.product(*choices):
        yield as_arguments(zip(paths, point, strict=True))


def grid_values(name: str, spec: Row) -> Any:
    """The values of a parameter in a grid, of which value_count says how many there are."""
    kind = distributions.kind_of(name, spec)
    if kind == "int_uniform":
        return range(spec["min"], spec["max"] + 1)
    if kind == "q_uniform":
        step = spec.get("q", 1)
        return [spec["min"] + i * step for i in range(value_count(name, spec))]
    return [spec["value"]] if kind == "constant" else spec["values"]


def value_count(name: str, spec: Row) -> int | None:
    """How many values a parameter has in a grid; None for one that has no end of them."""
    kind = distributions.kind_of(name, spec)
    if kind == "int_uniform":
        return spec["max"] + 1 - spec["min"]
    if kind == "q_uniform":
        try:
            return math.ceil((spec["max"] - spec["min"]) / spec.get("q", 1))
        except OverflowError:
            return sys.maxsize
    if kind == "constant":
        return 1
    return len(spec["values"]) if isinstance(spec.get("values"), list) else None


def grid_size(config: Row) -> int:
    return math.prod(value_count(".".join(path), spec) for path, spec in leaves(config["parameters"]))


def distinct_points(config: Row) -> int:
    """The size of a grid without its repetitions, such as those of a value that is listed twice."""
    choices = (grid_values(".".join(path), spec) for path, spec in leaves(config["parameters"]))
    return math.prod(
        len(values) if isinstance(values, range) else len({canonical(value) for value in values})
        for values in choices
    )


def grid_keys(parameters: str) -> dict[str, None]:
    """The canonical texts of all points of a grid in their order, for its parameters as JSON text.

    Kept, because an agent of a large grid would otherwise wait for them at every hand-out.
    """
    keys = _kept_keys.pop(parameters, None)
    if keys is None:
        keys = dict.fromkeys(canonical(point) for point in grid({"parameters": json.loads(parameters)}))
        while _kept_keys and sum(map(len, _kept_keys.values())) + len(keys) > MOST_KEPT:
            # The one that was asked for least recently.
            del _kept_keys[next(iter(_kept_keys))]
    _kept_keys[parameters] = keys
    return keys


def canonical(arguments: Any) -> str:
    """The one JSON text of a point, or of a value in it."""
    return json.dumps(arguments, sort_keys=True)


def grid_point(config: Row, arguments: Row) -> Row | None:
    """The point of the grid that a run of this config stands on, spelt as in the grid; None if on none.

    1.0 stands for 1. Of a value that is a mapping only the grid's own keys count, as scripts add to them.
    """
    values = []
    for path, spec in leaves(config["parameters"]):
        value = value_at(arguments, path, _NOWHERE)
        choices = grid_values(".".join(path), spec)
        if distributions.kind_of(".".join(path), spec) == "constant":
            values.append((path, choices[0]))
            continue
        known = {key for choice in choices if isinstance(choice, dict) for key in choice}
        if isinstance(value, dict) and known:
            value = {key: item for key, item in value.items() if key in known}
        places = [choice for choice in choices if distributions.same(choice, value)]
        if not places:
            return None
        values.append((path, places[0]))
    return as_arguments(values)


def draw(config: Row, rng: random.Random) -> Row:
    """One random point."""
    return as_arguments(
        (path, distributions.quantile(".".join(path), spec, rng.random()))
        for path, spec in leaves(config["parameters"])
    )


def as_arguments(values: Iterable[tuple[Path, Any]]) -> Row:
    """The point that has these values at these paths."""
    arguments: Row = {}
    for path, value in values:
        if len(path) == 1:
            arguments[path[0]] = {"value": value}
            continue
        place = arguments.setdefault(path[0], {"value": {}})["value"]
        for name in path[1:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
    return arguments


def value_at(arguments: Row, path: Path, otherwise: Any = None) -> Any:
    """The value of a point at a path, `otherwise` where it has none."""
    place: Any = arguments
    for name in (path[0], "value", *path[1:]):
        if not isinstance(place, dict) or name not in place:
            return otherwise
        place = place[name]
    return place
