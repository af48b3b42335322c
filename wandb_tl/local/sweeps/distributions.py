"""The distributions that a sweep's parameter can have: their keys, quantiles and cumulative probabilities.

https://docs.wandb.ai/models/sweeps/sweep-config-keys#distributions documents them. Random search draws a
quantile, and Bayesian search represents every parameter by its cumulative probability, a coordinate in
[0, 1]. Both functions are those of W&B's own engine, so a sweep means the same here and there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.json_path import finite
from wandb_tl.local.sweeps.sweep_config import Parameter

NORMAL = NormalDist()
# An unbounded distribution has no quantile at 0 or 1.
EDGE = 1e-12


def _limits(spec: Parameter) -> tuple[float, float]:
    return spec["min"], spec["max"]


def _log_limits(spec: Parameter) -> tuple[float, float]:
    return math.log(spec["min"]), math.log(spec["max"])


def _between(limits: tuple[float, float], share: float) -> float:
    low, high = limits
    return low + share * (high - low)


def _share(limits: tuple[float, float], value: float) -> float:
    low, high = limits
    return 0.5 if high == low else min(max((value - low) / (high - low), 0.0), 1.0)


def _log_share(limits: tuple[float, float], value: float) -> float:
    return _share(limits, math.log(value)) if value > 0 else 0.0


def _normal_quantile(spec: Parameter, share: float) -> float:
    return spec.get("mu", 0) + spec.get("sigma", 1) * NORMAL.inv_cdf(min(max(share, EDGE), 1 - EDGE))


def _normal_probability(spec: Parameter, value: float) -> float:
    sigma = spec.get("sigma", 1)
    return NORMAL.cdf((value - spec.get("mu", 0)) / sigma) if sigma else 0.5


def _log_normal_probability(spec: Parameter, value: float) -> float:
    return _normal_probability(spec, math.log(value)) if value > 0 else 0.0


# scipy.special is imported when it is used: it takes a server without beta distributions 40 MB and 0.4 s.
def _beta_quantile(spec: Parameter, share: float) -> float:
    from scipy.special import betaincinv

    return float(betaincinv(spec.get("a", 1), spec.get("b", 1), share))


def _beta_probability(spec: Parameter, value: float) -> float:
    from scipy.special import betainc

    return float(betainc(spec.get("a", 1), spec.get("b", 1), min(max(value, 0.0), 1.0)))


@dataclass(frozen=True)
class Distribution:
    """A continuous distribution. `needed` are the keys without a default, `optional` those with one."""

    quantile: Callable[[Parameter, float], float]
    probability: Callable[[Parameter, float], float]
    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()


LIMITS = ("min", "max")
CONTINUOUS = {
    "uniform": Distribution(
        lambda spec, share: _between(_limits(spec), share),
        lambda spec, value: _share(_limits(spec), value),
        LIMITS,
    ),
    "log_uniform": Distribution(
        lambda spec, share: math.exp(_between(_limits(spec), share)),
        lambda spec, value: _log_share(_limits(spec), value),
        LIMITS,
    ),
    "log_uniform_values": Distribution(
        lambda spec, share: math.exp(_between(_log_limits(spec), share)),
        lambda spec, value: _log_share(_log_limits(spec), value),
        LIMITS,
    ),
    # The values are exp(-x) for x between the limits.
    "inv_log_uniform": Distribution(
        lambda spec, share: math.exp(-_between(_limits(spec), 1 - share)),
        lambda spec, value: _log_share((-spec["max"], -spec["min"]), value),
        LIMITS,
    ),
    "inv_log_uniform_values": Distribution(
        lambda spec, share: math.exp(_between(_log_limits(spec), share)),
        lambda spec, value: _log_share(_log_limits(spec), value),
        LIMITS,
    ),
    "normal": Distribution(_normal_quantile, _normal_probability, (), ("mu", "sigma")),
    "log_normal": Distribution(
        lambda spec, share: math.exp(_normal_quantile(spec, share)),
        _log_normal_probability,
        (),
        ("mu", "sigma"),
    ),
    "beta": Distribution(_beta_quantile, _beta_probability, (), ("a", "b")),
}
# Those that can be rounded to multiples of q, as q_uniform.
QUANTIZED = ("uniform", "log_uniform", "log_uniform_values", "normal", "log_normal", "beta")

# Name -> (keys that it needs, keys that it may have), besides `distribution`.
KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ()),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (LIMITS, ()),
    **{name: (kind.needed, kind.optional) for name, kind in CONTINUOUS.items()},
    **{f"q_{name}": (CONTINUOUS[name].needed, (*CONTINUOUS[name].optional, "q")) for name in QUANTIZED},
}


def kind_of(spec: Parameter) -> str:
    """The name of the distribution, named or implied. Raises RequestError if no key implies one."""
    if "distribution" in spec:
        return spec["distribution"]
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    if "min" in spec and "max" in spec:
        return "int_uniform" if isinstance(spec["min"], int) and isinstance(spec["max"], int) else "uniform"
    if "mu" in spec or "sigma" in spec:
        return "normal"
    raise RequestError("a parameter needs a value, values, or min and max")


def problem(spec: Parameter) -> str | None:
    """Why no value can be drawn from the distribution, and what to do; None if values can be drawn."""
    try:
        kind = kind_of(spec)
    except RequestError:
        return "needs a value, values, or min and max"
    if not isinstance(kind, str) or kind not in KEYS:
        return f"has no valid distribution: {kind} is not one of {', '.join(KEYS)}"
    if kind == "constant":
        return None if "value" in spec else "needs a value"
    if kind in ("categorical", "categorical_w_probabilities"):
        return _problem_of_values(spec)
    return _problem_of_numbers(kind, spec)


def _problem_of_values(spec: Parameter) -> str | None:
    values, weights = spec.get("values"), spec.get("probabilities")
    if not isinstance(values, list) or not values:
        return "needs a list of values that is not empty"
    if weights is None:
        return None
    if not isinstance(weights, list) or len(weights) != len(values):
        return f"needs as many probabilities as values, which are {len(values)}"
    if any((number := finite(weight)) is None or number < 0 for weight in weights) or not sum(weights):
        return "needs probabilities that are numbers from 0 on, and not all of them 0"
    return None


def _problem_of_numbers(kind: str, spec: Parameter) -> str | None:
    needed, _ = KEYS[kind]
    for key in (*needed, *(key for key in ("mu", "sigma", "a", "b", "q") if key in spec)):
        value = spec.get(key)
        if finite(value) is None:
            text = f', not the string "{value}" (YAML reads 1e-5 as a string; write 1.0e-5)'
            return f"needs a number as its {key}{text if isinstance(value, str) else ''}"
        if kind == "int_uniform" and key in LIMITS and not isinstance(value, int):
            return f"needs a whole number as its {key}: {kind} draws whole numbers"
    if spec.get("sigma", 0) < 0:
        return f"has sigma {spec['sigma']}: make it 0 or more"
    for key, value in (("a", spec.get("a", 1)), ("b", spec.get("b", 1)), ("q", spec.get("q", 1))):
        if value <= 0:
            return f"has {key} {value}: make it greater than 0"
    low, high = finite(spec.get("min")), finite(spec.get("max"))
    if low is not None and high is not None and low > high:
        return f"has min {spec['min']}, which is greater than max {spec['max']}: swap them"
    if kind.endswith("_values") and spec["min"] <= 0:
        return f"has min {spec['min']}: {kind} needs one above 0"
    return None


def quantile(spec: Parameter, share: float) -> Any:
    """The value below which the distribution has this share, 0 to 1."""
    kind = kind_of(spec)
    if kind == "constant":
        return spec["value"]
    if "values" in spec:
        edges = _edges(spec)
        return next(
            (value for value, edge in zip(spec["values"], edges, strict=True) if share < edge),
            spec["values"][-1],
        )
    if kind == "int_uniform":
        count = int(spec["max"]) - int(spec["min"]) + 1
        return spec["min"] + min(int(share * count), count - 1)
    base = kind.removeprefix("q_")
    value = CONTINUOUS[base].quantile(spec, share)
    if base == kind:
        return value
    step = spec.get("q", 1)
    return round(value / step) * step


def probability(spec: Parameter, value: Any) -> float | None:
    """The share of the distribution at or below the value; None for a value that it does not have."""
    kind = kind_of(spec)
    if "values" in spec:
        place = next((i for i, choice in enumerate(spec["values"]) if same(choice, value)), None)
        return None if place is None else _edges(spec)[place]
    number = finite(value)
    if number is None:
        return None
    if kind == "int_uniform":
        count = int(spec["max"]) - int(spec["min"]) + 1
        return min(max(math.floor(number) - int(spec["min"]) + 1, 0) / count, 1.0)
    return CONTINUOUS[kind.removeprefix("q_")].probability(spec, number)


def is_constant(spec: Parameter) -> bool:
    return kind_of(spec) == "constant"


def is_discrete(spec: Parameter) -> bool:
    """Whether the distribution has separate values."""
    kind = kind_of(spec)
    return "values" in spec or kind == "int_uniform" or kind.startswith("q_")


def same(one: Any, other: Any) -> bool:
    """Equality as in JSON: 1 is 1.0, and true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _edges(spec: Parameter) -> list[float]:
    """The upper edges of the values' shares."""
    weights = spec.get("probabilities") or [1] * len(spec["values"])
    total, edges, so_far = sum(weights), [], 0.0
    for weight in weights:
        so_far += weight
        edges.append(so_far / total)
    return edges
