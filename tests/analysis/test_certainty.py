"""How sure a sweep's answer is, and what its runs cannot tell."""

import re

import numpy as np
from scipy import stats
from sweep_frames import GRID, grid, noisy, sweep

from wandb_tl.analysis import certainty
from wandb_tl.analysis.answer import answer
from wandb_tl.analysis.proportions import McNemar


def told(frame, **options):
    return answer(frame, "a/b/c", **options)


def test_what_is_not_settled_has_an_interval_and_is_never_called_noise():
    result = told(noisy(grid(GRID), lambda c: 80 + 10 * c.pretrained))
    assert [lead.row for lead in result.contenders] == [2, 3, 4]
    said = certainty.sentences(result)[0]
    low, high = (result.leads[0].lead.mean + sign * result.leads[0].lead.half_width for sign in (-1, 1))
    assert f"row 2 (between {low:+.2f} and {high:+.2f} points)".replace("-", "\N{MINUS SIGN}") in said
    assert "It beats the other 4" in said
    null = told(noisy(grid(GRID), lambda c: 80))
    assert "its lead over each of the other 7 recipes" in certainty.sentences(null)[0]


def test_an_interval_without_0_that_is_not_settled_is_said_to_be_one_of_many():
    # p is about 0.03 for each lead, and 0.05 must hold for all seven together.
    frame = noisy(grid(GRID), lambda c: 80 + 0.45 * c.finetuning + 0.4 * c.pretrained, 0.3)
    result = told(frame)
    apart = [lead for lead in result.contenders if lead.lead.mean > lead.lead.half_width]
    said = certainty.sentences(result)[0]
    assert apart and all(lead.p < 0.05 <= lead.p_corrected for lead in apart)
    assert ("points, but that is one of 7 comparisons)" in said) == (result.contenders[0] in apart)
    lead = apart[0]
    assert certainty._open(lead, result).endswith("points, but that is one of 7 comparisons)")


def test_two_seeds_and_one_seed_say_how_little_they_carry():
    two = certainty.sentences(told(sweep([0, 1])))
    assert two[1].startswith("Two seeds decide next to nothing")
    factors = [stats.t.ppf(0.975, n - 1) / np.sqrt(n) for n in (2, 3, 5)]
    assert re.findall(r"± ([\d.]+)", two[1]) == [f"{factor:.1f}" for factor in factors]
    one = certainty.sentences(told(sweep([0]), mcnemar=McNemar(120, 60, 10_000, 0.0002)))
    assert "how another seed would come out is unknown" in one[0]
    assert "all 7 other recipes are behind by more than the choice of 10,000 test images" in one[1]
    assert "120 are right in row 1 alone and 60 in row 2 alone: these two models differ" in one[2]
    # With several seeds, a test of two of the models is beside the point.
    assert told(sweep(), mcnemar=McNemar(120, 60, 10_000, 0.0002)).mcnemar is None


def test_what_cannot_be_told_apart_is_named():
    slow = grid({"optimizer": ["Adam"], "lr": [0.001], "finetuning": [True, False]})
    fast = grid({"optimizer": ["SGD"], "lr": [0.1], "finetuning": [True, False]})
    text = " ".join(certainty.cautions(told(noisy(slow + fast, lambda c: 80))))
    assert "Inseparable: `optimizer` and `lr` always change together" in text
