"""What a search says about its hyperparameters: where its best recipes lie, and what goes with the metric.

A search is a sweep in which a number has many values, as random and Bayesian searches draw them. Its recipes
differ in many hyperparameters at once, so they are not compared change by change.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from wandb_tl.analysis import runs_by_recipe
from wandb_tl.analysis.effects import MOST_LEVELS
from wandb_tl.analysis.intervals import ALPHA, holm
from wandb_tl.analysis.runs_by_recipe import METRIC, RunsByRecipe, ValuesInEffect
from wandb_tl.hyperparameters import Value

# The best recipes, whose values are described, are this share of all.
BEST_SHARE = 0.25
# With fewer recipes, a rank correlation says next to nothing.
LEAST_CORRELATED = 10
# The best value lies at a bound if it is in this share of the range, next to the bound.
AT_BOUND = 0.05


@dataclass(frozen=True)
class Space:
    """The numbers that a search draws from.

    low, high: its ends. listed: the numbers, if the sweep lists them; empty if it draws from a range.
    defined: whether the sweep's definition says so; otherwise these are the numbers that the runs have.
    """

    low: float
    high: float
    logarithmic: bool
    listed: tuple[float, ...]
    defined: bool

    def share(self, value: float) -> float:
        """How far a number is on the way from the lower to the upper end: from 0 to 1."""
        low, high, place = (self._coordinate(number) for number in (self.low, self.high, value))
        return (place - low) / (high - low)

    def at(self, share: float) -> float:
        """The number at a share of the way; below 0 and above 1 it lies outside."""
        low, high = self._coordinate(self.low), self._coordinate(self.high)
        place = low + share * (high - low)
        return math.exp(place) if self.logarithmic else place

    def _coordinate(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation with the metric over n recipes.

    p: two-sided. p_corrected: by Holm (1979) for all hyperparameters of the search.
    """

    rho: float
    n: int
    p: float
    p_corrected: float = math.nan

    @property
    def settled(self) -> bool:
        return self.p_corrected < ALPHA


@dataclass(frozen=True)
class Hyperparameter:
    """A hyperparameter of a search.

    values: one per recipe, the best one first; None where it has no effect. space: None if its values are not
    numbers. best_quarter: the values of the best quarter of the recipes, in order. counts: how many recipes
    of the best quarter and of all have each value, if the sweep lists a few. correlation: None for values
    that are not numbers, or too few. end: the end of the space at which the best value lies. leans: whether
    the best quarter lies near that end, too.
    """

    name: str
    values: tuple[Value | None, ...]
    space: Space | None
    best_quarter: tuple[Value, ...]
    counts: dict[Value, tuple[int, int]]
    correlation: Correlation | None
    end: Literal["lower", "upper"] | None
    leans: bool

    @property
    def best(self) -> Value | None:
        """The value of the best recipe."""
        return self.values[0]


@dataclass(frozen=True)
class Search:
    """A search. method: of the sweep, such as bayes; empty if unknown. judged_by: the name of the metric.

    metric: one number per recipe, the best one first; NaN for recipes that diverged, which come last.
    quarter: how many recipes the best quarter has. left_out: how many runs have no results, because they were
    stopped early or failed.
    """

    method: str
    judged_by: str
    metric: tuple[float, ...]
    quarter: int
    left_out: int
    hyperparameters: tuple[Hyperparameter, ...]

    @property
    def diverged(self) -> int:
        return sum(map(math.isnan, self.metric))

    @property
    def ranks(self) -> list[float]:
        """The rank of each recipe by the metric, 1 is the worst; those that diverged share the lowest."""
        return [float(rank) for rank in stats.rankdata(np.nan_to_num(self.metric, nan=-math.inf))]


def search(frame: pd.DataFrame, runs: RunsByRecipe) -> Search | None:
    """What the runs of a search say; None for a sweep that is no search, or in which all runs diverged.

    frame: its runs, with the definition of the sweep as attrs["method"] and attrs["parameters"] if that is
    known. runs: the same by recipe.
    """
    definition: dict[str, Any] = frame.attrs.get("parameters") or {}
    spaces = {name: space(runs.levels(name), definition.get(name)) for name in runs.varied}
    if not any(_has_many(numbers, runs.levels(name)) for name, numbers in spaces.items()):
        return None
    metric, values = _recipes(frame, runs)
    if math.isnan(metric[0]):
        return None
    quarter = min(math.ceil(BEST_SHARE * len(metric)), sum(map(math.isfinite, metric)))
    result = Search(
        method=str(frame.attrs.get("method") or ""),
        judged_by=runs.judged_by,
        metric=tuple(metric),
        quarter=quarter,
        left_out=sum((frame.attrs.get("left_out") or {}).values()),
        hyperparameters=(),
    )
    described = [
        _describe(name, [row[name] for row in values], numbers, result) for name, numbers in spaces.items()
    ]
    p_values = [math.nan if one.correlation is None else one.correlation.p for one in described]
    corrected = (
        one
        if one.correlation is None
        else dataclasses.replace(one, correlation=dataclasses.replace(one.correlation, p_corrected=p))
        for one, p in zip(described, holm(p_values), strict=True)
    )
    return dataclasses.replace(result, hyperparameters=tuple(corrected))


