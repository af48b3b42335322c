"""Errors of single runs, against what chance really does and scipy's own test."""

import math

import numpy as np
import pandas as pd
import pytest

from wandb_tl.analysis.proportions import (
    beyond_binomial,
    binomial_half_width,
    exact_interval,
    interval_of_share,
    mcnemar,
)


def test_mcnemar_is_the_binomial_test_of_the_images_that_only_one_gets_right():
    random = np.random.default_rng(0)
    first, second = pd.Series(random.random(500) < 0.8), pd.Series(random.random(500) < 0.85)
    found = mcnemar(first, second)
    only_first, only_second = sum(first > second), sum(second > first)
    assert (found.only_first, found.only_second, found.n) == (only_first, only_second, 500)
    differ = only_first + only_second
    tail = sum(math.comb(differ, k) for k in range(min(only_first, only_second) + 1)) / 2**differ
    assert found.p == pytest.approx(2 * tail)
    assert mcnemar(first, first).p == 1


def test_the_binomial_error_covers_what_test_images_leave_to_chance():
    random = np.random.default_rng(0)
    first, second = random.binomial(400, 0.80, size=2000) / 4, random.binomial(400, 0.80, size=2000) / 4
    false_alarms = np.mean([beyond_binomial(a, b, 400) for a, b in zip(first, second, strict=True)])
    assert false_alarms == pytest.approx(0.05, abs=0.015)
    # Models that fail on the same images mostly: the difference varies less than the error allows.
    hard = random.random((2000, 400)) < 0.2
    wrong = [hard & (random.random((2000, 400)) < 0.9) for _ in range(2)]
    a, b = (100 - 100 * one.mean(axis=1) for one in wrong)
    assert np.std(a - b) < 0.6 * binomial_half_width(a[0], b[0], 400) / 1.96
    assert not beyond_binomial(80, 90, math.nan)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_the_exact_interval_contains_the_accuracy_in_95_of_100_samples(share):
    random = np.random.default_rng(0)
    intervals = {hits: exact_interval(hits, 60) for hits in range(61)}
    contained = [
        low <= 100 * share <= high for low, high in map(intervals.get, random.binomial(60, share, 4000))
    ]
    assert 0.945 <= np.mean(contained) <= 1
    assert intervals[60][1] == 100 and intervals[0][0] == 0


def test_what_is_no_share_has_no_interval():
    assert interval_of_share(80.0, 50) == exact_interval(40, 50)
    for share, images in ((80.0, math.nan), (8000.0, 50)):
        assert all(map(math.isnan, interval_of_share(share, images)))
