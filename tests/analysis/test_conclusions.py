"""Sentences say what the numbers carry and no more."""

import re

import numpy as np
import pytest
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import conclusions, effects, runs_by_recipe
from wandb_tl.analysis.proportions import McNemar


def told(frame, mcnemar=None):
    recipes = runs_by_recipe.recipes(frame)
    return conclusions.sentences(frame, recipes, effects.comparisons(frame), mcnemar)


def sweep(effect, noise=0.4, seeds=range(5)):
    configs = grid(GRID, seeds)
    drawn = noise * np.random.default_rng(0).normal(size=len(configs))
    return runs_of(configs, [80 + effect(config) + n for config, n in zip(configs, drawn, strict=True)])


def test_a_real_effect_is_told_with_its_interval_and_its_rows():
    frame = sweep(lambda config: 13 * config.pretrained)
    [sentence] = [line for line in told(frame) if line.startswith("`pretrained=True`")]
    shape = r"`pretrained=True` instead of `False` raises test accuracy by ([\d.]+) ± ([\d.]+) points on "
    found = re.match(shape, sentence)
    runs = frame.set_index(["pretrained", "finetuning", "optimizer", "seed"])["test_accuracy"]
    by_seed = (runs[True] - runs[False]).groupby("seed").mean()
    # t of 0.975 with 4 degrees of freedom, from a table.
    half = 2.776 * by_seed.std() / np.sqrt(5)
    assert [float(group) for group in found.groups()] == pytest.approx([by_seed.mean(), half], abs=0.006)
    assert "(n = 5 seeds, 20 pairs, p < 0.0001; rows 1-4 against 5-8)" in sentence


def test_what_lowers_is_said_to_lower():
    lines = told(sweep(lambda config: -5 * config.finetuning))
    assert any(line.startswith("`finetuning=True` instead of `False` lowers") for line in lines)


def test_no_effect_is_within_noise():
    lines = told(sweep(lambda config: 0))
    assert len(lines) == 5 and all("ithin noise" in line for line in lines)


def test_an_interaction_is_told_by_its_simple_effects():
    frame = sweep(lambda config: 10 * (config.pretrained and config.optimizer == "Adam"), noise=0.1)
    [sentence] = [line for line in told(frame) if line.startswith("What ")]
    assert "depends on `optimizer`" in sentence
    with_adam, with_sgd = re.findall(r"([+\N{MINUS SIGN}]?\d[\d.]*) ± ", sentence)
    assert float(with_adam) == pytest.approx(10, abs=0.3)
    assert float(with_sgd.replace("\N{MINUS SIGN}", "-")) == pytest.approx(0, abs=0.3)


def test_single_runs_have_no_interval_but_the_error_of_the_test_set():
    # Of 10,000 images 80.0 and 80.5 % are not told apart (half width 1.1 points), 80.0 and 82.0 % are.
    frame = runs_of(grid({"optimizer": ["Adam", "SGD", "AdamW"]}, seeds=[0]), [80.0, 80.5, 82.0])
    lines = told(frame)
    assert "no interval can be given" in lines[0] and not any("±" in line for line in lines)
    error = "the binomial error of 10,000 test images (95 %, each pair by itself)"
    assert f"Row 1 differs by more than {error} from rows 2-3." in lines
    assert "Not told apart by it, though next to each other in the table: rows 2 and 3." in lines
    same = runs_of(grid({"optimizer": ["Adam", "SGD"]}, seeds=[0]), [80.0, 80.5])
    assert f"Row 1 does not differ by more than {error} from row 2." in told(same)
    apart = runs_of(grid({"optimizer": ["Adam", "SGD"]}, seeds=[0]), [80.0, 90.0])
    assert f"Row 1 differs by more than {error} from row 2." in told(apart)


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_where_nothing_can_be_compared_that_is_said(seeds):
    [line] = told(runs_of(grid({}, seeds), [80.0, 81.0][: len(seeds)]))
    assert line == "There is one recipe: nothing to compare it with."
    apart = grid({"optimizer": ["Adam"]}, [0, 1]) + grid({"optimizer": ["SGD"]}, [2, 3])
    [line] = told(runs_of(apart, [80.0, 81.0, 70.0, 71.0]))
    assert line.startswith("Nothing is compared")


def test_what_a_search_drew_is_said_to_be_left_out():
    frame = runs_of(grid({"lr": [i / 1000 for i in range(1, 9)]}, seeds=[0]), lambda config: 80 + config.lr)
    assert any("`lr`" in line and "Not compared" in line for line in told(frame))


@pytest.mark.parametrize(("p", "verdict"), [(0.0002, "differ:"), (0.3, "are within noise of each other:")])
def test_image_by_image(p, verdict):
    line = told(sweep(lambda config: 0), McNemar(120, 60, 10_000, p))[-1]
    assert verdict in line and "of 10,000 test images, 120 are right in the first alone and 60" in line


def test_the_lead_says_what_the_two_best_differ_in():
    frame = sweep(lambda config: 9 * config.pretrained + 3 * config.finetuning, noise=0.1)
    [line] = [line for line in told(frame) if "row 1 over row 2" in line]
    assert line.startswith("Within noise: the lead of row 1 over row 2 (`optimizer=")
    frame = sweep(lambda config: 9 * (config.optimizer == "SGD") + config.pretrained, noise=0.1)
    frame = frame[frame["finetuning"]]
    [line] = [line for line in told(frame) if line.startswith("Row 1 ")]
    assert line.startswith("Row 1 leads row 2 (`pretrained=True` instead of `False`) by 1.")


def test_a_recipe_that_held_out_images_chose_may_be_behind():
    configs = grid({"optimizer": ["Adam"]}) + grid({"optimizer": ["SGD"]}, finetuning=True)
    frame = runs_of(configs, lambda config: 80 + 3 * config.finetuning + config.seed / 10)
    frame["val/accuracy"] = (frame["optimizer"] == "Adam") / 2
    [line] = told(frame)
    assert line.startswith("Row 1 is behind row 2 (`finetuning=False` instead of `True`, `optimizer=Adam` ")
    assert "by 3.00 ± 0.00 points" in line


def test_a_comparison_of_one_seed_is_not_called_noise():
    configs = grid({"pretrained": [True, False]}, seeds=[0, 1]) + grid({"pretrained": [True]}, [0], epochs=3)
    [line] = [line for line in told(runs_of(configs, [80.0, 81.0, 70.0, 71.0, 60.0])) if "`epochs=" in line]
    assert (
        line.startswith("Without an interval: `epochs=10` instead of `3`") and "(n = 1 seed, 1 pair;" in line
    )
