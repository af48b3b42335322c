"""What to run next: a comparison that more seeds would settle, or a hyperparameter that was never varied."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from wandb_tl.analysis import commands
from wandb_tl.analysis.commands import CommandLine
from wandb_tl.analysis.effects import Lead
from wandb_tl.analysis.intervals import ALPHA, Mean
from wandb_tl.analysis.runs_by_recipe import RunsByRecipe
from wandb_tl.config import RunConfig
from wandb_tl.hyperparameters import Value

# The probability with which the proposed number of seeds settles a difference of the observed size.
POWER = 0.8
# A difference that needs more seeds than this is too small to matter.
MOST_SEEDS = 12
# The seeds that recipes with one or two seeds need before anything can be said about them.
LEAST_SEEDS = 5
# The hyperparameters that a sweep varies to find a better recipe, the most rewarding ones first.
WORTH_VARYING = (
    *("lr", "finetuning", "unfreeze", "epochs", "image_size", "augment", "optimizer", "weight_decay"),
    *("scheduler", "batch_size", "norm", "model_name", "pretrained"),
)

# What follows a probe: the last stage trains too, from the probe's classifier or from a random one.
FROM_PROBE = "classifier_start"
AFTER_PROBE: dict[str, Any] = {
    "finetuning": True,
    "optimizer": "AdamW",
    "lr": 0.003,
    "weight_decay": 0.01,
    "scheduler": "cosine",
    "warmup_epochs": 0.0,
    "head_epochs": 0,
}


@dataclass(frozen=True)
class NextRuns:
    """What to run next, and why.

    row: of the recipe that more seeds would tell from the best one, None if the command varies something.
    seeds: how many new ones each of the two needs. too_similar: the row of the nearest recipe that even
    MOST_SEEDS seeds would not tell from the best one, None if there is none. never_varied: hyperparameters
    that all runs have in common, the most rewarding ones first. varies: the hyperparameter that the command
    varies, None if it repeats recipes with more seeds. values: what it tries, by hyperparameter. command:
    None if Python code has handed the model or the images over. runs: how many runs that is.
    """

    row: int | None
    seeds: int | None
    too_similar: int | None
    never_varied: tuple[str, ...]
    varies: str | None
    values: dict[str, list[Value]]
    command: CommandLine | None
    runs: int


def seeds_to_settle(difference: Mean) -> int | None:
    """How many new seeds a paired t-test of two recipes needs to settle a difference of this size and spread.

    The smallest number for which it does so with a probability of POWER; None if it exceeds MOST_SEEDS.
    """
    # The spread of two seeds says next to nothing.
    if difference.n <= 2:
        return LEAST_SEEDS
    for n in range(LEAST_SEEDS, MOST_SEEDS + 1):
        shift = abs(difference.mean) * math.sqrt(n) / max(difference.sd, 1e-9)
        limit = stats.t.ppf(1 - ALPHA / 2, n - 1)
        if stats.nct.sf(limit, n - 1, shift) >= POWER:
            return n
    return None


def repeat(plan: NextRuns, config: RunConfig) -> NextRuns:
    """A plan that trains a recipe with several seeds instead."""
    seeds: dict[str, list[Value]] = {"seed": list(range(LEAST_SEEDS))}
    command = commands.sweep(config, seeds)
    return dataclasses.replace(
        plan, row=None, seeds=None, varies=None, values=seeds, command=command, runs=LEAST_SEEDS
    )


def propose(runs: RunsByRecipe, config: RunConfig, leads: Sequence[Lead]) -> NextRuns:
    """What to run next. config: of the best recipe. leads: as effects.py computes them."""
    never = tuple(name for name in WORTH_VARYING if name in _not_varied(runs, config))
    if config.is_probe:
        values: dict[str, list[Value]] = {FROM_PROBE: ["probe", "random"], "seed": list(range(LEAST_SEEDS))}
        finetuned = dataclasses.replace(config, **AFTER_PROBE, batch_size=_batch_size(runs, config))
        command = commands.sweep(finetuned, values)
        return NextRuns(None, None, None, never, FROM_PROBE, values, command, _count(values))
    too_similar = None
    for lead in (lead for lead in leads if not lead.settled):
        seeds = seeds_to_settle(lead.lead)
        if seeds is None:
            # Otherwise the seeds so far tell them apart, if only by an interval that is not corrected.
            is_similar = abs(lead.lead.mean) <= lead.lead.half_width
            too_similar = too_similar or (lead.row if is_similar else None)
        elif values := _values_of_both(runs, lead.row, seeds):
            command = commands.sweep(config, values)
            return NextRuns(lead.row, seeds, too_similar, never, None, values, command, _count(values))
    name, tried = _variation(config, never)
    values = {name: tried, "seed": list(range(LEAST_SEEDS))}
    command = commands.sweep(config, values)
    return NextRuns(None, None, too_similar, never, name, values, command, _count(values))


def _batch_size(runs: RunsByRecipe, config: RunConfig) -> int:
    """The batch size of a probe, which has none, or the largest power of two that its images fill."""
    images = float(runs.runs["train_images"].min()) if "train_images" in runs.runs else math.nan
    return config.batch_size if not images < config.batch_size else 1 << (int(images).bit_length() - 1)


def _values_of_both(runs: RunsByRecipe, row: int, seeds: int) -> dict[str, list[Value]]:
    """The values in which the best recipe and another one differ, and as many seeds that none has.

    The seeds so far have chosen the best recipe, so they favour it. Empty if the two differ in more than one
    hyperparameter that has an effect in both: a grid of their values would contain recipes that nobody asks
    about.
    """
    two = [runs.best_first[0], runs.best_first[row - 1]]
    values: dict[str, list[Value]] = {}
    for name in runs.varied:
        both = [runs.values[recipe][name] for recipe in two]
        if both[0] != both[1]:
            values[name] = [value for value in both if value is not None]
    if sum(len(tried) > 1 for tried in values.values()) > 1:
        return {}
    has_run = np.isfinite(runs.accuracy[two]).any(axis=0)
    first = max(seed for seed, used in zip(runs.seeds, has_run, strict=True) if used) + 1
    return values | {"seed": list(range(first, first + seeds))}


def _not_varied(runs: RunsByRecipe, config: RunConfig) -> set[str]:
    return set(WORTH_VARYING) - set(runs.varied) - config.without_effect


def _variation(config: RunConfig, never: Sequence[str]) -> tuple[str, list[Value]]:
    """The hyperparameter that the next sweep varies, and its values around those of a recipe."""
    tried: dict[str, list[Value]] = {
        "lr": [float(f"{factor * config.lr:.2g}") for factor in (0.3, 1, 3)],
        "unfreeze": ["last_stage", "2", "3"],
        "finetuning": [False, True],
        "epochs": [config.epochs, 2 * config.epochs],
        "image_size": [config.image_size, 2 * config.image_size],
        "augment": ["none", "flip", "flip_crop"],
        "optimizer": ["Adam", "AdamW", "SGD"],
        "weight_decay": [0.0, 0.01, 0.1],
        "scheduler": ["constant", "cosine"],
    }
    name = next((name for name in never if name in tried), "lr")
    return name, tried[name]


def _count(values: dict[str, list[Value]]) -> int:
    return math.prod(len(tried) for tried in values.values())
