"""Means with 95 % intervals, p-values of paired differences, and Holm's correction of many p-values."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

ALPHA = 0.05
# Points: standard deviations below this are rounding errors.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Mean:
    """A mean with its standard deviation (n - 1) and the half width of its 95 % t-interval; NaN for n < 2."""

    mean: float
    sd: float
    half_width: float
    n: int


def mean_of(values: Iterable[float]) -> Mean:
    """The mean of independent values, at least one, with its 95 % t-interval."""
    sample = np.asarray(list(values), dtype=float)
    n, mean = len(sample), float(sample.mean())
    if n == 1:
        return Mean(mean, math.nan, math.nan, n)
    sd = float(sample.std(ddof=1))
    return Mean(mean, sd, _t_quantile(n - 1) * sd / math.sqrt(n), n)


@functools.cache
def _t_quantile(degrees: int) -> float:
    return float(stats.t.ppf(1 - ALPHA / 2, degrees))


def paired_p(differences: Iterable[float], step: float = 0.01) -> float:
    """Two-sided p-value of the paired t-test that independent differences are 0 on average; NaN for one.

    step: points of accuracy per test image. Equal differences have no spread for the t-test; they get the
    standard deviation that rounding to whole images may hide: step / sqrt(6), that of the difference of two
    accuracies, each rounded to a multiple of step.
    """
    effect = mean_of(differences)
    if effect.n < 2:
        return math.nan
    sd = effect.sd if effect.sd > ROUNDING else step / math.sqrt(6)
    t = effect.mean / (sd / math.sqrt(effect.n))
    return float(2 * stats.t.sf(abs(t), effect.n - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method (1979). NaN stays NaN and does not count."""
    values = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(values), math.nan)
    order = np.argsort(values)[: np.isfinite(values).sum()]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    return [float(p) for p in adjusted]
