"""Recipes: runs that differ in nothing but their seed, or that share a value, and means over them."""

from __future__ import annotations

import bisect
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from wandb_tl.local.pages.labels import CONSIDERED, differing, is_seed, shortened, texts
from wandb_tl.local.pages.values import Run, is_number

# (x, y); y is None if the run logged a value that is not a finite number.
Points = Sequence[tuple[float, float | None]]

# Points of a mean over curves that have no x in common.
GRID = 200
# The config keys that runs can be grouped by, and the length of a recipe's whole label.
OPTIONS, LONGEST = 300, 2000
# Smaller and larger means are written with an exponent.
SMALLEST, LARGEST = 1e-4, 1e6


class Mean(NamedTuple):
    """A mean over n values, and its 95 % t-interval; for two values the range of them, for one None."""

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def text(self) -> str:
        """0.858 ± 0.012, or the mean of two runs and both values."""
        if self.low is None or self.high is None:
            return f"{self.value:.4g}"
        half = self.high / 2 - self.low / 2
        size = max(abs(self.low), abs(self.high))
        if size >= LARGEST or 0 < size < SMALLEST:
            value, low, high = (f"{number:.4g}" for number in (self.value, self.low, self.high))
            return f"{value} (2 runs: {low} to {high})" if self.n == 2 else f"{value} ± {half:.4g}"
        places = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 4
        value, low, high = (f"{number:.{min(places, 8)}f}" for number in (self.value, self.low, self.high))
        return f"{value} (2 runs: {low} to {high})" if self.n == 2 else f"{value} ± {half:.{min(places, 8)}f}"


@dataclass
class Recipe:
    """Runs that are shown together, in the colour of the oldest one."""

    id: str
    label: str
    runs: list[Run]

    @property
    def name(self) -> str:
        return f"{self.label}, {len(self.runs)} run{'s' if len(self.runs) != 1 else ''}"

    @property
    def color(self) -> str:
        return self.runs[0].color

    @property
    def dash(self) -> str:
        return self.runs[0].dash

    def mean(self, key: str) -> Mean | None:
        """Over the runs with a finite value of this summary key; None if there are none."""
        values = [float(run.summary[key]) for run in self.runs if is_number(run.summary.get(key))]
        return mean(values) if values else None


@dataclass
class Grouping:
    """How runs are grouped: by "none", "recipe" or a config key; and what else the reader can choose."""

    by: str
    options: list[str]
    recipes: list[Recipe]

    def of(self, runs: list[Run]) -> Grouping:
        """The recipes with those of their runs that are among some; without the recipes that have none."""
        ids = {run.id for run in runs}
        members = [(recipe, [run for run in recipe.runs if run.id in ids]) for recipe in self.recipes]
        return replace(self, recipes=[replace(recipe, runs=chosen) for recipe, chosen in members if chosen])

    def ranked(self, measure: str | None, maximize: bool) -> list[Recipe]:
        """The recipes with a mean of a summary key, the best one first."""
        means = [(recipe, recipe.mean(measure or "")) for recipe in self.recipes]
        measured = [(recipe, average.value) for recipe, average in means if average]
        return [recipe for recipe, _ in sorted(measured, key=lambda pair: pair[1], reverse=maximize)]


def group(runs: list[Run], chosen: str | None, keys: list[str] | None = None) -> Grouping:
    """Group runs, and give those of a group its colour. Without a choice, by recipe if seeds were repeated.

    keys: the config keys that make a recipe, by default those in which the runs differ. Seeds never count.
    """
    keys = [key for key in (differing(runs) if keys is None else keys) if not is_seed(key)]
    options = ["none", "recipe", *keys[:OPTIONS]]
    by = chosen if chosen in ("none", "recipe", *keys) else "recipe" if _repeats_seeds(runs, keys) else "none"
    if by == "none":
        return Grouping(by, options, [])
    recipes = _recipes(runs, keys if by == "recipe" else [by])
    for recipe in recipes:
        for run in recipe.runs:
            run.color, run.dash, run.recipe = recipe.color, recipe.dash, recipe.id
    return Grouping(by, options, recipes)


def _recipes(runs: list[Run], keys: list[str]) -> list[Recipe]:
    members: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        members.setdefault(tuple(repr(run.config.get(key)) for key in keys), []).append(run)
    groups = list(members.values())
    labels = _labels([group[0] for group in groups], keys)
    return [Recipe(f"group:{group[0].id}", label, group) for group, label in zip(groups, labels, strict=True)]


