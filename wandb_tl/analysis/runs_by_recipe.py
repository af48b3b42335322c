"""A sweep's runs grouped by recipe and seed: hyperparameters in effect, mean accuracies, the best recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wandb_tl.analysis.intervals import mean_of
from wandb_tl.analysis.proportions import interval_of_share
from wandb_tl.config import FIELDS, RunConfig
from wandb_tl.hyperparameters import Value

METRIC = "test_accuracy"
# Orders the recipes and names the best one if all runs have it, so that no test image chooses.
SELECTION = "val/accuracy"
# Metrics that order the recipes if the sweep optimizes them: a rare class counts as much as a frequent one.
MACRO = ("val/f1_macro", "test/f1_macro")

# In per cent: an accuracy below it says little about a data set in which one class has this share.
MOST_OF_ONE_CLASS = 50

# Another seed, or another part of the images held out, repeats a recipe.
RECIPE = [name for name in FIELDS if name not in ("seed", "fold")]
# Runs that agree in these, and in the number of their test images, are tested on the same images.
TEST_IMAGES = ("dataset", "data_dir", "test_limit", "test_fraction")
MEANS = ["avg_train_loss", "avg_train_accuracy", "train_seconds", "images_per_second"]

Floats = NDArray[np.float64]
# The hyperparameters of a run or a recipe as they take effect; None: without effect.
ValuesInEffect = dict[str, Value | None]


class RunsByRecipe:
    """The runs of a frame that have an accuracy, by recipe and seed. The frame's order does not matter.

    runs: a frame with the number of each run's recipe in the column "recipe". values: the hyperparameters in
    effect, by recipe. accuracy: (recipes, seeds), the mean over the runs there, NaN where there are none.
    ids: run ids by recipe and seed. images: the number of test images, NaN if the runs do not tell. step:
    points of accuracy per test image. best_first: recipes, ordered by the column `judged_by`; judged: its
    mean, by recipe. rows: the row of each recipe in that order, from 1. varied: names of the hyperparameters
    that differ where they have an effect.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.runs = frame[np.isfinite(frame[METRIC])].sort_values("id", ignore_index=True)
        keys = [tuple(row[name] for name in RECIPE) for row in _values_in_effect(self.runs)]
        # None comes last: it cannot be compared with other values.
        unique_keys = sorted(set(keys), key=lambda key: [(value is None, value) for value in key])
        self.values: list[ValuesInEffect] = [dict(zip(RECIPE, key, strict=True)) for key in unique_keys]
        numbers = {key: number for number, key in enumerate(unique_keys)}
        self.runs["recipe"] = [numbers[key] for key in keys]
        self._configured_norms = self.runs.groupby("recipe")["norm"].agg(set).to_dict()
        by_seed = self.runs.groupby(["recipe", "seed"])
        self.ids: dict[Any, tuple[str, ...]] = by_seed["id"].agg(tuple).to_dict()
        accuracy = by_seed[METRIC].mean().unstack("seed")
        self.accuracy, self.seeds = accuracy.to_numpy(), accuracy.columns.tolist()
        self.means = [mean_of(row[np.isfinite(row)]) for row in self.accuracy]
        self.images = float(self.runs["test_images"].min()) if "test_images" in self.runs else math.nan
        self.step = 0.01 if math.isnan(self.images) else 100 / self.images
        self.judged_by = _judge(self.runs, frame.attrs.get("metric"))
        judged = by_seed[self.judged_by].mean().groupby("recipe").mean()
        self.judged: dict[int, float] = judged.to_dict()
        self.best_first = sorted(range(len(unique_keys)), key=lambda recipe: -judged[recipe])
        # Recipes whose numbers are equal keep the order of their hyperparameters.
        self.rows = {recipe: row for row, recipe in enumerate(self.best_first, 1)}
        # If norm is auto in all runs, it only follows `pretrained`.
        follows = {"norm"} if set(self.runs["norm"]) == {"auto"} else set()
        self.varied = [name for name in RECIPE if name not in follows and len(self.levels(name)) > 1]

    @property
    def tied_rows(self) -> list[int]:
        """The rows of the recipes that `judged_by` does not tell from the first one."""
        best = self.judged[self.best_first[0]]
        return [row for number, row in self.rows.items() if row > 1 and _equal(self.judged[number], best)]

    @property
    def test_is_validation(self) -> bool:
        """Whether some runs have no test split, so that their test images are the validation images."""
        return "test_is_val" in self.runs and bool(self.runs["test_is_val"].fillna(0).any())

    @property
    def test_images_chose(self) -> bool:
        """Whether the images whose accuracies are compared also order the recipes."""
        return not self.judged_by.startswith("val/") or self.test_is_validation

    @property
    def judging_images(self) -> float:
        """The number of images that order the recipes, NaN if the runs do not tell."""
        if not self.judged_by.startswith("val/"):
            return self.images
        images = self.runs.get("val_images")
        if images is not None and images.notna().any():
            return float(images.min())
        return self.images if self.test_is_validation else math.nan

    def tied_runs(self, best_run: str) -> list[str]:
        """The ids of the other runs of its recipe that `judged_by` does not tell from a run."""
        runs = self.runs.set_index("id")
        best = runs.loc[best_run]
        equal = runs[(runs["recipe"] == best["recipe"]) & (runs[self.judged_by] == best[self.judged_by])]
        return [str(run) for run in equal.index if run != best_run]

    def levels(self, name: str) -> list[Value]:
        """The values of a hyperparameter where it has an effect, in order."""
        return in_order(value for row in self.values if (value := row[name]) is not None)

    def differences(self, recipe: int, other: int) -> Floats:
        """Accuracy of a recipe minus that of another one, in points, for each seed that both have."""
        differences: Floats = self.accuracy[recipe] - self.accuracy[other]
        return differences[np.isfinite(differences)]

    def agree(self, name: str, first: int, second: int) -> bool:
        """Whether two recipes have the same value of a hyperparameter, or one of them lacks an effect of it.

        Two norms also agree if both were configured alike, say as auto.
        """
        values = self.values[first][name], self.values[second][name]
        if None in values or values[0] == values[1]:
            return True
        return name == "norm" and bool(self._configured_norms[first] & self._configured_norms[second])


