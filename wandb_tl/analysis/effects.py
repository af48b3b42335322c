"""What a sweep's runs say about its hyperparameters: means, paired effects and how sure they are.

The unit of evidence is the seed. What a comparison finds in several recipes under one seed is averaged before
anything is tested: those differences share weights and order of images, and where the recipes react
differently, their spread is interaction and not noise. So n is a number of seeds, and no run counts twice.

Every interval is about training again with other seeds on the same images, not about other images.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from wandb_tl.config import FIELDS, RunConfig

METRIC = "test_accuracy"
# What orders recipes and names the best one where all runs held images out, so that no test image chooses.
SELECTION = "val/accuracy"
ALPHA = 0.05
# Of more values than that, all pairs are too many questions for one sweep: they are compared only where each
# has several runs, and not crossed with other hyperparameters. A search draws more than can be paired at all.
MOST_CROSSED = 5
MOST_LEVELS = 20
# Points: what differs by less is equal but for rounding.
ROUNDING = 1e-9

RECIPE = [name for name in FIELDS if name != "seed"]
MEANS = ["avg_train_loss", "avg_train_accuracy", "train_seconds", "images_per_second"]
# What a change takes with it: the other side lacks it, or resolves "auto" differently.
TAKES_ALONG = {
    "pretrained": ("norm", "weights_file"),
    "finetuning": ("unfreeze",),
    "optimizer": ("momentum", "weight_decay"),
    "dataset": ("data_dir",),
}


@dataclass(frozen=True)
class Mean:
    """A mean with its standard deviation (n - 1) and the half width of its 95 % t-interval; NaN for n < 2."""

    mean: float
    sd: float
    half_width: float
    n: int


@dataclass(frozen=True)
class Change:
    """From one value of a hyperparameter to another; None where it has no effect."""

    parameter: str
    low: Any
    high: Any


@dataclass(frozen=True)
class Block:
    """The runs of one seed that differ in nothing but a comparison's changes, and their difference in points.

    runs: run ids by side, mostly one each (several: the same run repeated, whose mean counts). The sides are
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
    second's high level. Its n is the number of seeds, and its interval is its own, not one for all of them.
    p: two-sided, of a paired t-test over the seeds (see paired_p); NaN for one seed.
    p_holm: p times Holm's factor, for all comparisons of the sweep together; NaN where p is.
    simple: of an interaction, the first change's effect at the second's low and at its high level.
    blocks: the pairs (of an interaction, quadruples) of runs that it rests on, each of its recipes under
    each of its seeds. left_out: how many more there are, in recipes or seeds that are not complete.
    """

    kind: str
    changes: tuple[Change, ...]
    effect: Mean
    p: float
    simple: tuple[Mean, Mean] | None
    blocks: tuple[Block, ...]
    left_out: int = 0
    p_holm: float = math.nan

    @property
    def significant(self) -> bool:
        return self.p_holm < ALPHA


def in_effect(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with hyperparameters as they took effect: missing without one, auto as what it came to."""
    rows = _values_in_effect(frame)
    return frame.assign(**{name: [row[name] for row in rows] for name in FIELDS})


def varied(frame: pd.DataFrame) -> list[str]:
    """The hyperparameters that differ between the runs in which they have an effect, without the seed."""
    return _Sweep(frame).varied


def not_compared(frame: pd.DataFrame) -> list[str]:
    """The varied hyperparameters of too many values to be compared, as a random search has."""
    sweep = _Sweep(frame)
    return [name for name in sweep.varied if not sweep.can_be_compared(name)]


def mean_of(values: Iterable[float]) -> Mean:
    """The mean of independent values, at least one, with its 95 % t-interval."""
    values = np.asarray(list(values), dtype=float)
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Mean(mean, math.nan, math.nan, n)
    sd = float(values.std(ddof=1))
    return Mean(mean, sd, float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * sd / math.sqrt(n), n)


