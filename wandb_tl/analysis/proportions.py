"""What one run's accuracy against another's can say: errors of shares of one set of test images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from wandb_tl.analysis.effects import ALPHA


@dataclass(frozen=True)
class McNemar:
    """Images that only one of two models gets right, of n that both were given, and the exact two-sided p."""

    only_first: int
    only_second: int
    n: int
    p: float


def mcnemar(first: pd.Series, second: pd.Series) -> McNemar:
    """Whether two models differ on the same images, by McNemar's test (1947) in its exact form.

    first, second: whether each image was classified rightly, the same images in the same order.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differ = only_first + only_second
    p = float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0
    return McNemar(only_first, only_second, len(first), p)


def binomial_half_width(first: float, second: float, images: float) -> float:
    """Half width in points of the 95 % interval of the difference of two accuracies (per cent).

    first, second: the accuracies; images: on how many test images.
    The normal interval of two independent proportions. Two models that see the same images mostly fail on the
    same ones, and their difference then varies less: it is too wide rather than too narrow.
    """
    shares = np.array([first, second]) / 100
    return float(100 * stats.norm.ppf(1 - ALPHA / 2) * np.sqrt((shares * (1 - shares)).sum() / images))


def beyond_binomial(first: float, second: float, images: float) -> bool:
    """Whether two accuracies (per cent) differ by more than so many test images leave to chance."""
    return abs(first - second) > binomial_half_width(first, second, images)
