"""Which recipe is the best one, by which metric."""

import pytest
from sweep_frames import grid, runs_of

from wandb_tl.analysis import conclusions, runs_by_recipe, tables


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
    recipes = runs_by_recipe.recipes(frame)
    best = "SGD" if judge == "val/f1_macro" else "Adam"
    assert recipes["optimizer"].iloc[0] == best
    title = {"val/accuracy": "Val Accuracy", "val/f1_macro": "Val F1"}[judge]
    assert title in tables.results(frame, recipes)
    assert ("F1 scores" in conclusions.caption(frame, recipes)) == (judge == "val/f1_macro")


def test_a_metric_that_some_runs_lack_does_not_order():
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"]}, seeds=[0]), [95.0, 90.0])
    frame["test/f1_macro"] = [0.1, float("nan")]
    frame.attrs["metric"] = "test/f1_macro"
    assert runs_by_recipe.recipes(frame)["optimizer"].iloc[0] == "Adam"


@pytest.mark.parametrize(("share", "title"), [(95.0, True), (10.0, False)])
def test_the_table_has_macro_f1_if_one_class_has_most_of_the_test_images(share, title):
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"]}, seeds=[0]), [95.0, 94.0])
    frame = frame.assign(majority_share=share, **{"test/f1_macro": [0.49, 0.8]})
    recipes = runs_by_recipe.recipes(frame)
    assert ("Test F1" in tables.results(frame, recipes)) == title
    assert "Best test accuracy first" in conclusions.caption(frame, recipes)
