"""Errors of single runs, against what chance really does and scipy's own test."""

import math

import numpy as np
import pandas as pd
import pytest

from wandb_tl.analysis.proportions import (
    McNemar,
    beyond_binomial,
    binomial_half_width,
    difference_interval,
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


@pytest.mark.parametrize(("only_first", "only_second"), [(0.02, 0.02), (0.01, 0.05), (0.1, 0.3)])
def test_the_interval_of_a_paired_difference_contains_it_in_95_of_100_samples(only_first, only_second):
    random = np.random.default_rng(0)
    shares = [only_first, only_second, 1 - only_first - only_second]
    samples = random.multinomial(300, shares, 4000)
    intervals = [difference_interval(McNemar(int(a), int(b), 300, math.nan)) for a, b, _ in samples]
    true = 100 * (only_second - only_first)
    assert 0.94 <= np.mean([low <= true <= high for low, high in intervals]) <= 0.98


def test_models_that_are_always_right_or_wrong_have_an_interval_too():
    for paired in (McNemar(0, 0, 100, 1.0), McNemar(0, 5, 5, 1.0), McNemar(1, 0, 1, 1.0)):
        low, high = difference_interval(paired)
        assert -100 <= low < high <= 100
    low, high = difference_interval(McNemar(6, 6, 300, 1.0))
    # Narrower than for two independent samples, because both models fail on the same images mostly.
    assert low == -high and high < 0.5 * binomial_half_width(80, 80, 300)
