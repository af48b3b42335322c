"""Recipes that the images which choose between them do not tell apart, because there are too few of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wandb_tl.analysis import commands
from wandb_tl.analysis.next_runs import WORTH_VARYING, NextRuns
from wandb_tl.analysis.runs_by_recipe import METRIC, SELECTION, RunsByRecipe
from wandb_tl.config import RunConfig
from wandb_tl.hyperparameters import Value

# The accuracy of a recipe that has all images right, by the metric that orders the recipes.
ALL_RIGHT = {SELECTION: 1.0, METRIC: 100.0}
# The largest fraction of the training images that the next sweep holds out.
MOST_HELD_OUT = 0.5
# Each class gives its share, rounded: as much may be missing from the training images.
SPARE = 0.9
# How many times as many recipes the next sweep may have.
MOST_MORE = 2


@dataclass(frozen=True)
class Tie:
    """Recipes, row 1 among them, that are equal by the metric that orders them.

    recipes: how many of them. all_right: whether they have all images right. images: the number of images
    that choose, NaN if the runs do not tell.
    """

    recipes: int
    all_right: bool
    images: float


def tie(runs: RunsByRecipe) -> Tie | None:
    """The recipes that are tied with the best one, if all are tied or those have all images right."""
    tied, best = 1 + len(runs.tied_rows), runs.judged[runs.best_first[0]]
    all_right = ALL_RIGHT.get(runs.judged_by) == best
    if tied == 1 or not (all_right or tied == len(runs.values)):
        return None
    return Tie(tied, all_right, runs.judging_images)


def next_runs(runs: RunsByRecipe, config: RunConfig) -> NextRuns:
    """The same recipes with more held-out images; without a command if too few would be left to train on.

    config: of the best recipe.
    """
    never = tuple(
        name for name in WORTH_VARYING if name not in runs.varied and name not in config.without_effect
    )
    values: dict[str, list[Value]] = {name: runs.levels(name) for name in runs.varied}
    fraction = _larger_fraction(runs, config)
    command = None
    # A grid of all values would have recipes that nobody asks about.
    is_grid = math.prod(map(len, values.values())) <= MOST_MORE * len(runs.values)
    if fraction is not None and is_grid:
        values |= {"val_fraction": [fraction], "seed": list(runs.seeds)}
        command = commands.sweep(config, values)
    count = math.prod(map(len, values.values())) if command else 0
    return NextRuns(None, None, None, never, None, values, command, count)


def _larger_fraction(runs: RunsByRecipe, config: RunConfig) -> float | None:
    """A val_fraction that holds out more images, None if it has no effect or a batch would not be full."""
    fraction = round(min(2 * config.val_fraction, MOST_HELD_OUT), 2)
    if runs.test_images_chose or not fraction > config.val_fraction:
        return None
    batch_sizes = runs.levels("batch_size")
    train_images = float(runs.runs["train_images"].min()) / (1 - config.val_fraction) * (1 - fraction)
    enough = SPARE * train_images >= max(float(size) for size in batch_sizes)
    return fraction if enough else None
