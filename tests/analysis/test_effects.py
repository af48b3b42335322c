"""What is said about a sweep, recomputed from its runs by scipy's own tests."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import effects, runs_by_recipe
from wandb_tl.analysis.effects import Change, comparisons
from wandb_tl.analysis.intervals import ALPHA, holm
from wandb_tl.analysis.runs_by_recipe import MEANS, recipes
from wandb_tl.config import FIELDS, RunConfig


def noisy(configs, effect, noise=0.4, seed=0):
    return runs_of(
        configs, [effect(c) + n for c, n in zip(configs, noise * normal(len(configs), seed), strict=True)]
    )


def normal(count, seed=0):
    return np.random.default_rng(seed).normal(size=count)


def named(found, *parameters, kind=None):
    """The one comparison of these parameters."""
    [one] = [
        comparison
        for comparison in found
        if [change.parameter for change in comparison.changes] == list(parameters)
        and comparison.kind == (kind or ("main" if len(parameters) == 1 else "interaction"))
    ]
    return one


def same_as_scipy(mean, p, differences):
    test = stats.ttest_1samp(differences, 0)
    interval = test.confidence_interval(0.95)
    assert mean.n == len(differences)
    assert mean.mean == pytest.approx(np.mean(differences))
    assert mean.sd == pytest.approx(np.std(differences, ddof=1))
    assert (mean.mean - mean.half_width, mean.mean + mean.half_width) == pytest.approx(tuple(interval))
    assert p == pytest.approx(test.pvalue)


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
    assert comparisons(frame) == []
    # Adam has no momentum, but that alone is no second value of it.
    assert runs_by_recipe.varied(runs_of(grid(GRID), [80.0] * 40)) == list(GRID)
    with_decay = grid(GRID | {"weight_decay": [0.1, 0.01]})
    assert runs_by_recipe.varied(runs_of(with_decay, [80.0] * 80)) == [*GRID, "weight_decay"]


def test_a_norm_of_auto_follows_the_weights_but_one_that_is_set_is_varied():
    both = {"pretrained": [True, False]}
    assert runs_by_recipe.varied(runs_of(grid(both), [80.0] * 10)) == ["pretrained"]
    frame = runs_of(grid(both | {"norm": ["auto", "batch"]}), lambda c: 80 + 3 * c.pretrained + c.seed % 2)
    assert runs_by_recipe.varied(frame) == ["pretrained", "norm"]
    pretrained = named(comparisons(frame), "pretrained")
    assert len(pretrained.blocks) == 10 and pretrained.effect.mean == pytest.approx(3)


def test_recipes_have_the_means_and_intervals_that_scipy_gives():
    frame = noisy(grid(GRID), lambda c: 80 + 3 * c.pretrained)
    table = recipes(frame)
    assert len(table) == 8 and table["mean"].is_monotonic_decreasing
    for _, row in table.iterrows():
        chosen = frame[(frame[list(GRID)] == row[list(GRID)]).all(axis=1)]
        low, high = stats.ttest_1samp(chosen["test_accuracy"], 0).confidence_interval(0.95)
        assert (row["mean"] - row["half_width"], row["mean"] + row["half_width"]) == pytest.approx(
            (low, high)
        )
        assert (row["n"], row["sd"]) == (5, pytest.approx(chosen["test_accuracy"].std()))
        assert row["runs"] == tuple(chosen["id"])
        assert row["best_run"] == chosen.loc[chosen["test_accuracy"].idxmax(), "id"]
        assert row[MEANS].tolist() == pytest.approx(chosen[MEANS].mean().tolist())


def test_a_run_that_was_repeated_counts_once():
    configs = [RunConfig(seed=seed) for seed in (0, 0, 1)]
    [row] = recipes(runs_of(configs, [80.0, 82.0, 84.0])).to_dict("records")
    assert (row["n"], row["mean"], row["best_run"]) == (2, 82.5, "run0002")
    other = [RunConfig(seed=seed, optimizer="SGD") for seed in (0, 1)]
    effect = named(comparisons(runs_of(configs + other, [80.0, 82.0, 84.0, 70.0, 71.0])), "optimizer")
    assert [block.runs for block in effect.blocks] == [
        (("run0000", "run0001"), ("run0003",)),
        (("run0002",), ("run0004",)),
    ]
    assert [block.difference for block in effect.blocks] == [-11, -13]


def test_of_equal_runs_the_one_with_the_smallest_seed_is_the_best():
    [row] = recipes(runs_of([RunConfig(seed=seed) for seed in (3, 2, 1)], [80.0, 81.0, 81.0])).to_dict(
        "records"
    )
    assert row["best_run"] == "run0002"


def test_held_out_images_choose_the_best_recipe_where_all_runs_have_them():
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"]}, seeds=[0, 1]), [80.0, 81.0, 90.0, 91.0])
    frame["val/accuracy"] = [0.9, 0.8, 0.7, 0.84]
    table = recipes(frame)
    assert table["optimizer"].tolist() == ["Adam", "SGD"] and table["best_run"].tolist() == [
        "run0000",
        "run0003",
    ]
    assert table["val/accuracy"].tolist() == pytest.approx([0.85, 0.77])
    frame.loc[0, "val/accuracy"] = math.nan
    assert recipes(frame)["optimizer"].tolist() == ["SGD", "Adam"]


def test_neither_the_order_of_the_runs_nor_ties_change_anything():
    frame = noisy(grid(GRID), lambda c: 80 + 3 * c.pretrained)
    tied = runs_of(grid(GRID), [80.0] * 40)
    for runs in (frame, tied):
        shuffled = runs.sample(frac=1, random_state=0)
        assert comparisons(shuffled) == comparisons(runs)
        pd.testing.assert_frame_equal(recipes(shuffled), recipes(runs))


def test_main_effects_are_paired_by_seed():
    frame = noisy(grid(GRID), lambda c: 80 + 3 * c.pretrained + c.seed)
    for name, (high, low) in (("pretrained", (True, False)), ("optimizer", ("SGD", "Adam"))):
        found = named(comparisons(frame), name)
        assert found.changes == (Change(name, low, high),)
        by_seed = frame.groupby([name, "seed"])["test_accuracy"].mean()
        same_as_scipy(found.effect, found.p, by_seed[high] - by_seed[low])
        assert found.p == pytest.approx(stats.ttest_rel(by_seed[high], by_seed[low]).pvalue)
        accuracy = frame.set_index("id")["test_accuracy"]
        assert len(found.blocks) == 20
        for block in found.blocks:
            [one], [other] = block.runs
            assert block.difference == pytest.approx(accuracy[other] - accuracy[one])


def test_an_interaction_is_a_difference_of_paired_differences():
    frame = noisy(grid(GRID), lambda c: 80 + 5 * (c.pretrained and c.finetuning) - 2 * c.pretrained)
    found = named(comparisons(frame), "pretrained", "finetuning")
    mean = frame.groupby(["pretrained", "finetuning", "seed"])["test_accuracy"].mean()
    frozen = mean[True, False] - mean[False, False]
    opened = mean[True, True] - mean[False, True]
    same_as_scipy(found.effect, found.p, opened - frozen)
    same_as_scipy(found.simple[0], stats.ttest_1samp(frozen, 0).pvalue, frozen)
    same_as_scipy(found.simple[1], stats.ttest_1samp(opened, 0).pvalue, opened)
    assert found.significant and found.simple[0].mean < 0 < found.simple[1].mean
    assert len(found.blocks) == 10
    assert np.mean([block.difference for block in found.blocks]) == pytest.approx(found.effect.mean)


def test_adam_is_compared_with_sgd_at_each_weight_decay_but_is_no_more_evidence_for_that():
    frame = noisy(
        grid({"finetuning": [True, False], "optimizer": ["Adam", "SGD"], "weight_decay": [0.1, 0.01]}),
        lambda c: 80 + (2 + 10 * c.weight_decay) * (c.optimizer == "SGD"),
    )
    found = comparisons(frame)
    by_seed = frame.groupby(["optimizer", "seed"])["test_accuracy"].mean()
    optimizer = named(found, "optimizer")
    same_as_scipy(optimizer.effect, optimizer.p, by_seed["SGD"] - by_seed["Adam"])
    assert {len(block.runs[0]) for block in optimizer.blocks} == {2} and len(optimizer.blocks) == 20
    sgd = frame[frame["optimizer"] == "SGD"].groupby(["weight_decay", "seed"])["test_accuracy"].mean()
    decay = named(found, "weight_decay")
    same_as_scipy(decay.effect, decay.p, sgd[0.1] - sgd[0.01])
    # Each weight decay with itself: two contexts, not the four that two by two would be.
    crossed = named(found, "finetuning", "optimizer")
    assert len(crossed.blocks) == 10
    decay_of = frame.set_index("id")["weight_decay"]
    assert all(decay_of[block.runs[2][0]] == decay_of[block.runs[3][0]] for block in crossed.blocks)
    # What Adam does not have cannot interact with Adam.
    assert not [c for c in found if [x.parameter for x in c.changes] == ["optimizer", "weight_decay"]]


def test_what_only_finetuned_runs_have_is_compared_with_frozen_ones():
    configs = grid({"finetuning": [True], "unfreeze": ["last_stage", "2", "all"]}) + grid(
        {"finetuning": [False]}
    )
    found = comparisons(noisy(configs, lambda c: 80 + 4 * c.finetuning + (c.unfreeze == "all")))
    assert len(named(found, "finetuning").blocks) == 15
    levels = [c.changes[0] for c in found if c.kind == "main" and c.changes[0].parameter == "unfreeze"]
    assert [(one.low, one.high) for one in levels] == [
        ("2", "all"),
        ("2", "last_stage"),
        ("all", "last_stage"),
    ]


def test_runs_that_differ_in_more_than_what_a_change_takes_along_are_no_pair():
    slow = grid({"optimizer": ["Adam"], "lr": [0.001]})
    fast = grid({"optimizer": ["SGD"], "lr": [0.1]})
    assert [one.kind for one in comparisons(runs_of(slow + fast, normal(10) + 80))] == ["lead"]


def test_a_missing_run_does_not_lend_its_recipe_to_an_effect():
    # Finetuning is worth 30 points on random weights and none on others; one of those runs is missing.
    frame = noisy(grid(GRID), lambda c: 50 + 30 * c.pretrained + 30 * (c.finetuning and not c.pretrained))
    lost = frame.index[~frame["pretrained"] & frame["finetuning"] & (frame["seed"] == 2)][0]
    complete, found = frame.drop(lost), named(comparisons(frame.drop(lost)), "finetuning")
    assert found.effect.sd < 1
    assert {block.seed for block in found.blocks} in ({0, 1, 3, 4}, {0, 1, 2, 3, 4})
    recipes_by_seed = {}
    of = complete.set_index("id")
    for block in found.blocks:
        recipe = of.loc[block.runs[0][0], ["pretrained", "optimizer"]]
        recipes_by_seed.setdefault(block.seed, set()).add(tuple(recipe))
    first, *others = recipes_by_seed.values()
    assert all(other == first for other in others)
    assert len(found.blocks) == 16


def test_lost_runs_do_not_turn_an_average_into_the_effect_of_one_recipe():
    # Pretraining is worth 25 points finetuned and 5 frozen; a run is missing in two recipes, at other seeds.
    frame = noisy(grid(GRID), lambda c: 50 + (25 if c.finetuning else 5) * c.pretrained, noise=0.1).set_index(
        ["pretrained", "finetuning", "optimizer", "seed"], drop=False
    )
    lost = [(True, True, "Adam", 0), (False, False, "SGD", 3)]
    found = named(comparisons(frame.drop(lost).reset_index(drop=True)), "pretrained")
    assert found.effect.mean == pytest.approx(15, abs=0.3)
    # The other pairs of those seeds have nothing beside them.
    assert (found.effect.n, len(found.blocks), found.left_out) == (3, 12, 6)


def test_many_pairs_of_one_seed_do_not_outweigh_a_few_of_several():
    rates = np.geomspace(0.001, 0.1, 10).tolist()
    many = grid({"optimizer": ["Adam", "AdamW"], "lr": rates}, seeds=[0])
    five = grid({"optimizer": ["Adam", "AdamW"], "lr": rates[:1]}, seeds=[1, 2, 3, 4])
    found = named(comparisons(noisy(many + five, lambda c: 80)), "optimizer")
    assert (found.effect.n, len(found.blocks)) == (5, 5)


def test_one_seed_shows_effects_but_proves_none():
    found = comparisons(noisy(grid(GRID, seeds=[0]), lambda c: 50 + 30 * c.pretrained))
    assert len(found) == 7
    for one in found:
        assert one.effect.n == 1 and math.isfinite(one.effect.mean)
        assert math.isnan(one.effect.half_width) and math.isnan(one.p) and math.isnan(one.p_holm)
        assert not one.significant
    assert named(found, "pretrained").effect.mean == pytest.approx(30, abs=1)
    assert recipes(noisy(grid(GRID, seeds=[0]), lambda c: 50))["half_width"].isna().all()


def mains(found, parameter):
    return sum(one.changes[0].parameter == parameter and one.kind == "main" for one in found)


def test_a_parameter_of_many_values_is_not_crossed_with_others():
    rates = np.geomspace(0.001, 0.1, 6).tolist()
    frame = noisy(grid({"optimizer": ["Adam", "SGD"], "lr": rates}), lambda c: 80)
    found = comparisons(frame)
    assert effects.not_compared(frame) == [] and {one.kind for one in found} == {"main", "lead"}
    assert mains(found, "lr") == 15
    # It still has to be the same in a pair.
    assert len(named(found, "optimizer").blocks) == 30
    assert any(one.kind == "interaction" for one in comparisons(frame[frame["lr"] < 0.1]))


def test_what_a_search_drew_is_not_compared():
    rates = np.geomspace(0.001, 0.1, 12).tolist()
    frame = noisy(grid({"lr": rates}, seeds=[0]), lambda c: 80)
    assert effects.not_compared(frame) == ["lr"] and mains(comparisons(frame), "lr") == 0


def test_the_lead_is_that_of_the_best_recipe_over_the_second():
    worth = {(True, True): 85, (True, False): 83, (False, True): 70, (False, False): 60}
    frame = noisy(
        grid({"pretrained": [True, False], "optimizer": ["Adam", "SGD"]}),
        lambda c: worth[c.pretrained, c.optimizer == "Adam"],
    )
    lead = comparisons(frame)[-1]
    assert (lead.kind, lead.changes) == ("lead", (Change("optimizer", "SGD", "Adam"),))
    first, second = (
        frame[frame["pretrained"] & (frame["optimizer"] == name)].set_index("seed")["test_accuracy"]
        for name in ("Adam", "SGD")
    )
    same_as_scipy(lead.effect, lead.p, first - second)
    assert lead.significant and lead.simple == ()


def test_a_question_is_not_asked_twice():
    """Of two recipes, the only main effect is the lead."""
    [main] = comparisons(noisy(grid({"optimizer": ["Adam", "SGD"]}), lambda c: 80))
    assert main.kind == "main" and main.p_holm == main.p


def test_p_values_are_adjusted_for_all_comparisons_of_the_sweep():
    frame = noisy(grid(GRID), lambda c: 80 + c.pretrained)
    found = comparisons(frame)
    assert holm([one.p for one in found]) == [one.p_holm for one in found]


def test_equal_differences_have_the_spread_that_rounding_to_whole_images_may_hide():
    def p_of(effect):
        # 10,000 images: accuracies in steps of 0.01, whose differences round with an sd of 0.01 / sqrt(6).
        return 2 * stats.t.sf(effect / (0.01 / math.sqrt(6) / math.sqrt(5)), 4)

    for effect in (0.1, 0.01, 0.0):
        frame = runs_of(
            grid({"optimizer": ["Adam", "SGD"]}),
            lambda c, effect=effect: 80.3 + c.seed / 7 + effect * (c.optimizer == "SGD"),
        )
        found = named(comparisons(frame), "optimizer")
        assert found.p == pytest.approx(p_of(effect)) and found.significant == (effect > 0)
        assert found.effect.mean == pytest.approx(effect) and found.effect.half_width < 1e-9


def test_a_run_without_an_accuracy_is_left_out():
    frame = noisy(grid(GRID), lambda c: 80)
    with_nan = frame.assign(test_accuracy=frame["test_accuracy"].where(frame["id"] != "run0007"))
    assert comparisons(with_nan) == comparisons(frame[frame["id"] != "run0007"])
    assert sorted(recipes(with_nan)["n"]) == [4] + 7 * [5]
    nothing = frame.assign(test_accuracy=math.nan)
    assert comparisons(nothing) == [] and recipes(nothing).empty and runs_by_recipe.varied(nothing) == []


def simulate(draws, effect=0, luck=0):
    """What is found in sweeps of 2 x 2 x 2 recipes and five seeds; a seed's level is common to all recipes.

    luck: standard deviation of what pretrained runs of a seed, and its other runs, have in common besides.
    """
    frame = runs_of(grid(GRID), [80.0] * 40)
    pretrained, seed = frame["pretrained"].to_numpy(), frame["seed"].to_numpy()
    random = np.random.default_rng(0)
    for _ in range(draws):
        common = (
            random.normal(0, 0.5, size=5)[seed] + random.normal(0, luck, size=(2, 5))[pretrained * 1, seed]
        )
        noise = common + random.normal(0, 0.4, size=40)
        yield comparisons(frame.assign(test_accuracy=80 + effect * pretrained + noise))


def more_often_than_alpha(alarms):
    return stats.binomtest(sum(alarms), len(alarms), ALPHA, alternative="greater").pvalue < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("luck", [0, 0.5])
def test_where_nothing_has_an_effect_hardly_a_sweep_shows_one(luck):
    sweeps = list(simulate(100, luck=luck))
    assert not more_often_than_alpha([any(one.significant for one in found) for found in sweeps])
    # Twenty pairs are no twenty witnesses where a seed moves several of them together.
    pairs = [[block.difference for block in named(found, "pretrained").blocks] for found in sweeps]
    fooled = [stats.ttest_1samp(differences, 0).pvalue < ALPHA for differences in pairs]
    assert more_often_than_alpha(fooled) == (luck > 0)


def test_an_effect_of_two_points_is_found():
    found = [named(found, "pretrained").significant for found in simulate(40, effect=2)]
    assert np.mean(found) > 0.95
