"""Two hyperparameters that act together, recomputed by scipy from the runs that a person would use."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import interactions
from wandb_tl.analysis.interactions import within_reach
from wandb_tl.analysis.runs_by_recipe import RunsByRecipe
from wandb_tl.analysis.saved_report import SavedReport

REPORT = Path(__file__).parents[2] / "reports" / "results.csv"


def drawn(configs, effect, noise=0.3):
    random = np.random.default_rng(0)
    return runs_of(configs, [effect(config) + noise * random.normal() for config in configs])


def named(found, *parameters):
    return [one for one in found if {one.first.parameter, one.second.parameter} == set(parameters)]


def test_the_160_runs_say_that_the_worth_of_finetuning_depends_on_the_optimizer():
    frame = SavedReport(REPORT).frame()
    runs = RunsByRecipe(frame)
    found = interactions.interactions(runs)
    [one] = named(found, "finetuning", "optimizer")
    # Recomputed: pretrained recipes, the mean over norm and SGD's weight decay, each beside the same of Adam.
    usable = frame[frame["pretrained"]].set_index(["optimizer", "finetuning", "norm", "seed"])
    terms = []
    for norm in ("source", "calibrated", "batch"):
        adam = usable.loc["Adam"]["test_accuracy"].unstack("finetuning").xs(norm, level="norm")
        sgd = usable.loc["SGD"].xs(norm, level="norm").reset_index()
        for _, runs_of_decay in sgd.groupby("weight_decay"):
            wide = runs_of_decay.pivot(index="seed", columns="finetuning", values="test_accuracy")
            terms.append((wide[True] - wide[False]) - (adam[True] - adam[False]))
    by_seed = sum(terms) / len(terms)
    test = stats.ttest_1samp(by_seed, 0)
    assert len(terms) == len(one.contexts) == 5
    assert one.effect.mean == pytest.approx(by_seed.mean()) == pytest.approx(-3.37, abs=0.005)
    low, high = test.confidence_interval(0.95)
    assert one.effect.half_width == pytest.approx((high - low) / 2) == pytest.approx(0.64, abs=0.005)
    assert one.p == pytest.approx(test.pvalue) and one.p_corrected == pytest.approx(0.001, abs=0.0001)
    assert all(dict(context)["pretrained"] for context in one.contexts)


def test_recipes_that_nobody_would_use_do_not_count():
    # With random weights, finetuning is worth 20 points with SGD and nothing with Adam; they are far behind.
    frame = drawn(
        grid(GRID), lambda c: 90 if c.pretrained else 40 + 20 * (c.finetuning and c.optimizer == "SGD")
    )
    found = interactions.interactions(RunsByRecipe(frame))
    assert [(one.first.parameter, one.second.parameter) for one in found] == [("finetuning", "optimizer")]
    assert abs(found[0].effect.mean) < 1.5 and not found[0].settled
    assert [dict(context) for context in found[0].contexts] == [{"pretrained": True}]


def test_reach_is_one_and_a_half_times_the_errors_or_what_few_images_leave_open():
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"]}), [90.0] * 5 + [80.0] * 5)
    assert within_reach(RunsByRecipe(frame)) == pytest.approx(85)
    # 50 of 50 images: on other images, 92.9 % or more.
    few = runs_of(grid({"optimizer": ["Adam"]}), [100.0] * 5).assign(test_images=50.0)
    assert within_reach(RunsByRecipe(few)) == pytest.approx(100 * 0.025 ** (1 / 50))


def test_the_effects_of_a_value_add_up_in_a_grid_with_holes():
    # SGD without weight decay has no run with norm=batch.
    whole = grid({"norm": ["source", "calibrated", "batch"], "finetuning": [True, False]}, optimizer="SGD")
    more = grid(
        {"norm": ["source", "calibrated"], "finetuning": [True, False]}, optimizer="SGD", weight_decay=0.0
    )
    found = interactions.interactions(
        RunsByRecipe(drawn(whole + more, lambda c: 80 + 2 * (c.weight_decay == 0), noise=1))
    )
    steps = {
        (one.second.before, one.second.after): one.effect.mean for one in named(found, "norm", "finetuning")
    }
    assert len(steps) == 3
    total = steps["batch", "calibrated"] + steps["calibrated", "source"]
    assert total == pytest.approx(steps["batch", "source"])
    assert all(
        [dict(c)["weight_decay"] for c in one.contexts] == [0.1] for one in named(found, "norm", "finetuning")
    )


def test_cells_and_simple_effects_agree_with_the_difference():
    frame = drawn(grid(GRID), lambda c: 80 + 6 * (c.finetuning and c.optimizer == "Adam"))
    [one] = named(interactions.interactions(RunsByRecipe(frame)), "finetuning", "optimizer")
    low_low, high_low, low_high, high_high = one.cells
    assert one.simple[0].mean == pytest.approx(high_low - low_low)
    assert one.simple[1].mean == pytest.approx(high_high - low_high)
    assert one.effect.mean == pytest.approx(one.simple[1].mean - one.simple[0].mean)
    assert one.settled and one.effect.mean == pytest.approx(-6, abs=0.6)


def test_a_lost_run_takes_its_seed_or_its_context_out_everywhere():
    frame = drawn(grid(GRID), lambda c: 80 + c.pretrained * (c.optimizer == "Adam"))
    whole = named(interactions.interactions(RunsByRecipe(frame)), "finetuning", "optimizer")[0]
    lost = frame.drop(frame.index[frame["finetuning"] & (frame["seed"] == 2)][0]).reset_index(drop=True)
    [one] = named(interactions.interactions(RunsByRecipe(lost)), "finetuning", "optimizer")
    assert whole.effect.n == 5 and one.effect.n == 4 and one.contexts == whole.contexts


def test_one_seed_settles_no_interaction():
    frame = drawn(grid(GRID, seeds=[0]), lambda c: 80)
    assert all(math.isnan(one.p_corrected) for one in interactions.interactions(RunsByRecipe(frame)))
