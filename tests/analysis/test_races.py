import math

import pandas as pd
import pytest
from scipy import stats
from sweep_frames import runs_of

from wandb_tl.analysis import races
from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError

LRS = [round(0.001 * number, 3) for number in range(1, 13)]
VAL_IMAGES = 2000


def frame(scores: dict[float, list[float]], first_seed: int = 7) -> pd.DataFrame:
    """Runs with a learning rate for each recipe, and its validation accuracies in per cent, a seed each.

    By test accuracy, their order would be the reverse.
    """
    seeds = [first_seed, 0, 1, 2, 3]
    configs = [
        RunConfig(lr=lr, seed=seed) for lr, row in scores.items() for seed, _ in zip(seeds, row, strict=False)
    ]
    accuracies = [value for row in scores.values() for value in row]
    runs = runs_of(configs, [100 - value for value in accuracies])
    runs["val/accuracy"], runs["val_images"] = [value / 100 for value in accuracies], float(VAL_IMAGES)
    runs.attrs = {"metric": "val/accuracy", "left_out": {"killed": 4}}
    return runs


def lrs(entrants) -> list[float]:
    return [one.config.lr for one in entrants]


def test_the_best_quarter_by_validation_images_runs_with_another_seed():
    race = races.race(frame({lr: [50 + 1000 * lr] for lr in LRS}), [7])
    assert lrs(race.going_on) == [0.012, 0.011, 0.010] and race.judged_by == "val/accuracy"
    assert races.next_seed(race, 0) == ("The best 3 recipes of 16 by val/accuracy run with seed 0 (3 runs).")
    # Never fewer than two.
    assert lrs(races.race(frame({0.001: [50], 0.002: [60]}), [7]).going_on) == [0.002, 0.001]


def test_settled_losers_are_dropped_and_the_mean_decides():
    scores = {lr: [70 - 1000 * lr] for lr in LRS}
    scores |= {0.004: [81, 80.0, 80.1], 0.005: [80, 81.5, 81.4], 0.006: [79, 70.1, 70.0], 0.007: [72]}
    # The device of the other runs resolves precision=auto otherwise.
    runs = frame(scores)
    runs.loc[runs["seed"] != 7, "precision_in_effect"] = "fp32"
    race = races.race(runs, [7, 0, 1])
    assert lrs(race.entrants) == [0.005, 0.004, 0.006] and not race.dropped
    winner, second, third = race.entrants
    assert winner.metric.mean == pytest.approx((80 + 81.5 + 81.4) / 3) and winner.place == 2
    for other in (second, third):
        pair = stats.ttest_rel(scores[0.005], scores[other.config.lr])
        assert other.lead.p == pytest.approx(pair.pvalue)
    assert not second.lead.settled and races.race(runs, [7, 0]).points == 16
    assert "none of 3 recipes is settled" in races.next_seed(races.race(runs, [7, 0]), 1)

    # A recipe that is settled to be worse stays behind; its lead is that of the seeds that it has run with.
    scores |= {0.006: [76, 76.01, 76.0], 0.005: [80, 80.02, 80.0, 80.1], 0.004: [79.9, 80, 80.1, 80.3]}
    race = races.race(frame(scores), [7, 0, 1])
    assert lrs(race.going_on) == [0.005, 0.004]
    assert races.next_seed(race, 2) == (
        "After 3 seeds, 1 of 3 recipes is settled to be worse than the best one; 2 run with seed 2 (2 runs)."
    )
    race = races.race(frame(scores), [7, 0, 1, 2])
    assert lrs(race.entrants) == [0.004, 0.005] and lrs(race.dropped) == [0.006] and race.repeats == 8
    assert race.dropped[0].lead.settled and race.dropped[0].lead.lead.mean == pytest.approx(4.0, abs=0.01)
    head, _, *rows = (line.split() for line in races.ranking(race).splitlines())
    assert head[:4] == ["|", "row", "|", "lr"] and "rank with seed 7 alone" in " ".join(head)
    assert [row[1:4:2] for row in rows] == [["1", "0.004"], ["2", "0.005"], ["3", "0.006"]]
    assert rows[0][-3:] == ["|", "|", "|"] and rows[2][-2:] == ["settled", "|"]
    said = races.conclusion(race, 4)
    assert "over 4 seeds (7, 0, 1, 2)" in said and "better than row 2 is not settled" in said
    assert "8 runs repeated recipes" in said and said.endswith("taken 48 more runs, so 40 runs are saved.")

    top = races.where_it_went_on(race)
    assert top.startswith(
        "**The seeds chose `lr=0.004`: see [confirmation/README.md](confirmation/README.md).**"
    )
    assert "(seeds.md)" in top and top.endswith("the first step, with seed 7 alone.")
    assert races.confirmed(race).startswith("The recipe that has won: `lr=0.004`. Neither the seeds of these")


def test_what_cannot_be_judged_is_refused():
    runs = frame({0.001: [50, 51], 0.002: [60, 61]})
    runs.loc[0, "val/accuracy"] = math.nan
    with pytest.raises(InputError, match="some runs have no val/accuracy"):
        races.race(runs, [7, 0])
    with pytest.raises(InputError, match="at least two recipes"):
        races.race(frame({0.001: [50]}), [7])
    with pytest.raises(InputError, match="no recipe has results with the seeds 7, 0, 1"):
        races.race(frame({0.001: [50, 51], 0.002: [60, 61]}), [7, 0, 1])
