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
    assert formatting.points(Mean(-1.234, 1, float("nan"), 1), signed=False) == "1.23"
    assert formatting.points(Mean(-0.004, 1, 0.1, 5)) == "0.00 ± 0.10"
    assert formatting.points(Mean(10.0, 1, 0.1, 5), signed=False) == "10.00 ± 0.10"
    assert formatting.probability(0.0499) == "p = 0.0499" and formatting.probability(1e-9) == "p < 0.0001"


def test_levels_that_hold_markup_stay_in_their_code_span():
    assert formatting.code("a`b\n<i>") == "`a'b <i>`"
