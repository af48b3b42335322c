"""The distributions a sweep's parameter can have: their quantiles and their cumulative probabilities.

https://docs.wandb.ai/models/sweeps/sweep-config-keys#distributions documents them. Random search draws a
quantile, and Bayesian search looks at every parameter through its cumulative probability, as a coordinate in
[0, 1]. Both functions are the ones of W&B's own engine, so that a sweep means the same here and there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Row

Function = Callable[[Row, float], float]

NORMAL = NormalDist()
# An unbounded distribution has no quantile at 0 or 1.
EDGE = 1e-12


def _log(spec: Row) -> tuple[float, float]:
    return math.log(spec["min"]), math.log(spec["max"])


def _exponents(spec: Row) -> tuple[float, float]:
    return spec["min"], spec["max"]


def _between(bounds: tuple[float, float], part: float) -> float:
    low, high = bounds
    return low + part * (high - low)


def _part(bounds: tuple[float, float], value: float) -> float:
    low, high = bounds
    return 0.5 if high == low else min(max((value - low) / (high - low), 0.0), 1.0)


def _log_part(bounds: tuple[float, float], value: float) -> float:
    return _part(bounds, math.log(value)) if value > 0 else 0.0


def _deviate(spec: Row, part: float) -> float:
    return spec.get("mu", 0) + spec.get("sigma", 1) * NORMAL.inv_cdf(min(max(part, EDGE), 1 - EDGE))


def _normal_part(spec: Row, value: float) -> float:
    sigma = spec.get("sigma", 1)
    return NORMAL.cdf((value - spec.get("mu", 0)) / sigma) if sigma else 0.5


def _log_normal_part(spec: Row, value: float) -> float:
    return _normal_part(spec, math.log(value)) if value > 0 else 0.0


def _beta_part(spec: Row, value: float) -> float:
    return beta_probability(spec.get("a", 1), spec.get("b", 1), value)


def _beta_quantile(spec: Row, part: float) -> float:
    """By halving: the probability grows with the value."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _beta_part(spec, middle) < part else (low, middle)
    return (low + high) / 2


def beta_probability(a: float, b: float, value: float) -> float:
    """P(X <= value) of a beta distribution, by the continued fraction in DLMF 8.17.22."""
    if value <= 0 or value >= 1:
        return float(value >= 1)
    if value > (a + 1) / (a + b + 2):
        # The fraction converges fast only below the mean.
        return 1 - beta_probability(b, a, 1 - value)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(logarithm + a * math.log(value) + b * math.log1p(-value)) / a
    fraction = numerator = 1.0
    denominator = 0.0
    for step in range(400):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = m * (b - m) * value / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * value / ((a + 2 * m) * (a + 2 * m + 1))
        denominator = 1 / (1 + term * denominator or 1e-300)
        numerator = 1 + term / numerator or 1e-300
        change = numerator * denominator
        fraction *= change
        if step > 1 and abs(change - 1) < 1e-14:
            break
    return front * (fraction - 1)


# Name -> (quantile, cumulative probability, the numbers it cannot do without).
CONTINUOUS: dict[str, tuple[Function, Function, tuple[str, ...]]] = {
    "uniform": (
        lambda spec, part: _between(_exponents(spec), part),
        lambda spec, value: _part(_exponents(spec), value),
        ("min", "max"),
    ),
    "log_uniform": (
        lambda spec, part: math.exp(_between(_exponents(spec), part)),
        lambda spec, value: _log_part(_exponents(spec), value),
        ("min", "max"),
    ),
    "log_uniform_values": (
        lambda spec, part: math.exp(_between(_log(spec), part)),
        lambda spec, value: _log_part(_log(spec), value),
        ("min", "max"),
    ),
    # The values are exp(-x) for x between the bounds.
    "inv_log_uniform": (
        lambda spec, part: math.exp(-_between(_exponents(spec), 1 - part)),
        lambda spec, value: _log_part((-spec["max"], -spec["min"]), value),
        ("min", "max"),
    ),
    "inv_log_uniform_values": (
        lambda spec, part: math.exp(_between(_log(spec), part)),
        lambda spec, value: _log_part(_log(spec), value),
        ("min", "max"),
    ),
    "normal": (_deviate, _normal_part, ()),
    "log_normal": (lambda spec, part: math.exp(_deviate(spec, part)), _log_normal_part, ()),
    "beta": (_beta_quantile, _beta_part, ()),
}
# The same quantile, rounded to multiples of q.
QUANTIZED = ("uniform", "log_uniform", "log_uniform_values", "normal", "log_normal", "beta")