def space(levels: Sequence[Any], spec: Mapping[str, Any] | None) -> Space | None:
    """The numbers that a hyperparameter is drawn from; None if its values are not numbers.

    levels: the values that the runs have, at least two. spec: its entry in the sweep's definition.
    """
    if any(isinstance(value, bool | str) for value in levels):
        return None
    spec = spec or {}
    kind = str(spec.get("distribution", ""))
    # Rounding to multiples may give 0.
    is_positive = min(levels) > 0
    if "min" in spec and "max" in spec:
        low, high = float(spec["min"]), float(spec["max"])
        if "log_uniform" in kind and not kind.endswith("_values"):
            # These bounds are exponents of e.
            low, high = (
                (math.exp(-high), math.exp(-low))
                if kind.startswith("inv")
                else (math.exp(low), math.exp(high))
            )
        return Space(low, high, "log" in kind and low > 0 and is_positive, (), True)
    defined = [value for value in spec.get("values", ()) if isinstance(value, int | float)]
    listed = tuple(sorted({float(value) for value in (*levels, *defined)}))
    low, high = listed[0], listed[-1]
    is_drawn = bool(kind) and "values" not in spec
    # Whether the numbers have their middle on a logarithmic scale in the middle, or on a linear one.
    middle, geometric, arithmetic = median(listed), math.sqrt(abs(low * high)), (low + high) / 2
    logarithmic = is_positive and abs(middle - geometric) < abs(middle - arithmetic)
    if is_drawn:
        logarithmic = "log" in kind and is_positive
    return Space(low, high, logarithmic, () if is_drawn else listed, "values" in spec)


def _has_many(numbers: Space | None, levels: Sequence[Value]) -> bool:
    """Whether a hyperparameter is a number with many values, or one that is drawn from a range."""
    if numbers is None:
        return False
    return max(len(levels), len(numbers.listed)) > MOST_LEVELS or (numbers.defined and not numbers.listed)


def _recipes(frame: pd.DataFrame, runs: RunsByRecipe) -> tuple[list[float], list[ValuesInEffect]]:
    """The metric and the hyperparameters of each recipe, the best one first, then those that diverged."""
    by_seed = runs.runs.groupby(["recipe", "seed"])[runs.judged_by].mean()
    metric = by_seed.groupby("recipe").mean().to_dict()
    has_diverged = (~np.isfinite(runs.runs["avg_train_loss"])).groupby(runs.runs["recipe"]).all()
    first = [recipe for recipe in runs.best_first if not has_diverged[recipe]]
    last = [runs.values[recipe] for recipe in runs.best_first if has_diverged[recipe]]
    without_accuracy = runs_by_recipe.in_effect(frame[~np.isfinite(frame[METRIC])]).astype(object)
    rows = without_accuracy.where(without_accuracy.notna(), None).to_dict("records")
    last += [{str(name): value for name, value in row.items()} for row in rows]
    values = [*(runs.values[recipe] for recipe in first), *last]
    return [*(float(metric[recipe]) for recipe in first), *[math.nan] * len(last)], values


def _describe(name: str, values: list[Value | None], numbers: Space | None, found: Search) -> Hyperparameter:
    """A hyperparameter of a search. values: one per recipe, in the order of its metric."""
    best_quarter = [value for value in values[: found.quarter] if value is not None]
    levels = runs_by_recipe.in_order(value for value in values if value is not None)
    counts: dict[Value, tuple[int, int]] = {}
    if numbers is None or (numbers.listed and len(levels) <= MOST_LEVELS):
        counts = {value: (best_quarter.count(value), values.count(value)) for value in levels}
    end = None if numbers is None or values[0] is None else _end(numbers, float(values[0]))
    leans = False
    if numbers is not None and end is not None:
        middle = median(numbers.share(float(value)) for value in best_quarter)
        leans = middle < 1 / 3 if end == "lower" else middle > 2 / 3
    return Hyperparameter(
        name=name,
        values=tuple(values),
        space=numbers,
        best_quarter=tuple(sorted(best_quarter, key=levels.index)),
        counts=counts,
        correlation=None if numbers is None else _correlation(values, found.ranks),
        end=end,
        leans=leans,
    )


def _end(numbers: Space, best: float) -> Literal["lower", "upper"] | None:
    """The end of a space at which a number lies. Of two numbers each is an end, which says nothing."""
    if numbers.high <= numbers.low or len(numbers.listed) == 2:
        return None
    margin = 0 if numbers.listed else AT_BOUND
    share = numbers.share(best)
    return "lower" if share <= margin else "upper" if share >= 1 - margin else None


def _correlation(values: Sequence[Value | None], ranks: Sequence[float]) -> Correlation | None:
    in_effect = [i for i, value in enumerate(values) if value is not None]
    numbers = [float(value) for value in values if value is not None]
    metric = [ranks[i] for i in in_effect]
    if len(numbers) < LEAST_CORRELATED or len(set(numbers)) == 1 or len(set(metric)) == 1:
        return None
    result = stats.spearmanr(numbers, metric)
    return Correlation(float(result.statistic), len(numbers), float(result.pvalue))
