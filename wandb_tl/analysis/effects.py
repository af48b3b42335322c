"""What one change of the best recipe does to its test accuracy: paired effects, and how sure they are.

The seed is the unit of evidence: runs with the same seed share initial weights and the order of images, so
their accuracies are compared seed by seed. Every interval is about training again with other seeds on the
same images, not about other images.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from wandb_tl.analysis.intervals import ALPHA, Mean, holm, mean_of, paired_p
from wandb_tl.analysis.runs_by_recipe import RunsByRecipe
from wandb_tl.hyperparameters import Value

# Hyperparameters that change along with another one: one side lacks them, or resolves "auto" differently.
TAKES_ALONG = {
    "pretrained": ("norm", "weights_file"),
    "finetuning": ("unfreeze",),
    "optimizer": ("momentum", "weight_decay"),
}

# With more values than this, as a search draws them, a hyperparameter is not compared value by value.
MOST_LEVELS = 5

# Hyperparameters that always change together count as one.
Factor = tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """From one value of a hyperparameter to another; None where it has no effect."""

    parameter: str
    before: Value | None
    after: Value | None


@dataclass(frozen=True)
class Lead:
    """How far the best recipe is ahead of another one.

    row: of the other recipe, from 1. lead: points, the mean of the differences by seed; its half width is
    that of the 95 % t-interval, NaN for one seed. p: two-sided, of the paired t-test; NaN for less than two
    seeds. p_corrected: by Holm (1979), for all other recipes. settled: that the best recipe is better.
    is_behind: that it is worse, which happens if other images have chosen it.
    """

    row: int
    lead: Mean
    p: float
    p_corrected: float = math.nan

    @property
    def settled(self) -> bool:
        return self.p_corrected < ALPHA and self.lead.mean > 0

    @property
    def is_behind(self) -> bool:
        return self.p_corrected < ALPHA and self.lead.mean < 0


@dataclass(frozen=True)
class Effect:
    """What one change of the best recipe does to its test accuracy.

    changes: of one hyperparameter, of those that always change with it, and of those that it brings along.
    row: of the recipe that the change leads to, from 1. effect: points, the mean of the differences by seed;
    its half width is that of the 95 % t-interval, NaN for one seed. p: two-sided, of the paired t-test; NaN
    for one seed. p_corrected: by Holm (1979) for all changes of the best recipe, mostly times the number of
    recipes that may be the best one, see at_the_winner().
    """

    changes: tuple[Change, ...]
    row: int
    effect: Mean
    p: float
    p_corrected: float = math.nan

    @property
    def settled(self) -> bool:
        return self.p_corrected < ALPHA


@dataclass(frozen=True)
class Pair:
    """Two recipes that differ in one change, and the difference in points: after minus before.

    before, after: their rows, from 1. The interval of the difference is for this pair alone.
    """

    change: Change
    before: int
    after: int
    difference: Mean
    p: float


def leads(runs: RunsByRecipe) -> list[Lead]:
    """The lead of the best recipe over each of the others, best first.

    A recipe that shares no seed with the best one has a lead of NaN over 0 seeds.
    """
    best, *others = runs.best_first
    results = []
    for other in others:
        differences = runs.differences(best, other)
        lead = mean_of(differences) if len(differences) else Mean(math.nan, math.nan, math.nan, 0)
        p = paired_p(differences, runs.step) if len(differences) else math.nan
        results.append(Lead(runs.rows[other], lead, p))
    adjusted = holm([one.p for one in results])
    return [dataclasses.replace(one, p_corrected=p) for one, p in zip(results, adjusted, strict=True)]


def at_the_winner(runs: RunsByRecipe, contenders: int) -> list[Effect]:
    """The effect of every change that leads from the best recipe to another recipe, largest first.

    contenders: the number of recipes that may be the best one, see leads(). The best recipe was chosen by the
    runs that are tested here. Each of the contenders could have been chosen, with changes of its own to test,
    so p-values are multiplied by their number, besides Holm's correction for the changes. Validation images
    favour the recipe that they choose on the test images too, because the models are the same: they make it
    look better, but never worse. So a change that improves on their choice is corrected by Holm alone.
    """
    best = runs.best_first[0]
    results = []
    for factor, other in neighbours(runs, best):
        differences = runs.differences(other, best)
        if len(differences):
            changes = _changes(runs, factor, best, other)
            p = paired_p(differences, runs.step)
            results.append(Effect(changes, runs.rows[other], mean_of(differences), p))
    adjusted = [
        p if one.effect.mean > 0 and not runs.test_images_chose else min(1.0, p * contenders)
        for one, p in zip(results, holm([one.p for one in results]), strict=True)
    ]
    effects = [
        dataclasses.replace(one, p_corrected=one.p if math.isnan(one.p) else p)
        for one, p in zip(results, adjusted, strict=True)
    ]
    return sorted(effects, key=lambda one: (-abs(one.effect.mean), one.row))


def pairs(runs: RunsByRecipe) -> list[Pair]:
    """All pairs of recipes that differ in one hyperparameter, by hyperparameter, the better recipes first."""
    results = []
    for factor in factors(runs):
        for recipe, other in itertools.combinations(runs.best_first, 2):
            if is_one_change(runs, factor, recipe, other):
                before, after = sorted((recipe, other), key=lambda one: _order(runs, factor[0], one))
                differences = runs.differences(after, before)
                if len(differences):
                    change = Change(factor[0], runs.values[before][factor[0]], runs.values[after][factor[0]])
                    p = paired_p(differences, runs.step)
                    results.append(Pair(change, runs.rows[before], runs.rows[after], mean_of(differences), p))
    return results


def neighbours(runs: RunsByRecipe, recipe: int) -> list[tuple[Factor, int]]:
    """The recipes that one change of a recipe leads to, with what changes; the better ones first."""
    return [
        (factor, other)
        for factor in factors(runs)
        for other in runs.best_first
        if other != recipe and is_one_change(runs, factor, recipe, other)
    ]


def is_one_change(runs: RunsByRecipe, factor: Factor, first: int, second: int) -> bool:
    """Whether two recipes differ in one factor, and in nothing else but what it takes along."""
    along = _along(factor)
    values, others = runs.values[first], runs.values[second]
    for name in runs.varied:
        if name not in factor and name not in along and values[name] != others[name]:
            return False
    if any(None in (values[name], others[name]) or values[name] == others[name] for name in factor):
        return False
    return all(runs.agree(name, first, second) for name in along)


def factors(runs: RunsByRecipe) -> list[Factor]:
    """The varied hyperparameters; those whose values always change together form one factor."""
    groups: list[Factor] = []
    for name in runs.varied:
        partners = [i for i, group in enumerate(groups) if _change_together(runs, group[0], name)]
        if partners:
            groups[partners[0]] += (name,)
        else:
            groups.append((name,))
    return groups


def inseparable(runs: RunsByRecipe) -> list[Factor]:
    """The hyperparameters that change only together, so that no run can tell their effects apart."""
    return [factor for factor in factors(runs) if len(factor) > 1]


def never_alone(runs: RunsByRecipe) -> list[str]:
    """The varied hyperparameters for which no two recipes differ in nothing else."""
    recipes = range(len(runs.values))
    return [
        factor[0]
        for factor in factors(runs)
        if len(factor) == 1
        and len(runs.levels(factor[0])) <= MOST_LEVELS
        and not any(is_one_change(runs, factor, *two) for two in itertools.combinations(recipes, 2))
    ]


def _change_together(runs: RunsByRecipe, first: str, second: str) -> bool:
    """Whether each value of a hyperparameter occurs with one value of another one, and the reverse.

    Where a search draws both, each value is the only one of its kind, which says nothing.
    """
    if len(runs.levels(first)) > MOST_LEVELS:
        return False
    both = {
        (row[first], row[second]) for row in runs.values if row[first] is not None and row[second] is not None
    }
    forward, backward = defaultdict(set), defaultdict(set)
    for one, other in both:
        forward[one].add(other)
        backward[other].add(one)
    covered = set(forward) == set(runs.levels(first)) and set(backward) == set(runs.levels(second))
    return covered and all(len(values) == 1 for values in (*forward.values(), *backward.values()))


@functools.cache
def _along(factor: Factor) -> frozenset[str]:
    return frozenset(name for member in factor for name in TAKES_ALONG.get(member, ())) - set(factor)


def _order(runs: RunsByRecipe, name: str, recipe: int) -> int:
    value = runs.values[recipe][name]
    assert value is not None
    return runs.levels(name).index(value)


def _changes(runs: RunsByRecipe, factor: Factor, before: int, after: int) -> tuple[Change, ...]:
    """How a recipe differs from another one, in a factor and what it takes along."""
    names: Iterable[str] = (name for name in runs.varied if name in factor or name in _along(factor))
    changes = (Change(name, runs.values[before][name], runs.values[after][name]) for name in names)
    # The factor itself comes first.
    differ = [change for change in changes if change.before != change.after]
    return tuple(sorted(differ, key=lambda change: change.parameter not in factor))
