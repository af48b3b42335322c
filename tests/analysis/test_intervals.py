"""Means, intervals and p-values, against scipy's own."""

import math

import numpy as np
import pytest
from scipy import stats

from wandb_tl.analysis.intervals import holm, mean_of, paired_p


@pytest.mark.parametrize(
    "values", [[80.1, 80.4, 79.9], [1, 2], list(np.random.default_rng(0).normal(size=30))]
)
def test_the_interval_and_p_value_of_a_mean_are_those_of_the_t_test(values):
    test, mean = stats.ttest_1samp(values, 0), mean_of(values)
    assert (mean.mean - mean.half_width, mean.mean + mean.half_width) == pytest.approx(
        tuple(test.confidence_interval(0.95))
    )
    assert (mean.mean, mean.sd, mean.n) == pytest.approx(
        (np.mean(values), np.std(values, ddof=1), len(values))
    )
    assert paired_p(values) == pytest.approx(test.pvalue)


def test_a_single_value_has_no_interval():
    mean = mean_of(iter([80.5]))
    assert (mean.mean, mean.n) == (80.5, 1)
    assert math.isnan(mean.sd) and math.isnan(mean.half_width) and math.isnan(paired_p([80.5]))


def test_equal_differences_have_the_spread_of_rounding_to_whole_images():
    # 100 test images: accuracies in steps of one point.
    assert paired_p([1.0] * 4, step=1) == pytest.approx(2 * stats.t.sf(math.sqrt(6) * 2, 3))
    assert paired_p([0.0] * 4) == 1


def test_holm_is_the_step_down_procedure():
    p_values = [0.01, 0.04, math.nan, 0.03, 0.005, 0.9, 0.012]
    adjusted = holm(p_values)
    assert math.isnan(adjusted[2])
    tested = sorted((p, q) for p, q in zip(p_values, adjusted, strict=True) if not math.isnan(p))
    for alpha in np.linspace(0.001, 1, 200):
        holds = [p > alpha / (6 - i) for i, (p, _) in enumerate(tested)]
        rejected = holds.index(True) if any(holds) else 6
        assert [adjusted <= alpha for _, adjusted in tested] == [i < rejected for i in range(6)]
