"""Medians, the frontier of accuracy against time, and when times cannot be compared."""

import math

import numpy as np
import pytest
from sweep_frames import grid, runs_of

from wandb_tl.analysis import conclusions, prices, runs_by_recipe
from wandb_tl.analysis.answer import answer

TWO = {"optimizer": ["Adam", "SGD"]}


def priced(frame):
    recipes = runs_by_recipe.recipes(frame)
    return prices.prices(frame, recipes)


def test_a_price_is_the_median_of_the_runs():
    frame = runs_of(grid(TWO, [0, 1, 2]), [90.0] * 3 + [80.0] * 3)
    frame["train_seconds"] = [60.0, 2.0, 3.0, 1.0, 1.0, 1.0]
    first, second = priced(frame)
    assert (first.seconds, first.slowest, second.seconds, first.runs) == (3, 60, 1, 3)
    assert math.isnan(first.energy_wh)
    frame["energy_wh"] = [1.0, 3.0, float("nan"), 4.0, 4.0, 7.0]
    assert [one.energy_wh for one in priced(frame)] == [2, 4]


def test_a_price_leaves_out_what_runs_share():
    frame = runs_of(grid(TWO, [0, 1]), [90.0, 90.0, 80.0, 80.0])
    frame["train_seconds"] = [100.0, 4.0, 7.0, 5.0]
    # A run of an earlier version tells only the part in which it computed, or nothing.
    frame["preparation_seconds"] = [96.0, 1.0, math.nan, math.nan]
    frame["frozen_seconds"] = [50.0, 0.0, 6.0, math.nan]
    first, second = priced(frame)
    assert (first.seconds, first.slowest, second.seconds) == (3.5, 4, 3)


def test_uneven_times_and_several_devices_are_noted():
    frame = runs_of(grid(TWO, [0, 1, 2]), [90.0] * 3 + [80.0] * 3)
    assert prices.notes(frame, priced(frame)) == []
    frame["train_seconds"] = [60.0, 20.0, 30.0, 1.0, 1.0, 2.0]
    [uneven] = prices.notes(frame, priced(frame))
    assert uneven.startswith("The slowest run of row 1 took 2.0 times as long as the median of its runs.")
    assert uneven.endswith("read from the cache.")
    frame["preparation_seconds"] = 0.5
    assert prices.notes(frame, priced(frame))[0].endswith("Other work on the machine explains that.")
    frame["device"] = ["CPU"] * 3 + ["H100"] * 3
    assert "different devices: CPU, H100." in prices.notes(frame, priced(frame))[0]


def test_nothing_beats_the_frontier_and_it_beats_everything_else():
    random = np.random.default_rng(0)
    accuracy, seconds = random.integers(50, 60, 40).tolist(), random.integers(1, 20, 40).tolist()
    frontier = prices.frontier(accuracy, seconds)

    def beats(one, other):
        at_least = accuracy[one] >= accuracy[other] and seconds[one] <= seconds[other]
        return at_least and (accuracy[one] > accuracy[other] or seconds[one] < seconds[other])

    assert len(frontier) > 2 and not any(beats(j, i) for i in frontier for j in range(40))
    others = set(range(40)) - set(frontier)
    ties = {(accuracy[i], seconds[i]) for i in frontier}
    assert all(any(beats(i, j) for i in frontier) or (accuracy[j], seconds[j]) in ties for j in others)
    assert [accuracy[i] for i in frontier] == sorted({accuracy[i] for i in frontier}, reverse=True)


@pytest.mark.parametrize("seconds", [[math.nan, 3.0], [3.0, math.nan]])
def test_a_recipe_without_a_time_is_not_on_the_frontier(seconds):
    assert prices.frontier([80.0, 80.0], seconds) == [seconds.index(3.0)]


def test_the_pass_through_the_frozen_layers_is_a_sentence_of_its_own():
    frame = runs_of(grid(TWO, [0, 1]), [80.0] * 4)
    assert prices.frozen_layers(frame) == ""
    # A run of an earlier version does not tell, and one that trains all layers has none.
    frame["frozen_seconds"] = [2.5, float("nan"), 0.0, 1.5]
    assert prices.frozen_layers(frame).startswith(
        "2 of the 4 runs computed outputs of the frozen layers, in 4.0 s; the others read them from"
    )
    frame["frozen_seconds"] = [2.5, 0.0, 0.0, 0.0]
    assert prices.frozen_layers(frame).startswith("One of the 4 runs computed outputs")
    frame["frozen_seconds"] = 0.25
    every = "Each of the 4 runs computed outputs of the frozen layers, in 1.0 s together."
    assert prices.frozen_layers(frame) == every
    frame["frozen_seconds"] = 0.0
    assert prices.frozen_layers(frame) == ""


def test_the_price_of_the_best_recipe_says_what_it_leaves_out():
    frame = runs_of(grid(TWO, [0, 1]), [90.0, 90.0, 80.0, 80.0])
    frame["train_seconds"] = [93.8, 7.1, 7.1, 7.1]
    frame["preparation_seconds"] = [86.7, 0.0, 0.0, 0.0]
    frame["frozen_seconds"] = [86.7, 0.0, 0.0, 0.0]

    def price(**columns):
        return conclusions.price(answer(frame.assign(**columns), "a/b/c"))

    shared = "A run takes 7.1 s to train, without the frozen layers (86.7 s, computed once for all runs)."
    assert price() == shared
    each = price(train_seconds=17.1, preparation_seconds=10.0, frozen_seconds=10.0)
    assert each == "A run takes 7.1 s to train, without the frozen layers (40.0 s, the sum of the 4 runs)."
    # Row 1 trains all layers, or no run computed anything.
    assert "frozen" not in price(frozen_seconds=[0.0, 0, 2, 0], preparation_seconds=[0.0, 0, 3, 0])
    assert "frozen" not in price(frozen_seconds=0.0, preparation_seconds=0.1)
