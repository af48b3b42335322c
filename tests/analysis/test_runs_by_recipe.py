"""Runs by recipe and seed: values in effect, means, and which recipe is the best one by which metric."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import runs_by_recipe, tables
from wandb_tl.analysis.runs_by_recipe import MEANS, recipes
from wandb_tl.config import FIELDS, RunConfig


@pytest.mark.parametrize(
    ("metric", "judge"),
    [(None, "val/accuracy"), ("val/loss", "val/accuracy"), ("val/f1_macro", "val/f1_macro")],
)
def test_a_sweep_that_optimizes_macro_f1_is_ordered_by_it(metric, judge):
    """Accuracy prefers the recipe that always answers the frequent class."""
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"]}, seeds=[0, 1]), [95.0, 95.0, 90.0, 90.0])
    frame["val/accuracy"] = [0.95, 0.95, 0.9, 0.9]
    frame["val/f1_macro"] = [0.49, 0.49, 0.8, 0.82]
    frame.attrs["metric"] = metric
    table = runs_by_recipe.recipes(frame)
    best = "SGD" if judge == "val/f1_macro" else "Adam"
    assert table["optimizer"].iloc[0] == best
    title = {"val/accuracy": "Val Accuracy, %", "val/f1_macro": "Val F1"}[judge]
    assert title in tables.results(frame, table)
    assert ("F1 scores" in tables.caption(frame, table)) == (judge == "val/f1_macro")


def test_a_metric_that_some_runs_lack_does_not_order():
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"]}, seeds=[0]), [95.0, 90.0])
    frame["test/f1_macro"] = [0.1, float("nan")]
    frame.attrs["metric"] = "test/f1_macro"
    assert runs_by_recipe.recipes(frame)["optimizer"].iloc[0] == "Adam"


@pytest.mark.parametrize(("share", "title"), [(95.0, True), (10.0, False)])
def test_the_table_has_macro_f1_if_one_class_has_most_of_the_test_images(share, title):
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"]}, seeds=[0]), [95.0, 94.0])
    frame = frame.assign(majority_share=share, **{"test/f1_macro": [0.49, 0.8]})
    table = runs_by_recipe.recipes(frame)
    assert ("Test F1" in tables.results(frame, table)) == title
    assert "Best test accuracy first" in tables.caption(frame, table)


def test_what_has_no_effect_is_missing_and_auto_is_what_it_came_to():
    configs = [
        RunConfig(),
        RunConfig(finetuning=True, unfreeze="1", optimizer="SGD", pretrained=False),
        RunConfig(finetuning=True, optimizer="AdamW", weights_file="w.pth", norm="batch"),
    ]
    frame = runs_by_recipe.in_effect(runs_of(configs, [80, 81, 82]))
    missing = [{name for name in FIELDS if pd.isna(frame.loc[i, name])} for i in range(3)]
    assert missing == [config.without_effect for config in configs]
    assert frame["norm"].tolist() == ["source", "calibrated", "batch"]
    assert frame["unfreeze"].tolist()[1:] == ["last_stage", "last_stage"]
    assert set(frame["precision"]) == {"bf16"}
    assert frame["momentum"].dtype == float


def test_only_what_differs_where_it_has_an_effect_is_varied():
    idle = {"optimizer": ["Adam"], "momentum": [0, 0.9], "weight_decay": [0, 0.1], "unfreeze": ["1", "all"]}
    frame = runs_of(grid(idle), [80.0] * 40)
    assert runs_by_recipe.varied(frame) == [] and len(recipes(frame)) == 1
    # Adam has no momentum, but that alone is no second value of it.
    assert runs_by_recipe.varied(runs_of(grid(GRID), [80.0] * 40)) == list(GRID)
    with_decay = grid(GRID | {"weight_decay": [0.1, 0.01]})
    assert runs_by_recipe.varied(runs_of(with_decay, [80.0] * 80)) == [*GRID, "weight_decay"]


def test_recipes_have_the_means_and_intervals_that_scipy_gives():
    random = np.random.default_rng(0)
    frame = runs_of(grid(GRID), lambda c: 80 + 3 * c.pretrained + 0.4 * random.normal())
    table = recipes(frame)
    assert len(table) == 8 and table["mean"].is_monotonic_decreasing
    for _, row in table.iterrows():
        chosen = frame[(frame[list(GRID)] == row[list(GRID)]).all(axis=1)]
        low, high = stats.ttest_1samp(chosen["test_accuracy"], 0).confidence_interval(0.95)
        assert (row["mean"] - row["half_width"], row["mean"] + row["half_width"]) == pytest.approx(
            (low, high)
        )
        assert (row["n"], row["sd"]) == (5, pytest.approx(chosen["test_accuracy"].std()))
        hits = round(100 * row["mean"])
        exact = stats.beta.ppf(0.025, hits, 10_001 - hits), stats.beta.ppf(0.975, hits + 1, 10_000 - hits)
        assert (row["low"], row["high"]) == pytest.approx((100 * exact[0], 100 * exact[1]))
        assert row["runs"] == tuple(chosen["id"])
        assert row["best_run"] == chosen.loc[chosen["test_accuracy"].idxmax(), "id"]
        assert row[MEANS].tolist() == pytest.approx(chosen[MEANS].mean().tolist())


def test_a_run_that_was_repeated_counts_once():
    configs = [RunConfig(seed=seed) for seed in (0, 0, 1)]
    [row] = recipes(runs_of(configs, [80.0, 82.0, 84.0])).to_dict("records")
    assert (row["n"], row["mean"], row["best_run"]) == (2, 82.5, "run0002")


def test_a_run_without_an_accuracy_is_left_out():
    frame = runs_of(grid(GRID), lambda c: 80)
    with_nan = frame.assign(test_accuracy=frame["test_accuracy"].where(frame["id"] != "run0007"))
    assert sorted(recipes(with_nan)["n"]) == [4] + 7 * [5]
    nothing = frame.assign(test_accuracy=math.nan)
    assert recipes(nothing).empty and runs_by_recipe.varied(nothing) == []


def test_runs_are_split_by_test_images():
    few = runs_of(grid(GRID, [0], test_limit=100), lambda c: 80).assign(test_images=100.0)
    many = runs_of(grid(GRID, [0, 1]), lambda c: 80)
    frame = pd.concat([few, many], ignore_index=True)
    frame.attrs["metric"] = "val/f1_macro"
    parts = runs_by_recipe.by_test_images(frame)
    assert [len(part) for part in parts] == [16, 8]
    assert all(
        part.attrs["metric"] == "val/f1_macro" and part["test_images"].nunique() == 1 for part in parts
    )
    # Another size of the same pictures can be compared.
    assert len(runs_by_recipe.by_test_images(runs_of(grid({"image_size": [64, 96]}), lambda c: 80))) == 1