def _labels(firsts: list[Run], keys: list[str]) -> list[str]:
    """The labels of recipes, by the first run of each: short ones, whole ones where short ones are equal."""
    labels = [label or "all runs" for label in texts(firsts, keys)]
    counts = Counter(labels)
    for number, run in enumerate(firsts):
        if counts[labels[number]] > 1:
            own = [key for key in keys if key in run.config][:CONSIDERED]
            whole = shortened(" · ".join(f"{key} {run.config[key]}" for key in own), LONGEST)
            labels[number] = whole or labels[number]
    counts = Counter(labels)
    return [
        f"{label} · {run.id}" if counts[label] > 1 else label
        for run, label in zip(firsts, labels, strict=True)
    ]


def _repeats_seeds(runs: list[Run], keys: list[str]) -> bool:
    """Whether a recipe has runs with different seeds."""
    return any(len({_seeds(run) for run in recipe.runs} - {()}) > 1 for recipe in _recipes(runs, keys))


def _seeds(run: Run) -> tuple[tuple[str, str], ...]:
    """The seeds of a run, which may have several, such as seed and data.seed."""
    return tuple((key, repr(value)) for key, value in sorted(run.config.items()) if is_seed(key))


def mean(values: Sequence[float]) -> Mean:
    """Of one finite value or more. It has no interval if that is too large for a number."""
    n = len(values)
    try:
        center = statistics.fmean(values)
    except OverflowError:
        center = math.fsum(value / n for value in values)
    if n == 1:
        return Mean(center, None, None, n)
    if n == 2:
        return Mean(center, min(values), max(values), n)
    try:
        half = t_quantile(n - 1) * statistics.stdev(values) / math.sqrt(n)
    except OverflowError:
        half = math.inf
    if not (math.isfinite(center - half) and math.isfinite(center + half)):
        return Mean(center, None, None, n)
    return Mean(center, center - half, center + half, n)


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t distribution, to 0.2 %, from two degrees of freedom on.

    The expansion around the normal distribution (Abramowitz and Stegun, 26.7.5): importing scipy would take
    the server 40 MB.
    """
    if freedom == 2:
        return 4.302653
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))


def mean_curve(curves: Sequence[Points]) -> list[tuple[float, Mean]]:
    """The mean of curves at each x that they share; between their points if they share few."""
    finite = [[(x, y) for x, y in points if y is not None] for points in curves]
    finite = [points for points in finite if points]
    places = sorted({x for points in finite for x, _ in points})
    longest = max((len(points) for points in finite), default=0)
    if len(places) > 1.5 * longest:
        places = [_between(places[0], places[-1], i / (GRID - 1)) for i in range(GRID)]
    columns: list[list[float]] = [[] for _ in places]
    for points in finite:
        for column, y in zip(columns, values_at(points, places), strict=True):
            if y is not None:
                column.append(y)
    return [(x, mean(column)) for x, column in zip(places, columns, strict=True) if column]


def values_at(points: list[tuple[float, float]], places: list[float]) -> list[float | None]:
    """The values of a curve at some x, interpolated between its points; None outside of them."""
    points = sorted(points)
    xs = [x for x, _ in points]
    values: list[float | None] = []
    for place in places:
        after = bisect.bisect_left(xs, place)
        if after < len(xs) and xs[after] == place:
            values.append(points[after][1])
        elif 0 < after < len(xs):
            (x0, y0), (x1, y1) = points[after - 1], points[after]
            values.append(_between(y0, y1, (place / 2 - x0 / 2) / (x1 / 2 - x0 / 2)))
        else:
            values.append(None)
    return values


def _between(low: float, high: float, share: float) -> float:
    """The number at a share of the way; finite even where the way is too long for a number."""
    width = high - low
    return low + width * share if math.isfinite(width) else low * (1 - share) + high * share


def rows(grouping: Grouping, columns: list[str], measure: str | None, maximize: bool) -> list[dict[str, Any]]:
    """The table of recipes, the best one first: {recipe, n, means: one per column, None without values}.

    n: how many runs the mean in the first column is of; without columns, how many runs there are.
    """
    ranked = grouping.ranked(measure, maximize)
    places = {id(recipe) for recipe in ranked}
    others = [recipe for recipe in grouping.recipes if id(recipe) not in places]
    table = []
    for recipe in [*ranked, *others]:
        means = [recipe.mean(key) for key in columns]
        n = (means[0].n if means[0] else 0) if means else len(recipe.runs)
        table.append({"recipe": recipe, "n": n, "means": means})
    return table
