"""What a sweep tries next: grids and random draws over its parameters.

A parameter is {"value": x}, {"values": [...]}, {"min": a, "max": b} or {"parameters": {...}}, with
`distribution` and its numbers as https://docs.wandb.ai/models/sweeps/sweep-config-keys#distributions
documents them.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

from wandb_tl.local.store import Refused, Row

METHODS = ("grid", "random")
# The taken points of a grid are looked through at every hand-out.
MOST_POINTS = 100_000

Path = tuple[str, ...]
Draw = Callable[[Row, random.Random], float]


def _log_uniform(spec: Row, rng: random.Random) -> float:
    return math.exp(rng.uniform(spec["min"], spec["max"]))


def _log_uniform_values(spec: Row, rng: random.Random) -> float:
    return math.exp(rng.uniform(math.log(spec["min"]), math.log(spec["max"])))


CONTINUOUS: dict[str, tuple[Draw, tuple[str, ...]]] = {
    "uniform": (lambda spec, rng: rng.uniform(spec["min"], spec["max"]), ("min", "max")),
    "log_uniform": (_log_uniform, ("min", "max")),
    "log_uniform_values": (_log_uniform_values, ("min", "max")),
    "inv_log_uniform": (lambda spec, rng: math.exp(-rng.uniform(spec["min"], spec["max"])), ("min", "max")),
    "inv_log_uniform_values": (_log_uniform_values, ("min", "max")),
    "normal": (lambda spec, rng: rng.gauss(spec.get("mu", 0), spec.get("sigma", 1)), ()),
    "log_normal": (lambda spec, rng: rng.lognormvariate(spec.get("mu", 0), spec.get("sigma", 1)), ()),
    "beta": (lambda spec, rng: rng.betavariate(spec.get("a", 1), spec.get("b", 1)), ()),
}
# Quantized: the same draw, rounded to multiples of q.
QUANTIZED = ("uniform", "log_uniform", "log_uniform_values", "normal", "log_normal", "beta")


def check(config: Any) -> list[str]:
    """Warnings about what will not be heeded in a sweep's config. Raises Refused for what cannot be run."""
    if not isinstance(config, dict):
        raise Refused("the sweep's config is no YAML mapping")
    method = config.get("method")
    if method is None:
        raise Refused(f"the sweep's config names no method; it can be {' or '.join(METHODS)}")
    if method not in METHODS:
        raise Refused(f"the sweep method {method} is not supported; it can be {' or '.join(METHODS)}")
    if not isinstance(config.get("parameters"), dict) or not config["parameters"]:
        raise Refused("the sweep's config has no parameters")
    for path, spec in leaves(config["parameters"]):
        _check_parameter(".".join(path), spec, method)
    if method == "grid" and (size := grid_size(config)) > MOST_POINTS:
        raise Refused(f"the grid has {size:,} points; {MOST_POINTS:,} are the most")
    cap = config.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise Refused(f"run_cap must be a whole number above 0, not {cap}")
    try:
        # What the checks above let through fails here, and not at an agent's every heartbeat.
        json.dumps(
            next(grid(config)) if method == "grid" else draw(config, random.Random(0)), allow_nan=False
        )
    except Exception as error:
        raise Refused(f"the sweep's parameters give no point: {error}") from None
    ignored = [key for key in ("early_terminate", "scheduler") if config.get(key)]
    return [f"{key} is not supported and has no effect" for key in ignored]


def leaves(parameters: Row, above: Path = ()) -> Iterator[tuple[Path, Row]]:
    """The parameters, nested ones under their paths."""
    for name, spec in parameters.items():
        if isinstance(spec, dict) and isinstance(spec.get("parameters"), dict):
            yield from leaves(spec["parameters"], (*above, name))
        else:
            yield (*above, name), spec


def _check_parameter(name: str, spec: Any, method: str) -> None:
    if not isinstance(spec, dict):
        raise Refused(f"parameter {name} must be a mapping such as {{values: [...]}}, not {json.dumps(spec)}")
    kind = distribution(name, spec)
    if not isinstance(kind, str):
        raise Refused(f"parameter {name}: there is no distribution {kind}")
    if kind == "categorical" and (not isinstance(spec.get("values"), list) or not spec["values"]):
        raise Refused(f"parameter {name} needs a list of values that is not empty")
    if kind == "categorical" and len(spec.get("probabilities") or spec["values"]) != len(spec["values"]):
        raise Refused(f"parameter {name} has not as many probabilities as values")
    if kind in ("constant", "categorical"):
        return
    base = kind.removeprefix("q_")
    if (base not in CONTINUOUS and kind != "int_uniform") or (base != kind and base not in QUANTIZED):
        raise Refused(f"parameter {name}: there is no distribution {kind}")
    if method == "grid" and kind != "int_uniform":
        raise Refused(f"parameter {name} is continuous: a grid needs its values")
    for bound in CONTINUOUS[base][1] if base in CONTINUOUS else ("min", "max"):
        if not isinstance(spec.get(bound), (int, float)):
            raise Refused(f"parameter {name} needs a number as its {bound}")
    if spec.get("min") is not None and spec.get("max") is not None and spec["min"] > spec["max"]:
        raise Refused(f"parameter {name}: min {spec['min']} is above max {spec['max']}")
    if base.endswith("_values") and spec["min"] <= 0:
        raise Refused(f"parameter {name}: min must be above 0 for {kind}")


def distribution(name: str, spec: Row) -> str:
    """The distribution's name, given or implied. Raises Refused for a parameter that says nothing."""
    if "distribution" in spec:
        return spec["distribution"]
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical"
    if "min" in spec and "max" in spec:
        return "int_uniform" if isinstance(spec["min"], int) and isinstance(spec["max"], int) else "uniform"
    if "mu" in spec or "sigma" in spec:
        return "normal"
    raise Refused(f"parameter {name} needs a value, values, or min and max")


def grid(config: Row) -> Iterator[Row]:
    """All points of a grid; the last parameter changes fastest. A point is {"lr": {"value": 0.1}, ...}."""
    paths, choices = [], []
    for path, spec in leaves(config["parameters"]):
        paths.append(path)
        choices.append(_choices(".".join(path), spec))
    for point in itertools.product(*choices):
        yield as_arguments(zip(paths, point, strict=True))


def _choices(name: str, spec: Row) -> Any:
    kind = distribution(name, spec)
    if kind == "int_uniform":
        return range(spec["min"], spec["max"] + 1)
    return [spec["value"]] if kind == "constant" else spec["values"]


def grid_size(config: Row) -> int:
    return math.prod(len(_choices(".".join(path), spec)) for path, spec in leaves(config["parameters"]))


def draw(config: Row, rng: random.Random) -> Row:
    """One random point."""
    drawn = ((path, _draw(".".join(path), spec, rng)) for path, spec in leaves(config["parameters"]))
    return as_arguments(drawn)


def _draw(name: str, spec: Row, rng: random.Random) -> Any:
    kind = distribution(name, spec)
    if kind == "constant":
        return spec["value"]
    if kind == "categorical":
        return rng.choices(spec["values"], spec.get("probabilities"))[0]
    if kind == "int_uniform":
        return rng.randint(spec["min"], spec["max"])
    base = kind.removeprefix("q_")
    value = CONTINUOUS[base][0](spec, rng)
    if base == kind:
        return value
    step = spec.get("q", 1)
    return round(value / step) * step


def as_arguments(values: Any) -> Row:
    """(path, value) pairs as the agent takes them: {"lr": {"value": 1}, "outer": {"value": {"inner": 1}}}."""
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
