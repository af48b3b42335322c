"""Whether the validation images that chose the best recipe are enough for that, judged by them and the test.

The choice never moves to the test images: their accuracies would no longer be of images that choose nothing.
What they can tell is that the choice was wrong, so that more validation images have to make it again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wandb_tl.analysis.effects import Lead
from wandb_tl.analysis.intervals import mean_of
from wandb_tl.analysis.proportions import beyond_binomial
from wandb_tl.analysis.runs_by_recipe import SELECTION, RunsByRecipe

# Fewer common seeds decide next to nothing, which is too little against a choice.
LEAST_SEEDS = 3


@dataclass(frozen=True)
class Selection:
    """How validation images chose row 1.

    images: their number, NaN if the runs do not tell. better: the recipes that are settled to be better than
    row 1 on the test images, the best one first. is_close: whether rows 1 and 2 differ by less than these
    images can tell, or no more than their seeds do.
    """

    images: float
    better: tuple[Lead, ...]
    is_close: bool


def selection(runs: RunsByRecipe, leads: Sequence[Lead]) -> Selection | None:
    """How validation images chose the best recipe; None if the test images did, or there is one recipe.

    leads: as effects.py computes them.
    """
    if runs.test_images_chose or not leads:
        return None
    better = [lead for lead in leads if lead.is_behind and lead.lead.n >= LEAST_SEEDS]
    better.sort(key=lambda lead: lead.lead.mean)
    return Selection(runs.judging_images, tuple(better), _is_close(runs))


def _is_close(runs: RunsByRecipe) -> bool:
    """Whether the validation images do not settle the order of rows 1 and 2."""
    first, second = runs.best_first[:2]
    images = runs.judging_images
    shares = 100 * runs.judged[first], 100 * runs.judged[second]
    is_share = runs.judged_by == SELECTION and not math.isnan(images)
    if is_share and not beyond_binomial(*shares, images):
        return True
    by_seed = runs.runs.groupby(["recipe", "seed"])[runs.judged_by].mean()
    differences = (by_seed[first] - by_seed[second]).dropna()
    if len(differences) < 2:
        return False
    difference = mean_of(differences)
    return difference.mean <= difference.half_width