def recipes(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a recipe, which is all hyperparameters in effect but the seed; the best first.

    The best is that of the highest mean validation accuracy, if all runs have one, else test accuracy.

    Columns: the varied hyperparameters; mean, sd, half_width (points) and n (seeds) of the test accuracy;
    best_run, the id of the best run, and runs, those of all its runs; and the means of MEANS, and of
    SELECTION where it judged. A run repeated
    under its seed counts once, with the mean.
    """
    sweep = _Sweep(frame)
    best_first = sweep.runs.sort_values([sweep.judged_by, "seed", "id"], ascending=[False, True, True])
    table = pd.DataFrame(sweep.values, columns=sweep.varied)
    for name in ("mean", "sd", "half_width", "n"):
        table[name] = [getattr(mean, name) for mean in sweep.means]
    table["best_run"] = best_first.groupby("recipe")["id"].first()
    table["runs"] = sweep.runs.groupby("recipe")["id"].agg(tuple)
    means = [*MEANS, SELECTION] if sweep.judged_by == SELECTION else MEANS
    by_seed = sweep.runs.groupby(["recipe", "seed"])[means].mean()
    table[means] = by_seed.groupby("recipe").mean()
    return table.iloc[sweep.best_first].reset_index(drop=True)


def comparisons(frame: pd.DataFrame) -> list[Comparison]:
    """Main effects, two-way interactions and the best recipe's lead, with p-values adjusted by Holm (1979).

    A hyperparameter's two values are compared where runs differ in nothing else that has an effect, the seed
    included. What the change itself takes along (TAKES_ALONG) is no difference: Adam, which has no weight
    decay, is compared with SGD at each weight decay, and the mean counts; and `norm=auto` is one value.
    Main effects come first, in FIELDS' order, and the lead last.
    """
    sweep = _Sweep(frame)
    changes = [
        Change(name, low, high)
        for name in sweep.varied
        if sweep.can_be_compared(name)
        for low, high in itertools.combinations(sweep.levels(name), 2)
    ]
    pairs = {change: sweep.pairs(change) for change in changes}
    found = [sweep.compare("main", (change,), pairs[change]) for change in changes]
    crossed = [change for change in changes if len(sweep.levels(change.parameter)) <= MOST_CROSSED]
    for first, second in itertools.combinations(crossed, 2):
        if first.parameter != second.parameter:
            contexts = _quadruples(pairs[first], pairs[second])
            found.append(sweep.compare("interaction", (first, second), contexts))
    # A main effect of the two best recipes alone is the lead already.
    told = [set(contexts[0]) for contexts in pairs.values() if len(contexts) == 1]
    if len(sweep.best_first) > 1 and set(sweep.best_first[:2]) not in told:
        best, second = sweep.best_first[:2]
        found.append(sweep.compare("lead", sweep.changes(second, best), [(second, best)]))
    found = [comparison for comparison in found if comparison is not None]
    adjusted = holm([comparison.p for comparison in found])
    return [dataclasses.replace(one, p_holm=p) for one, p in zip(found, adjusted, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method (1979). NaN stays NaN and does not count."""
    p_values = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p_values), math.nan)
    order = np.argsort(p_values)[: np.isfinite(p_values).sum()]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return adjusted.tolist()


def paired_p(differences: Sequence[float], step: float = 0.01) -> float:
    """Two-sided p of independent differences under "no difference on average", by the t-test; NaN for one.

    step: what one test image is worth, in points. Differences that are all equal leave the t-test no spread
    to judge by; they have that of two accuracies in such steps, step / sqrt(6), which they may be hiding.
    """
    effect = mean_of(differences)
    if effect.n < 2:
        return math.nan
    sd = effect.sd if effect.sd > ROUNDING else step / math.sqrt(6)
    t = effect.mean / (sd / math.sqrt(effect.n))
    return float(2 * stats.t.sf(abs(t), effect.n - 1))


