"""Single runs on one test set: the interval of an accuracy, of a paired difference, and McNemar's test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from wandb_tl.analysis.intervals import ALPHA


@dataclass(frozen=True)
class McNemar:
    """How many of n images only one of two models classifies correctly, and the exact two-sided p-value."""

    only_first: int
    only_second: int
    n: int
    p: float


def mcnemar(first: pd.Series[bool], second: pd.Series[bool]) -> McNemar:
    """Whether two models differ on the same images, by McNemar's test (1947) in its exact form.

    first, second: whether each image was classified correctly, the same images in the same order.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differ = only_first + only_second
    p = float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0
    return McNemar(only_first, only_second, len(first), p)


def difference_interval(result: McNemar) -> tuple[float, float]:
    """The 95 % interval, in points, of the second model's accuracy minus the first one's on the same images.

    That of Bonett and Price (2012), an adjusted Wald interval for paired proportions.
    """
    n = result.n + 2
    gained, lost = (result.only_second + 1) / n, (result.only_first + 1) / n
    middle = gained - lost
    half = float(stats.norm.ppf(1 - ALPHA / 2)) * math.sqrt((gained + lost - middle**2) / n)
    return 100 * max(-1.0, middle - half), 100 * min(1.0, middle + half)


def exact_interval(hits: int, images: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy in per cent, by Clopper and Pearson (1934).

    It contains the accuracy on all images of the kind with a probability of at least 95 %.
    """
    interval = stats.binomtest(hits, images).proportion_ci(1 - ALPHA, method="exact")
    return float(100 * interval.low), float(100 * interval.high)


def interval_of_share(percent: float, images: float) -> tuple[float, float]:
    """exact_interval() of one model with an accuracy in per cent; NaN if the number of images is unknown.

    NaN too for a number that is not a share, as a run of another program may log it.
    """
    if math.isnan(images) or not 0 <= percent <= 100:
        return math.nan, math.nan
    return exact_interval(round(percent / 100 * images), round(images))


def binomial_half_width(first: float, second: float, images: float) -> float:
    """Half width in points of the 95 % interval of the difference of two accuracies in per cent.

    images: the number of test images. This is the normal interval of two independent proportions. Models that
    see the same images mostly fail on the same ones, so that their difference varies less: the interval is
    too wide rather than too narrow.
    """
    shares = np.array([first, second]) / 100
    return float(100 * stats.norm.ppf(1 - ALPHA / 2) * np.sqrt((shares * (1 - shares)).sum() / images))


def beyond_binomial(first: float, second: float, images: float) -> bool:
    """Whether two accuracies in per cent differ by more than the binomial error of the test images."""
    return abs(first - second) > binomial_half_width(first, second, images)