def recipes(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per recipe, which is all hyperparameters in effect except the seed; the best recipe first.

    The best recipe has the highest mean validation accuracy if all runs have one, else test accuracy; or the
    highest macro F1, if that is what the sweep optimizes.

    Columns: the varied hyperparameters; mean, sd, half_width (points) and n (seeds) of the test accuracy;
    low and high (per cent), the exact interval of one model with this accuracy on other test images;
    best_run, the id of the best run, and runs, the ids of all runs; the means of MEANS, and of the metric
    that orders the recipes; the macro F1 if one class has most of the test images. A run that was repeated
    under its seed counts once, with the mean.
    """
    grouped = RunsByRecipe(frame)
    best_first = grouped.runs.sort_values([grouped.judged_by, "seed", "id"], ascending=[False, True, True])
    table = pd.DataFrame(grouped.values, columns=grouped.varied)
    for name in ("mean", "sd", "half_width", "n"):
        table[name] = [getattr(mean, name) for mean in grouped.means]
    shares = [interval_of_share(mean.mean, grouped.images) for mean in grouped.means]
    table["low"], table["high"] = [low for low, _ in shares], [high for _, high in shares]
    table["best_run"] = best_first.groupby("recipe")["id"].first()
    table["runs"] = grouped.runs.groupby("recipe")["id"].agg(tuple)
    means = [*MEANS, *({grouped.judged_by} - {METRIC})]
    majority = grouped.runs.get("majority_share")
    if majority is not None and majority.max() > MOST_OF_ONE_CLASS and "test/f1_macro" not in means:
        means.append("test/f1_macro")
    by_seed = grouped.runs.groupby(["recipe", "seed"])[means].mean()
    table[means] = by_seed.groupby("recipe").mean()
    table.attrs["judged_by"] = grouped.judged_by
    return table.iloc[grouped.best_first].reset_index(drop=True)


def _equal(first: float, second: float) -> bool:
    """Whether two means of shares or per cent are equal: they may have been summed in another order."""
    return math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)


def _judge(runs: pd.DataFrame, metric: str | None) -> str:
    """The metric that orders the recipes, one that all runs have."""
    wanted = [metric] if metric in MACRO else []
    for name in (*wanted, SELECTION):
        if name in runs and runs[name].notna().all():
            return str(name)
    return METRIC


def by_test_images(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """The frame split by test images, whose accuracies cannot be compared; most runs first."""
    keys = [name for name in (*TEST_IMAGES, "test_images") if name in frame]
    parts = [part for _, part in frame.groupby(keys, sort=False, dropna=False)]
    for part in parts:
        part.attrs = dict(frame.attrs)
    return sorted((part.reset_index(drop=True) for part in parts), key=len, reverse=True)


def row_of_each_run(recipes: pd.DataFrame) -> dict[str, int]:
    """In which row of recipes(), from 1, the recipe of each run stands, by run id."""
    return {run: row for row, runs in enumerate(recipes["runs"], 1) for run in runs}


def varied(frame: pd.DataFrame) -> list[str]:
    """The hyperparameters that differ between the runs in which they have an effect, without the seed."""
    return RunsByRecipe(frame).varied


def same_in_all(frame: pd.DataFrame) -> dict[str, Any]:
    """The hyperparameters that were configured alike in all runs, without those that were left empty."""
    # The runs of an old report may not have recorded all of them.
    recorded = [name for name in FIELDS if name in frame.attrs.get("columns", FIELDS)]
    same = {name: frame[name].iloc[0] for name in recorded if frame[name].nunique(dropna=False) == 1}
    return {name: value for name, value in same.items() if not pd.isna(value) and str(value).strip()}


def in_effect(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with hyperparameters as they took effect: missing without effect, auto as its resolution."""
    rows = _values_in_effect(frame)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in FIELDS}
    return frame.assign(**columns)


def in_order(values: Iterable[Any]) -> list[Any]:
    """The distinct values, sorted, numbers before strings."""
    return sorted(set(values), key=lambda value: (isinstance(value, str), value))


def _values_in_effect(frame: pd.DataFrame) -> list[ValuesInEffect]:
    """The hyperparameters of every run, None where one has no effect. (NaN would not be equal to itself.)"""
    rows = []
    records = frame[list(FIELDS)].to_dict("records")
    for values, precision in zip(records, frame["precision_in_effect"], strict=True):
        config = RunConfig.from_mapping({str(name): value for name, value in values.items()})
        row: ValuesInEffect = {**config.as_dict(), "norm": config.norm_in_effect}
        row["precision"] = precision or config.precision
        if config.stages_to_open == 1:
            row["unfreeze"] = "last_stage"
        rows.append(row | dict.fromkeys(config.without_effect))
    return rows