def _values_in_effect(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The hyperparameters of every run, None where one has no effect. (NaN would not be equal to itself.)"""
    rows = []
    records = frame[list(FIELDS)].to_dict("records")
    for given, precision in zip(records, frame["precision_in_effect"], strict=True):
        config = RunConfig(**given)
        row = config.as_dict() | {"norm": config.norm_in_effect, "precision": precision or config.precision}
        if config.stages_to_open == 1:
            row["unfreeze"] = "last_stage"
        rows.append(row | dict.fromkeys(config.without_effect))
    return rows


class _Sweep:
    """The runs that have an accuracy, by recipe and seed, whatever their order in the frame.

    runs: a frame, with each run's number of its recipe. values: the hyperparameters in effect, by recipe.
    accuracy: (recipes, seeds), the mean of the runs there, NaN without any. step: what a test image is worth.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.runs = frame[np.isfinite(frame[METRIC])].sort_values("id", ignore_index=True)
        keys = [tuple(row[name] for name in RECIPE) for row in _values_in_effect(self.runs)]
        # None comes last: it has no order of its own.
        found = sorted(set(keys), key=lambda key: [(value is None, value) for value in key])
        self.values = [dict(zip(RECIPE, key, strict=True)) for key in found]
        numbers = {key: number for number, key in enumerate(found)}
        self.runs["recipe"] = [numbers[key] for key in keys]
        self.norms_given = self.runs.groupby("recipe")["norm"].agg(set).to_dict()
        by_seed = self.runs.groupby(["recipe", "seed"])
        self.ids = by_seed["id"].agg(tuple).to_dict()
        accuracy = by_seed[METRIC].mean().unstack("seed")
        self.accuracy, self.seeds = accuracy.to_numpy(), accuracy.columns.tolist()
        self.means = [mean_of(row[np.isfinite(row)]) for row in self.accuracy]
        images = self.runs["test_images"].min() if "test_images" in self.runs else math.nan
        self.step = 0.01 if math.isnan(images) else 100 / images
        chosen = SELECTION in self.runs and self.runs[SELECTION].notna().all()
        self.judged_by = SELECTION if chosen else METRIC
        judged = by_seed[self.judged_by].mean().groupby("recipe").mean()
        self.best_first = sorted(range(len(found)), key=lambda recipe: -judged[recipe])
        # A norm of auto in all runs only follows `pretrained`.
        follows = {"norm"} if set(self.runs["norm"]) == {"auto"} else set()
        self.varied = [name for name in RECIPE if name not in follows and len(self.levels(name)) > 1]

    def can_be_compared(self, name: str) -> bool:
        """Whether a hyperparameter's values are few, or have each several runs."""
        runs = Counter(self.values[recipe][name] for recipe in self.runs["recipe"])
        runs.pop(None, None)
        return len(runs) <= MOST_CROSSED or (len(runs) <= MOST_LEVELS and min(runs.values()) > 1)

    def levels(self, name: str) -> list:
        """The values of a hyperparameter, in order."""
        return sorted({row[name] for row in self.values} - {None})

    def changes(self, low: int, high: int) -> tuple[Change, ...]:
        """How one recipe differs from another."""
        values = [(name, self.values[low][name], self.values[high][name]) for name in self.varied]
        return tuple(Change(*one) for one in values if one[1] != one[2])

    def pairs(self, change: Change) -> list[tuple[int, int]]:
        """The recipes (low, high) between which nothing changes but this and what it takes along."""
        along = TAKES_ALONG.get(change.parameter, ())
        fixed = [name for name in RECIPE if name != change.parameter and name not in along]
        low, high = defaultdict(list), defaultdict(list)
        for recipe, row in enumerate(self.values):
            key = tuple(row[name] for name in fixed)
            if row[change.parameter] == change.low:
                low[key].append(recipe)
            elif row[change.parameter] == change.high:
                high[key].append(recipe)
        return [
            pair
            for key in low
            for pair in itertools.product(low[key], high[key])
            if all(self._alike(name, *pair) for name in along)
        ]

    def _alike(self, name: str, low: int, high: int) -> bool:
        values = self.values[low][name], self.values[high][name]
        given_alike = name == "norm" and self.norms_given[low] & self.norms_given[high]
        return None in values or values[0] == values[1] or bool(given_alike)

    def compare(
        self, kind: str, changes: tuple[Change, ...], contexts: list[tuple[int, ...]]
    ) -> Comparison | None:
        """The comparison that rests on these pairs or quadruples of recipes; None if no seed has one."""
        if not contexts:
            return None
        signs = np.array([1, -1, -1, 1] if kind == "interaction" else [-1, 1])
        accuracy = self.accuracy[np.array(contexts)]  # (contexts, sides, seeds)
        differences = signs @ accuracy
        available = np.isfinite(differences)
        if not available.any():
            return None
        kept, seeds = _complete(available)
        by_seed = accuracy[kept][:, :, seeds].mean(axis=0)
        units = signs @ by_seed
        simple = None
        if kind == "interaction":
            simple = mean_of(by_seed[1] - by_seed[0]), mean_of(by_seed[3] - by_seed[2])
        blocks = tuple(
            Block(
                self.seeds[seed],
                tuple(self.ids[recipe, self.seeds[seed]] for recipe in contexts[context]),
                float(differences[context, seed]),
            )
            for context, seed in itertools.product(np.flatnonzero(kept), np.flatnonzero(seeds))
        )
        left_out = int(available.sum()) - len(blocks)
        return Comparison(kind, changes, mean_of(units), paired_p(units, self.step), simple, blocks, left_out)


def _quadruples(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Recipes (low low, high low, low high, high high): pairs of one change that the other change pairs."""
    raised = defaultdict(list)
    for low, high in second:
        raised[low].append(high)
    known = set(first)
    return [
        (low, high, *lifted)
        for low, high in first
        for lifted in itertools.product(raised[low], raised[high])
        if lifted in known
    ]


def _complete(available: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows and columns (two masks) of a mask (contexts, seeds) to keep so that nothing is missing.

    Each seed's average has to be over the same recipes. It is over all of them as long as they share two
    seeds; else those with the fewest seeds are left out until the rest do.
    """
    counts = available.sum(axis=1)
    needed = min(2, counts.max())
    kept = np.argsort(-counts, kind="stable")
    while available[kept].all(axis=0).sum() < needed:
        kept = kept[:-1]
    return np.isin(np.arange(len(available)), kept), available[kept].all(axis=0)
