"""How much of the variance of a metric each hyperparameter explains by itself."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from wandb_tl.local.pages.labels import differing
from wandb_tl.local.pages.values import Run, is_number

# Of fewer runs, any parameter explains everything.
LEAST_RUNS = 3
# A number with more values than this is taken as a quantity, not as a choice among few.
CHOICES = 5


def shares(runs: list[Run], key: str) -> list[tuple[str, float]]:
    """[(config key, share from 0 to 1)], the largest first, over the runs with a finite value of a column.

    The share is eta squared for a choice among few values, and the squared rank correlation for a quantity.
    Empty for fewer than three runs.
    """
    measured = [run for run in runs if is_number(run.value(key))]
    values = [float(run.value(key)) for run in measured]
    if len(measured) < LEAST_RUNS or len(set(values)) < 2:
        return []
    rows = []
    for name in differing(measured):
        column = [run.config.get(name) for run in measured]
        is_quantity = all(map(is_number, column)) and len(set(column)) > CHOICES
        if is_quantity or len({repr(value) for value in column}) < len(column):
            rows.append((name, _share(column, values, is_quantity)))
    return sorted(rows, key=lambda row: -row[1])


def _share(column: list[Any], values: list[float], is_quantity: bool) -> float:
    return rank_correlation(column, values) ** 2 if is_quantity else eta_squared(column, values)


def eta_squared(column: list[Any], values: list[float]) -> float:
    """The variance between the groups of equal settings, as a share of that of all values."""
    # The square of a large float may overflow; to divide by a power of two is exact.
    exponent = math.frexp(max(map(abs, values)))[1]
    values = [math.ldexp(value, -exponent) for value in values]
    groups: dict[str, list[float]] = {}
    for setting, value in zip(column, values, strict=True):
        groups.setdefault(repr(setting), []).append(value)
    mean = fmean(values)
    total = sum((value - mean) ** 2 for value in values)
    return sum(len(group) * (fmean(group) - mean) ** 2 for group in groups.values()) / total if total else 0.0


def rank_correlation(column: list[float], values: list[float]) -> float:
    """Spearman's rho; ties have their mean rank."""
    a, b = ranks(column), ranks(values)
    center = (len(a) - 1) / 2
    both = sum((x - center) * (y - center) for x, y in zip(a, b, strict=True))
    spread = (sum((x - center) ** 2 for x in a) * sum((y - center) ** 2 for y in b)) ** 0.5
    return both / spread if spread else 0.0


def ranks(values: list[float]) -> list[float]:
    """The place of each value among all in order, from 0."""
    order = sorted(values)
    first = {value: place for place, value in reversed(list(enumerate(order)))}
    last = {value: place for place, value in enumerate(order)}
    return [(first[value] + last[value]) / 2 for value in values]
