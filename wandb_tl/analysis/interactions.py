"""Two hyperparameters that act together: how much one's effect depends on the other, in usable recipes.

What a change does among recipes that nobody would use decides nothing. So only recipes within reach of the
best one count: values that some recipe within reach has, and settings of the other hyperparameters with which
one of the four recipes of a comparison is within reach.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wandb_tl.analysis import effects
from wandb_tl.analysis.effects import Change, Factor
from wandb_tl.analysis.intervals import ALPHA, Mean, holm, mean_of, paired_p
from wandb_tl.analysis.proportions import interval_of_share
from wandb_tl.analysis.runs_by_recipe import RunsByRecipe
from wandb_tl.hyperparameters import Value

# A recipe is within reach if it makes at most this many times the errors of the best one.
REACH = 1.5

# Recipes (low low, high low, low high, high high): the value of the first hyperparameter comes first.
Quadruple = tuple[int, int, int, int]
# The settings of all other hyperparameters.
Context = tuple[tuple[str, Value], ...]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Interaction:
    """By how much the effect of one change differs between two values of another hyperparameter.

    first, second: the two changes. cells: mean test accuracies in per cent of (low low, high low, low high,
    high high), the first change's value first. simple: points, the first change's effect before and after the
    second one. effect: points, the difference of these two; p: two-sided, of the paired t-test over the
    seeds; NaN for one seed. p_corrected: by Holm (1979) for all interactions. contexts: the settings of the
    other varied hyperparameters that the means are over. rows: of the recipes that they are over, from 1.
    """

    first: Change
    second: Change
    cells: tuple[float, float, float, float]
    simple: tuple[Mean, Mean]
    effect: Mean
    p: float
    contexts: tuple[Context, ...]
    rows: tuple[int, ...]
    p_corrected: float = math.nan

    @property
    def settled(self) -> bool:
        return self.p_corrected < ALPHA


def within_reach(runs: RunsByRecipe) -> float:
    """The least test accuracy in per cent of a recipe within reach: at most REACH times the least errors.

    Few test images leave more room: the least accuracy that the best recipe may have on other images.
    """
    accuracy = max(mean.mean for mean in runs.means)
    low, _ = interval_of_share(accuracy, runs.images)
    least = 100 - REACH * (100 - accuracy)
    return least if math.isnan(low) else min(least, low)


def interactions(runs: RunsByRecipe) -> list[Interaction]:
    """All interactions of two hyperparameters within reach of the best recipe, largest first.

    Each is the mean over the settings of the other hyperparameters that have all recipes it needs; of a
    hyperparameter with more than two values, over those that have all its values, so that its effects add up.
    """
    threshold = within_reach(runs)
    usable = {recipe for recipe, mean in enumerate(runs.means) if mean.mean >= threshold}
    candidates = []
    for first, second in itertools.combinations(effects.factors(runs), 2):
        quadruples = _quadruples(runs, first, second, usable)
        for (change, by), contexts in _balanced(quadruples).items():
            one = _compare(runs, change, by, contexts)
            if one is not None:
                candidates.append(one)
    adjusted = holm([one.p for one in candidates])
    corrected = [dataclasses.replace(one, p_corrected=p) for one, p in zip(candidates, adjusted, strict=True)]
    return sorted(corrected, key=lambda one: -abs(one.effect.mean))


Quadruples = dict[tuple[Change, Change], dict[Context, list[Quadruple]]]


def _quadruples(runs: RunsByRecipe, first: Factor, second: Factor, usable: set[int]) -> Quadruples:
    """The quadruples of recipes of two factors, by their changes and the settings of everything else."""
    candidates: Quadruples = {}
    changes = [_changes_within(runs, factor[0], usable) for factor in (first, second)]
    for change, by in itertools.product(*changes):
        lifted: dict[int, list[int]] = defaultdict(list)
        for low, high in _pairs(runs, second, by):
            lifted[low].append(high)
        available = set(_pairs(runs, first, change))
        contexts: dict[Context, list[Quadruple]] = defaultdict(list)
        for low, high in available:
            for low_high, high_high in itertools.product(lifted[low], lifted[high]):
                quadruple = (low, high, low_high, high_high)
                if (low_high, high_high) in available and usable & set(quadruple):
                    contexts[_context(runs, quadruple, first[0], second[0])].append(quadruple)
        if contexts:
            candidates[change, by] = dict(sorted(contexts.items(), key=str))
    return candidates


def _changes_within(runs: RunsByRecipe, name: str, usable: set[int]) -> list[Change]:
    """The changes between values that some usable recipe has; none if there are too many."""
    levels = [level for level in runs.levels(name) if any(runs.values[one][name] == level for one in usable)]
    if len(levels) > effects.MOST_LEVELS:
        return []
    return [Change(name, *two) for two in itertools.combinations(levels, 2)]


def _pairs(runs: RunsByRecipe, factor: Factor, change: Change) -> list[tuple[int, int]]:
    """The recipes (before, after) that differ in nothing but a change of a factor."""
    before, after = (
        [recipe for recipe, values in enumerate(runs.values) if values[factor[0]] == level]
        for level in (change.before, change.after)
    )
    pairs = itertools.product(before, after)
    return [(low, high) for low, high in pairs if effects.is_one_change(runs, factor, low, high)]


def _context(runs: RunsByRecipe, quadruple: Quadruple, *crossed: str) -> Context:
    """The settings that the recipes of a quadruple share, where they have an effect in any of them."""
    shared = []
    for name in runs.varied:
        values = {runs.values[recipe][name] for recipe in quadruple} - {None}
        if name not in crossed and len(values) == 1:
            (value,) = values
            assert value is not None
            shared.append((name, value))
    return tuple(shared)


def _balanced(quadruples: Quadruples) -> Quadruples:
    """The quadruples in the contexts that all changes of the two factors have; all if there are none."""
    if not quadruples:
        return {}
    common = set.intersection(*(set(contexts) for contexts in quadruples.values()))
    if not common:
        return quadruples
    return {
        changes: {context: contexts[context] for context in contexts if context in common}
        for changes, contexts in quadruples.items()
    }


def _compare(
    runs: RunsByRecipe, first: Change, second: Change, contexts: Mapping[Context, Sequence[Quadruple]]
) -> Interaction | None:
    """The interaction that rests on the quadruples of recipes in some contexts; None if no seed has one."""
    quadruples = [(context, one) for context, ones in contexts.items() for one in sorted(ones)]
    accuracy = runs.accuracy[np.array([one for _, one in quadruples])]  # (quadruples, 4, seeds)
    available = np.isfinite(accuracy).all(axis=1)
    if not available.any():
        return None
    kept, seeds = _complete(available)
    by_seed = accuracy[kept][:, :, seeds].mean(axis=0)
    before, after = by_seed[1] - by_seed[0], by_seed[3] - by_seed[2]
    cells = tuple(float(cell) for cell in by_seed.mean(axis=1))
    used = [one for one, keep in zip(quadruples, kept, strict=True) if keep]
    return Interaction(
        first=first,
        second=second,
        cells=(cells[0], cells[1], cells[2], cells[3]),
        simple=(mean_of(before), mean_of(after)),
        effect=mean_of(after - before),
        p=paired_p(after - before, runs.step),
        contexts=tuple(dict.fromkeys(context for context, _ in used)),
        rows=tuple(sorted({runs.rows[recipe] for _, one in used for recipe in one})),
    )


def _complete(available: Mask) -> tuple[Mask, Mask]:
    """Which rows and columns (two masks) of a mask (quadruples, seeds) to keep so that nothing is missing.

    Each seed's average must be over the same recipes. All quadruples are kept if they share two seeds;
    otherwise those with the fewest seeds are left out until the remaining ones do.
    """
    counts = available.sum(axis=1)
    needed = min(2, counts.max())
    kept = np.argsort(-counts, kind="stable")
    while available[kept].all(axis=0).sum() < needed:
        kept = kept[:-1]
    return np.isin(np.arange(len(available)), kept), np.asarray(available[kept].all(axis=0))
