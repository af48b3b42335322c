"""What is said about the best recipe's changes, recomputed from its runs by scipy's own tests."""

import math

import numpy as np
import pytest
from scipy import stats
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import effects
from wandb_tl.analysis.runs_by_recipe import RunsByRecipe
from wandb_tl.config import RunConfig


def noisy(configs, effect, noise=0.4, seed=0):
    drawn = noise * np.random.default_rng(seed).normal(size=len(configs))
    return runs_of(configs, [effect(config) + n for config, n in zip(configs, drawn, strict=True)])


def by_changes(found):
    """Effects by what they change to."""
    return {tuple((c.parameter, c.after) for c in one.changes): one for one in found}


def accuracies(frame, **values):
    chosen = frame[np.logical_and.reduce([frame[name] == value for name, value in values.items()])]
    return chosen.set_index("seed")["test_accuracy"].sort_index()


def bonferroni_steps(p_values):
    """Holm's adjusted p-values, by their definition."""
    ordered = sorted(p_values)
    return {p: min(1, max((len(ordered) - i) * q for i, q in enumerate(ordered) if q <= p)) for p in p_values}


def test_each_change_of_the_winner_is_a_paired_t_test_corrected_for_these_changes():
    frame = noisy(grid(GRID), lambda c: 80 + 5 * c.pretrained + 2 * c.finetuning - (c.optimizer == "SGD"))
    found = effects.at_the_winner(RunsByRecipe(frame), contenders=3)
    assert [one.changes[0].parameter for one in found] == ["pretrained", "finetuning", "optimizer"]
    best = {"pretrained": True, "finetuning": True, "optimizer": "Adam"}
    tests = []
    for one in found:
        [change] = one.changes
        other = accuracies(frame, **best | {change.parameter: change.after})
        differences = other - accuracies(frame, **best)
        test = stats.ttest_rel(other, accuracies(frame, **best))
        low, high = test.confidence_interval(0.95)
        assert one.effect.mean == pytest.approx(differences.mean()) and one.effect.n == 5
        assert 2 * one.effect.half_width == pytest.approx(high - low)
        assert one.p == pytest.approx(test.pvalue)
        tests.append(one.p)
    corrected = bonferroni_steps(tests)
    assert [one.p_corrected for one in found] == pytest.approx([min(1, 3 * corrected[p]) for p in tests])


def test_leads_are_corrected_for_all_other_recipes():
    frame = noisy(grid(GRID), lambda c: 80 + 3 * c.pretrained)
    runs = RunsByRecipe(frame)
    leads = effects.leads(runs)
    corrected = bonferroni_steps([one.p for one in leads])
    assert [one.row for one in leads] == list(range(2, 9))
    assert [one.p_corrected for one in leads] == pytest.approx([corrected[one.p] for one in leads])
    assert [one.settled for one in leads] == [False] * 3 + [True] * 4


def test_recipes_without_a_common_seed_are_not_told_apart():
    apart = grid({"optimizer": ["Adam"]}, [0, 1]) + grid({"optimizer": ["SGD"]}, [2, 3])
    runs = RunsByRecipe(runs_of(apart, [80.0, 81.0, 70.0, 71.0]))
    [lead] = effects.leads(runs)
    assert lead.lead.n == 0 and not lead.settled and effects.at_the_winner(runs, 1) == []


def test_a_run_that_was_repeated_counts_once():
    configs = [RunConfig(seed=seed) for seed in (0, 0, 1)]
    other = [RunConfig(seed=seed, optimizer="SGD") for seed in (0, 1)]
    runs = RunsByRecipe(runs_of(configs + other, [80.0, 82.0, 84.0, 70.0, 71.0]))
    [one] = effects.at_the_winner(runs, 1)
    assert (one.effect.n, one.effect.mean) == (2, pytest.approx((-11 - 13) / 2))


def test_one_seed_has_no_interval_and_settles_nothing():
    runs = RunsByRecipe(noisy(grid(GRID, seeds=[0]), lambda c: 50 + 30 * c.pretrained))
    found = effects.at_the_winner(runs, 8)
    assert len(found) == 3 and not any(one.settled for one in found)
    assert all(math.isnan(one.effect.half_width) and math.isnan(one.p_corrected) for one in found)
    assert by_changes(found)[("pretrained", False),].effect.mean == pytest.approx(-30, abs=2)


