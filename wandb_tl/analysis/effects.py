"""What changing a hyperparameter does to the test accuracy: paired effects, and how sure they are.

The seed is the unit of evidence. The differences that one seed shows in several recipes are averaged before
any test: they share weights and the order of images, and where recipes react differently, their spread is
interaction, not noise. So n is a number of seeds, and no run counts twice.

Every interval is about training again with other seeds on the same images, not about other images.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wandb_tl.analysis.intervals import ALPHA, Mean, holm, mean_of, paired_p
from wandb_tl.analysis.runs_by_recipe import RECIPE, RunsByRecipe
from wandb_tl.hyperparameters import Value

# With more values than this, comparing all pairs asks too many questions of one sweep: values are compared
# only if each has several runs, and are not crossed with other hyperparameters.
MOST_CROSSED = 5
# With more values than this, as a random search draws, none are compared.
MOST_LEVELS = 20

# Hyperparameters that change along with another one: one side lacks them, or resolves "auto" differently.
TAKES_ALONG = {
    "pretrained": ("norm", "weights_file"),
    "finetuning": ("unfreeze",),
    "optimizer": ("momentum", "weight_decay"),
    "dataset": ("data_dir",),
}

Kind = Literal["main", "interaction", "lead"]
# Numbers of recipes, one per side of a comparison: (low, high), or four for an interaction.
Sides = tuple[int, ...]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Change:
    """From one value of a hyperparameter to another; None where it has no effect."""

    parameter: str
    low: Value | None
    high: Value | None


@dataclass(frozen=True)
class Block:
    """The runs of one seed that differ in nothing but a comparison's changes, and their difference in points.

    runs: run ids by side, usually one each (several if a run was repeated; their mean counts). The sides are
    (low, high); of an interaction (low low, high low, low high, high high), the first change's level first.
    """

    seed: int
    runs: tuple[tuple[str, ...], ...]
    difference: float


@dataclass(frozen=True)
class Comparison:
    """What changing one hyperparameter, or two, does to the test accuracy.

    kind: "main", "interaction", or "lead" of the best recipe (high) over the second (low).
    effect: points, high minus low; of an interaction, how much larger the first change's effect is at the
    second's high level. Its n is the number of seeds. Its interval is for this comparison alone.
    p: two-sided, of a paired t-test over the seeds (see paired_p); NaN for one seed.
    p_holm: p adjusted by Holm's method for all comparisons of the sweep; NaN where p is.
    simple: of an interaction, the first change's effect at the second's low and at its high level; else ().
    blocks: the pairs (of an interaction, quadruples) of runs that it rests on, each of its recipes under
    each of its seeds. left_out: how many more there are, in recipes or seeds that are not complete.
    """

    kind: Kind
    changes: tuple[Change, ...]
    effect: Mean
    p: float
    simple: tuple[Mean, ...]
    blocks: tuple[Block, ...]
    left_out: int = 0
    p_holm: float = math.nan

    @property
    def significant(self) -> bool:
        return self.p_holm < ALPHA


def comparisons(frame: pd.DataFrame) -> list[Comparison]:
    """Main effects, two-way interactions and the best recipe's lead, with p-values adjusted by Holm (1979).

    Two values of a hyperparameter are compared where runs differ in nothing else that has an effect, the seed
    included. Hyperparameters in TAKES_ALONG may differ: Adam, which has no weight decay, is compared with SGD
    at each weight decay, and the mean counts; and `norm=auto` is one value. Main effects come first, in the
    order of FIELDS, and the lead last.
    """
    runs = RunsByRecipe(frame)
    changes = [
        Change(name, low, high)
        for name in runs.varied
        if _can_be_compared(runs, name)
        for low, high in itertools.combinations(runs.levels(name), 2)
    ]
    pairs = {change: _pairs(runs, change) for change in changes}
    candidates = [_compare(runs, "main", (change,), pairs[change]) for change in changes]
    crossed = [change for change in changes if len(runs.levels(change.parameter)) <= MOST_CROSSED]
    for first, second in itertools.combinations(crossed, 2):
        if first.parameter != second.parameter:
            quadruples = _quadruples(pairs[first], pairs[second])
            candidates.append(_compare(runs, "interaction", (first, second), quadruples))
    # A main effect that rests on nothing but the two best recipes is the lead already.
    alone = [set(sides[0]) for sides in pairs.values() if len(sides) == 1]
    if len(runs.best_first) > 1 and set(runs.best_first[:2]) not in alone:
        best, runner_up = runs.best_first[:2]
        candidates.append(_compare(runs, "lead", _differences(runs, runner_up, best), [(runner_up, best)]))
    kept = [candidate for candidate in candidates if candidate is not None]
    adjusted = holm([comparison.p for comparison in kept])
    return [dataclasses.replace(one, p_holm=p) for one, p in zip(kept, adjusted, strict=True)]


def not_compared(frame: pd.DataFrame) -> list[str]:
    """The varied hyperparameters that have too many values to be compared, as in a random search."""
    runs = RunsByRecipe(frame)
    return [name for name in runs.varied if not _can_be_compared(runs, name)]


def _can_be_compared(runs: RunsByRecipe, name: str) -> bool:
    """Whether a hyperparameter has few values, or several runs with each."""
    counts = runs.runs_per_level(name)
    return len(counts) <= MOST_CROSSED or (len(counts) <= MOST_LEVELS and min(counts.values()) > 1)


def _differences(runs: RunsByRecipe, low: int, high: int) -> tuple[Change, ...]:
    """How one recipe differs from another."""
    changes = (Change(name, runs.values[low][name], runs.values[high][name]) for name in runs.varied)
    return tuple(change for change in changes if change.low != change.high)


def _pairs(runs: RunsByRecipe, change: Change) -> list[Sides]:
    """The recipes (low, high) that differ in nothing but this change and what it takes along."""
    along = TAKES_ALONG.get(change.parameter, ())
    fixed = [name for name in RECIPE if name != change.parameter and name not in along]
    low: dict[tuple[Value | None, ...], list[int]] = defaultdict(list)
    high: dict[tuple[Value | None, ...], list[int]] = defaultdict(list)
    for recipe, row in enumerate(runs.values):
        key = tuple(row[name] for name in fixed)
        if row[change.parameter] == change.low:
            low[key].append(recipe)
        elif row[change.parameter] == change.high:
            high[key].append(recipe)
    return [
        pair
        for key in low
        for pair in itertools.product(low[key], high[key])
        if all(runs.agree(name, *pair) for name in along)
    ]


def _quadruples(first: Sequence[Sides], second: Sequence[Sides]) -> list[Sides]:
    """Recipes (low low, high low, low high, high high): pairs of one change that the other change pairs."""
    raised: dict[int, list[int]] = defaultdict(list)
    for low, high in second:
        raised[low].append(high)
    available = set(first)
    return [
        (low, high, *lifted)
        for low, high in first
        for lifted in itertools.product(raised[low], raised[high])
        if lifted in available
    ]


def _compare(
    runs: RunsByRecipe, kind: Kind, changes: tuple[Change, ...], contexts: Sequence[Sides]
) -> Comparison | None:
    """The comparison that rests on these pairs or quadruples of recipes; None if no seed has one."""
    if not contexts:
        return None
    signs = np.array([1, -1, -1, 1] if kind == "interaction" else [-1, 1])
    accuracy = runs.accuracy[np.array(contexts)]  # (contexts, sides, seeds)
    differences = signs @ accuracy
    available = np.isfinite(differences)
    if not available.any():
        return None
    kept, seeds = _complete(available)
    by_seed = accuracy[kept][:, :, seeds].mean(axis=0)
    units = signs @ by_seed
    simple: tuple[Mean, ...] = ()
    if kind == "interaction":
        simple = mean_of(by_seed[1] - by_seed[0]), mean_of(by_seed[3] - by_seed[2])
    blocks = tuple(
        Block(
            runs.seeds[seed],
            tuple(runs.ids[recipe, runs.seeds[seed]] for recipe in contexts[context]),
            float(differences[context, seed]),
        )
        for context, seed in itertools.product(np.flatnonzero(kept).tolist(), np.flatnonzero(seeds).tolist())
    )
    left_out = int(available.sum()) - len(blocks)
    return Comparison(kind, changes, mean_of(units), paired_p(units, runs.step), simple, blocks, left_out)


def _complete(available: Mask) -> tuple[Mask, Mask]:
    """Which rows and columns (two masks) of a mask (contexts, seeds) to keep so that nothing is missing.

    Each seed's average must be over the same recipes. All recipes are kept if they share two seeds;
    otherwise the recipes with the fewest seeds are left out until the remaining ones do.
    """
    counts = available.sum(axis=1)
    needed = min(2, counts.max())
    kept = np.argsort(-counts, kind="stable")
    while available[kept].all(axis=0).sum() < needed:
        kept = kept[:-1]
    return np.isin(np.arange(len(available)), kept), np.asarray(available[kept].all(axis=0))
