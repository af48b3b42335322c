"""How numbers, rows and values are printed."""

import pytest

from wandb_tl.analysis import formatting
from wandb_tl.analysis.intervals import Mean


@pytest.mark.parametrize(
    ("numbers", "text"), [((3, 1, 2), "1-3"), ((1, 3), "1, 3"), ((5,), "5"), ((1, 2, 4), "1-2, 4")]
)
def test_ranges(numbers, text):
    assert formatting.ranges(numbers) == text


def test_points_and_probabilities():
    assert formatting.points(Mean(-1.234, 1, 0.5, 5)) == "\N{MINUS SIGN}1.23 ± 0.50"
    assert formatting.points(Mean(-1.234, 1, float("nan"), 1), with_sign=False) == "1.23"
    assert formatting.points(Mean(-0.004, 1, 0.1, 5)) == "0.00 ± 0.10"
    assert formatting.points(Mean(10.0, 1, 0.1, 5), with_sign=False) == "10.00 ± 0.10"
    numbers = (0.0499, 1e-9, 0.00104, 0.5, float("nan"))
    assert [formatting.probability(p) for p in numbers] == ["0.05", "< 0.001", "0.001", "0.50", ""]


def test_what_is_not_settled_has_its_interval():
    assert formatting.verdict(Mean(1, 1, 0.5, 5), True) == "settled"
    assert formatting.verdict(Mean(0.2, 1, 0.5, 5), False) == (
        "not settled: between \N{MINUS SIGN}0.30 and +0.70"
    )
    assert formatting.verdict(Mean(1, 1, 0.5, 5), False).endswith("its own interval leaves out 0")
    assert formatting.verdict(Mean(1, float("nan"), float("nan"), 1), False) == "no interval"
    assert formatting.verdict(Mean(0, 0, 0, 5), False) == "not settled: equal in each seed"


def test_all_images_right_has_the_exact_bound_in_place_of_an_interval():
    assert formatting.accuracy(100.0, 0.0, 92.89) == "100.00 (at least 92.9)"
    assert formatting.accuracy(99.0, 0.5, 97.0) == "99.00 ± 0.50"


def test_levels_that_hold_markup_stay_in_their_code_span():
    assert formatting.code("a`b\n<i>") == "`a'b <i>`"