def test_what_only_one_side_has_changes_along():
    configs = grid({"optimizer": ["Adam"]}) + grid({"optimizer": ["SGD"], "weight_decay": [0.0, 0.1]})
    found = effects.at_the_winner(RunsByRecipe(noisy(configs, lambda c: 80 - (c.optimizer == "SGD"))), 1)
    assert set(by_changes(found)) == {
        (("optimizer", "SGD"), ("weight_decay", 0.0)),
        (("optimizer", "SGD"), ("weight_decay", 0.1)),
    }
    opened = grid({"finetuning": [True], "unfreeze": ["1", "2"]}) + grid({"finetuning": [False]})
    runs = RunsByRecipe(noisy(opened, lambda c: 80 + 3 * c.finetuning + 2 * (c.unfreeze == "2")))
    assert {one.changes[0].parameter for one in effects.at_the_winner(runs, 1)} == {"finetuning", "unfreeze"}


def test_a_norm_of_auto_follows_the_weights():
    both = grid({"pretrained": [True, False], "norm": ["auto", "batch"]})
    runs = RunsByRecipe(noisy(both, lambda c: 80 + 3 * c.pretrained + (c.norm == "auto")))
    assert set(by_changes(effects.at_the_winner(runs, 1))) == {
        (("pretrained", False), ("norm", "calibrated")),
        (("norm", "batch"),),
    }


def test_hyperparameters_that_always_change_together_are_inseparable():
    slow = grid({"optimizer": ["Adam"], "lr": [0.001], "finetuning": [True, False]})
    fast = grid({"optimizer": ["SGD"], "lr": [0.1], "finetuning": [True, False]})
    runs = RunsByRecipe(noisy(slow + fast, lambda c: 80 + 2 * c.finetuning - (c.optimizer == "SGD")))
    assert effects.inseparable(runs) == [("optimizer", "lr")] and effects.never_alone(runs) == []
    found = by_changes(effects.at_the_winner(runs, 1))
    assert set(found) == {(("optimizer", "SGD"), ("lr", 0.1)), (("finetuning", False),)}


def test_a_hyperparameter_that_never_changes_alone_is_named():
    slow = grid({"optimizer": ["Adam"], "lr": [0.001, 0.01]})
    fast = grid({"optimizer": ["SGD"], "lr": [0.1, 1.0]})
    runs = RunsByRecipe(noisy(slow + fast, lambda c: 80))
    assert effects.inseparable(runs) == [] and effects.never_alone(runs) == ["optimizer"]


def test_what_a_search_draws_is_not_called_inseparable():
    rates = np.geomspace(0.001, 0.1, 12)
    drawn = [RunConfig(optimizer="AdamW", lr=float(lr), weight_decay=float(lr / 10)) for lr in rates]
    runs = RunsByRecipe(noisy(drawn, lambda c: 80))
    assert effects.inseparable(runs) == [] and effects.never_alone(runs) == []
    assert effects.at_the_winner(runs, 1) == []


def test_pairs_are_of_every_two_recipes_that_differ_in_one_change():
    frame = noisy(grid(GRID), lambda c: 80 + 5 * c.pretrained)
    found = effects.pairs(RunsByRecipe(frame))
    assert len(found) == 12 and {(one.before, one.after) for one in found if one.before == one.after} == set()
    for one in found:
        if one.change.parameter == "pretrained":
            assert (one.change.before, one.change.after) == (False, True) and one.difference.mean > 3


def test_equal_differences_have_the_spread_that_rounding_to_whole_images_may_hide():
    # 10,000 images: accuracies in steps of 0.01, whose differences round with an sd of 0.01 / sqrt(6).
    for size, settled in ((0.1, True), (0.0, False)):
        frame = runs_of(
            grid({"optimizer": ["Adam", "SGD"]}),
            lambda c, size=size: 80.3 + c.seed / 7 + size * (c.optimizer == "SGD"),
        )
        [one] = effects.at_the_winner(RunsByRecipe(frame), 1)
        expected = 2 * stats.t.sf(size / (0.01 / math.sqrt(6) / math.sqrt(5)), 4)
        assert one.p == pytest.approx(expected) and one.settled == settled


@pytest.mark.slow
def test_where_all_recipes_are_equal_hardly_a_sweep_settles_a_change():
    """Without the factor for the choice of the best recipe, about twice as many would."""
    frame = runs_of(grid(GRID), [80.0] * 40)
    random = np.random.default_rng(0)
    alarms = []
    for _ in range(200):
        runs = RunsByRecipe(frame.assign(test_accuracy=80 + 0.4 * random.normal(size=40)))
        contenders = 1 + sum(not lead.settled for lead in effects.leads(runs))
        alarms.append(any(one.settled for one in effects.at_the_winner(runs, contenders)))
    assert stats.binomtest(sum(alarms), 200, 0.05, alternative="greater").pvalue > 0.01
