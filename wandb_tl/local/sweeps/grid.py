"""The points of grids and the next one to run, and random draws over a sweep's parameters.

Parameters in groups, {"optimizer": {"parameters": {"lr": {"values": [0.1, 1]}}}}, are named by a path, here
("optimizer", "lr"); their values are nested in a point's argument: {"optimizer": {"value": {"lr": 0.1}}}.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from wandb_tl.local.records.kept import Kept
from wandb_tl.local.records.rows import SweepRow
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.sweeps import distributions
from wandb_tl.local.sweeps.sweep_config import Parameter, Parameters, Point, SweepConfig

# The names that lead to a parameter: those of its groups, then its own.
ParameterPath = tuple[str, ...]

# Every hand-out looks through the points of a grid.
MOST_POINTS = 100_000
# Of the points of grids that are kept, at about 250 bytes for a point of 100 characters: 60 MB.
KEPT_CHARACTERS = 24_000_000

# Differs from every value.
_NOWHERE = object()


def leaves(parameters: Parameters, groups: ParameterPath = ()) -> Iterator[tuple[ParameterPath, Parameter]]:
    """The parameters with their paths, without the groups."""
    for name, spec in parameters.items():
        if isinstance(spec, dict) and isinstance(spec.get("parameters"), dict):
            yield from leaves(spec["parameters"], (*groups, name))
        else:
            yield (*groups, name), spec


def grid(parameters: Parameters) -> Iterator[Point]:
    """All points of a grid; the last parameter changes fastest."""
    paths, choices = [], []
    for path, spec in leaves(parameters):
        paths.append(path)
        choices.append(grid_values(spec))
    for values in itertools.product(*choices):
        yield as_point(zip(paths, values, strict=True))


def grid_values(spec: Parameter) -> Sequence[Any]:
    """The values of a parameter in a grid; value_count says how many they are."""
    kind = distributions.kind_of(spec)
    if kind == "int_uniform":
        return range(int(spec["min"]), int(spec["max"]) + 1)
    if kind == "q_uniform":
        step = spec.get("q", 1)
        return [spec["min"] + i * step for i in range(_step_count(spec))]
    return [spec["value"]] if kind == "constant" else spec["values"]


def value_count(spec: Parameter) -> int | None:
    """The number of values of a parameter in a grid; None for a continuous one."""
    kind = distributions.kind_of(spec)
    if kind == "int_uniform":
        return int(spec["max"]) + 1 - int(spec["min"])
    if kind == "q_uniform":
        return _step_count(spec)
    if kind == "constant":
        return 1
    return len(spec["values"]) if isinstance(spec.get("values"), list) else None


def _step_count(spec: Parameter) -> int:
    try:
        return math.ceil((spec["max"] - spec["min"]) / spec.get("q", 1))
    except OverflowError:
        return sys.maxsize


def grid_size(config: SweepConfig) -> int:
    """The number of points of a grid, repeated ones counted. Its parameters must have a value_count."""
    return math.prod(value_count(spec) or 0 for _, spec in leaves(config["parameters"]))


def distinct_points(config: SweepConfig) -> int:
    """The number of points of a grid that differ: a value may be listed twice."""
    choices = (grid_values(spec) for _, spec in leaves(config["parameters"]))
    return math.prod(
        len(values) if isinstance(values, range) else len({canonical(value) for value in values})
        for values in choices
    )


def _grid_keys(parameters: str) -> dict[str, None]:
    """The canonical texts of all points of a grid in their order, for its parameters as JSON text."""
    return dict.fromkeys(canonical(point) for point in grid(json.loads(parameters)))


# They are kept: an agent of a large grid would otherwise wait for them at every hand-out.
grid_keys = Kept(_grid_keys, KEPT_CHARACTERS, lambda parameters, keys: len(parameters) + sum(map(len, keys)))


def next_point(db: Transaction, sweep: SweepRow, config: SweepConfig) -> Point | None:
    """The first point of the grid that no run of the sweep has taken, None if all are taken."""
    query = "SELECT sweep_args FROM run WHERE sweep_id = ? AND sweep_args IS NOT NULL"
    taken = {row["sweep_args"] for row in db.all(query, sweep["id"])}
    parameters = json.dumps(config["parameters"])
    keys = db.outside(("grid", parameters), partial(grid_keys, parameters))
    free = next((key for key in keys if key not in taken), None)
    point: Point | None = None if free is None else json.loads(free)
    return point


def canonical(value: Any) -> str:
    """The one JSON text of a point, or of a value in it."""
    return json.dumps(value, sort_keys=True)


def grid_point(config: SweepConfig, run_config: Mapping[str, Any]) -> Point | None:
    """The point of the grid that a run with this config occupies, None if it occupies none.

    The values are those of the grid, which has 1 where the run may have 1.0. Of a value that is a mapping
    only the grid's own keys count, because scripts add keys to it.
    """
    values = []
    for path, spec in leaves(config["parameters"]):
        choices = grid_values(spec)
        if distributions.is_constant(spec):
            values.append((path, choices[0]))
            continue
        value = value_at(run_config, path, _NOWHERE)
        keys = {key for choice in choices if isinstance(choice, dict) for key in choice}
        if isinstance(value, dict) and keys:
            value = {key: item for key, item in value.items() if key in keys}
        equal = [choice for choice in choices if distributions.same(choice, value)]
        if not equal:
            return None
        values.append((path, equal[0]))
    return as_point(values)


def draw(config: SweepConfig, rng: random.Random) -> Point:
    """One random point."""
    return as_point(
        (path, distributions.quantile(spec, rng.random())) for path, spec in leaves(config["parameters"])
    )


def next_draw(db: Transaction, sweep: SweepRow, config: SweepConfig, seed: int) -> Point:
    """The first of the points that a seed draws one after the other which no run of the sweep has taken.

    A point that is drawn twice is taken by two runs. So sweeps with the same parameters and seed have the
    same points, and a deleted run frees its point.
    """
    query = "SELECT sweep_args FROM run WHERE sweep_id = ? AND sweep_args IS NOT NULL"
    taken = Counter(row["sweep_args"] for row in db.all(query, sweep["id"]))
    number = 0
    while taken[key := canonical(point := draw(config, random.Random(f"{seed}/{number}")))]:
        taken[key] -= 1
        number += 1
    return point


def as_point(values: Iterable[tuple[ParameterPath, Any]]) -> Point:
    """The point that has these values at these paths."""
    point: Point = {}
    for path, value in values:
        if len(path) == 1:
            point[path[0]] = {"value": value}
            continue
        group = point.setdefault(path[0], {"value": {}})["value"]
        for name in path[1:-1]:
            group = group.setdefault(name, {})
        group[path[-1]] = value
    return point


def value_at(arguments: Mapping[str, Any], path: ParameterPath, default: Any = None) -> Any:
    """The value at a path in a point or in a run's config, `default` where there is none."""
    value: Any = arguments
    for name in (path[0], "value", *path[1:]):
        if not isinstance(value, dict) or name not in value:
            return default
        value = value[name]
    return value