def kind_of(name: str, spec: Row) -> str:
    """The distribution's name, given or implied. Raises RequestError for a parameter that says nothing."""
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
    raise RequestError(f"parameter {name} needs a value, values, or min and max")


def check(name: str, spec: Row) -> None:
    """Raises RequestError for a distribution that cannot be drawn from."""
    kind = kind_of(name, spec)
    if kind == "constant":
        if "value" not in spec:
            raise RequestError(f"parameter {name} needs a value")
        return
    if kind in ("categorical", "categorical_w_probabilities"):
        _check_values(name, spec)
        return
    base = kind.removeprefix("q_") if isinstance(kind, str) else kind
    if (base not in CONTINUOUS and kind != "int_uniform") or (base != kind and base not in QUANTIZED):
        raise RequestError(f"parameter {name}: there is no distribution {kind}")
    for bound in CONTINUOUS[base][2] if base in CONTINUOUS else ("min", "max"):
        if not _is_number(spec.get(bound), int if kind == "int_uniform" else (int, float)):
            hint = f', not the text "{spec[bound]}"' if isinstance(spec.get(bound), str) else ""
            raise RequestError(
                f"parameter {name} needs a number as its {bound}{hint} (YAML wants 1.0e-5 for 1e-5)"
            )
    for key in ("mu", "sigma", "a", "b", "q"):
        if key in spec and not _is_number(spec[key], (int, float)):
            raise RequestError(f"parameter {name} needs a number as its {key}")
    if spec.get("sigma", 0) < 0 or any(spec.get(key, 1) <= 0 for key in "abq"):
        raise RequestError(f"parameter {name}: sigma must not be negative; a, b and q must be above 0")
    if _is_number(spec.get("min"), (int, float)) and spec["min"] > spec.get("max", spec["min"]):
        raise RequestError(f"parameter {name}: min {spec['min']} is above max {spec['max']}")
    if base.endswith("_values") and spec["min"] <= 0:
        raise RequestError(f"parameter {name}: min must be above 0 for {kind}")


def _is_number(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def _check_values(name: str, spec: Row) -> None:
    values, weights = spec.get("values"), spec.get("probabilities")
    if not isinstance(values, list) or not values:
        raise RequestError(f"parameter {name} needs a list of values that is not empty")
    if weights is None:
        return
    if not isinstance(weights, list) or len(weights) != len(values):
        raise RequestError(f"parameter {name} has not as many probabilities as values")
    if not all(_is_number(weight, (int, float)) and weight >= 0 for weight in weights) or not sum(weights):
        raise RequestError(f"parameter {name}: its probabilities must be numbers, and not all of them 0")


def quantile(name: str, spec: Row, part: float) -> Any:
    """The value below which the distribution has the share `part` (0 to 1)."""
    kind = kind_of(name, spec)
    if kind == "constant":
        return spec["value"]
    if "values" in spec:
        edges = _edges(spec)
        return next(
            (value for value, edge in zip(spec["values"], edges, strict=True) if part < edge),
            spec["values"][-1],
        )
    if kind == "int_uniform":
        count = spec["max"] - spec["min"] + 1
        return spec["min"] + min(int(part * count), count - 1)
    base = kind.removeprefix("q_")
    value = CONTINUOUS[base][0](spec, part)
    if base == kind:
        return value
    step = spec.get("q", 1)
    return round(value / step) * step


def probability(name: str, spec: Row, value: Any) -> float | None:
    """The share of the distribution at or below the value; None for a value that it does not have."""
    kind = kind_of(name, spec)
    if "values" in spec:
        place = next((i for i, choice in enumerate(spec["values"]) if same(choice, value)), None)
        return None if place is None else _edges(spec)[place]
    if not _is_number(value, (int, float)):
        return None
    if kind == "int_uniform":
        count = spec["max"] - spec["min"] + 1
        return min(max(math.floor(value) - spec["min"] + 1, 0) / count, 1.0)
    return CONTINUOUS[kind.removeprefix("q_")][1](spec, value)


def is_discrete(name: str, spec: Row) -> bool:
    """Whether the distribution has values apart from one another."""
    kind = kind_of(name, spec)
    return "values" in spec or kind == "int_uniform" or kind.startswith("q_")


def same(one: Any, other: Any) -> bool:
    """Equality as in JSON: 1 is 1.0, and true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _edges(spec: Row) -> list[float]:
    """The upper edges of the values' shares."""
    weights = spec.get("probabilities") or [1] * len(spec["values"])
    total, edges, so_far = sum(weights), [], 0.0
    for weight in weights:
        so_far += weight
        edges.append(so_far / total)
    return edges
