"""The answer as plain data: for sweeps of every kind, and the sentences that say it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sweep_frames import GRID, grid, noisy, runs_of, sweep

from wandb_tl.analysis import certainty, conclusions
from wandb_tl.analysis.answer import answer
from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError


def told(frame, **options):
    return answer(frame, "a/b/c", **options)


def test_the_winner_its_uncertainties_and_the_cheaper_recipe():
    result = told(sweep())
    runs = sweep().groupby(["pretrained", "finetuning", "optimizer"])["test_accuracy"]
    best, cheap = (runs.get_group((True, finetuning, "Adam")).to_numpy() for finetuning in (True, False))
    assert result.winner.hyperparameters == {"pretrained": True, "finetuning": True, "optimizer": "Adam"}
    assert result.winner.accuracy.mean == pytest.approx(best.mean())
    exact = stats.binomtest(round(best.mean() * 100), 10_000).proportion_ci(0.95, method="exact")
    assert (result.winner.low, result.winner.high) == pytest.approx((100 * exact.low, 100 * exact.high))
    assert result.winner.price.seconds == 202
    assert result.cheaper.hyperparameters["finetuning"] is False and result.cheaper.price.seconds == 4
    lead = result.lead_over(result.cheaper)
    assert lead.row == result.cheaper.row and lead.lead.mean == pytest.approx((best - cheap).mean())
    assert result.contenders == () and result.frontier[0] == 1
    first, accuracy, price, sure = conclusions.first_sentences(result)
    assert first == "Use row 1: `pretrained=True`, `finetuning=True`, `optimizer=Adam`."
    half = stats.t.ppf(0.975, 4) * best.std(ddof=1) / np.sqrt(5)
    assert f"{best.mean():.2f} % of 10,000 test images correctly, ± {half:.2f} over 5 seeds; " in accuracy
    assert f"{100 * exact.low:.1f} to {100 * exact.high:.1f} % on other test images" in accuracy
    half = stats.t.ppf(0.975, 4) * (best - cheap).std(ddof=1) / np.sqrt(5)
    worse = f"is {(best - cheap).mean():.2f} ± {half:.2f} points worse."
    assert price.startswith("A run takes 202 s to train. Cheaper: row ") and price.endswith(worse)
    assert "(`finetuning=False`) takes 4.0 s, 50 times less" in price
    assert sure.startswith("It is the best of the 8 recipes")
    # A Python shell has the sentences, and not all fields.
    assert repr(result) == str(result) == "\n".join(conclusions.last_lines(result))
    assert len(conclusions.last_lines(result)) == 3 and "`" not in "".join(conclusions.last_lines(result))


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_one_recipe_has_nothing_to_be_compared_with(seeds):
    result = told(runs_of(grid({}, seeds), [80.0, 81.0, 82.0][: len(seeds)]))
    sentences = conclusions.first_sentences(result)
    assert sentences[0] == "There is one recipe, so there is nothing to compare it with."
    assert ("±" in sentences[1]) == (len(seeds) > 1) and result.cheaper is None


def test_all_of_50_images_right_is_at_least_93_per_cent():
    frame = noisy(grid({"optimizer": ["Adam", "SGD"]}), lambda c: 100.0 if c.optimizer == "Adam" else 80.0, 0)
    sentence = conclusions.accuracy(told(frame.assign(test_images=50.0)))
    assert sentence.startswith(
        "It classifies all 50 test images correctly; on other test images that is at least 93 %"
    )
    assert "±" not in sentence


def test_a_run_that_diverged_is_told_and_all_of_them_are_one_line():
    frame = sweep()
    frame.loc[3, ["avg_train_loss", "test_accuracy"]] = [float("nan"), 10.0]
    frame.loc[7, ["avg_train_loss", "test_accuracy"]] = float("nan")
    lost = told(frame).diverged
    # A run without an accuracy belongs to no row of the table.
    assert [(one.run, one.row is None) for one in lost] == [("run0003", False), ("run0007", True)]
    frame.attrs["left_out"] = {"crashed": 1, "failed": 2}
    text = " ".join(certainty.cautions(told(frame)))
    assert "Runs without results are not counted: 1 crashed and 2 failed." in text
    assert "Diverged, the loss is not a number: `resnet50" in text and "(run `run0003`, row" in text
    with pytest.raises(InputError, match="none of the 40 finished runs has a test accuracy: they diverged"):
        told(frame.assign(test_accuracy=float("nan")))


def test_runs_with_other_test_images_are_not_compared():
    other = noisy(grid(GRID, [0, 1], test_limit=100), lambda c: 99).assign(test_images=100.0)
    other["id"] = "b" + other["id"]
    result = told(pd.concat([other, sweep()], ignore_index=True))
    assert (result.runs, result.other_images, len(result.recipes)) == (40, 16, 8)
    assert result.winner.accuracy.mean < 95
    assert "16 runs with other test images are not compared with these." in certainty.cautions(result)


def test_a_recipe_that_held_out_images_chose_may_be_behind():
    configs = grid({"optimizer": ["Adam"]}) + grid({"optimizer": ["SGD"]}, finetuning=True)
    frame = runs_of(configs, lambda config: 80 + 3 * config.finetuning + config.seed / 10)
    frame["val/accuracy"] = (frame["optimizer"] == "Adam") / 2
    result = told(frame)
    assert result.winner.hyperparameters["optimizer"] == "Adam" and result.judged_by == "val/accuracy"
    [lead] = result.contenders
    assert lead.lead.mean == pytest.approx(-3) and not lead.settled


def test_a_cheaper_recipe_that_may_be_as_good_is_not_called_worse():
    frame = noisy(grid({"optimizer": ["Adam", "SGD"]}), lambda c: 80)
    frame["train_seconds"] = np.where(frame["test_accuracy"] > frame["test_accuracy"].median(), 2.0, 1.0)
    slow = frame.groupby("optimizer")["test_accuracy"].mean().idxmax()
    frame["train_seconds"] = np.where(frame["optimizer"] == slow, 100.0, 1.0)
    assert "whether it is worse is not settled: between \N{MINUS SIGN}" in conclusions.price(told(frame))


def test_commands_are_about_the_winner():
    result = told(sweep())
    assert str(result.predict) == "python -m wandb_tl.predict a/b/c PICTURES"
    flags = dict(zip(result.train.arguments[::2], result.train.arguments[1::2], strict=True))
    trained = RunConfig.from_flags({name[2:]: value for name, value in flags.items()})
    assert (trained.pretrained, trained.finetuning, trained.optimizer) == (True, True, "Adam")
    assert answer(sweep(), "a/b").predict.arguments[0] == f"a/b/{result.winner.best_run}"


def tied(accuracies, judge="val/accuracy"):
    frame = runs_of(grid({"optimizer": ["Adam", "SGD"], "lr": [0.1, 0.2]}, [0, 1]), [80.0] * 4 + [81.0] * 4)
    frame[judge] = accuracies
    return told(frame)


def test_ties_are_named():
    # By recipe: 0.1 + 0.2 and 0.2 + 0.1 differ in their last bit from each other's order.
    result = tied([0.8, 0.6, 0.6, 0.8, 0.7, 0.7, 0.5, 0.5])
    assert result.tied == (2, 3) and result.tied_runs == ()
    assert conclusions.winner(result).endswith(
        ". It is tied with rows 2-3 in validation accuracy; the order of the hyperparameters puts it first."
    )
    assert conclusions.best_run(result) == f"(the best of row 1, run `{result.winner.best_run}`)."
    result = tied([0.5, 0.5, 0.9, 0.9, 0.7, 0.7, 0.5, 0.5])
    assert result.tied == () and result.tied_runs == ("run0003",)
    assert "tied" not in conclusions.winner(result)
    assert conclusions.best_run(result) == (
        "(the best of row 1, run `run0002`). It is tied with `run0003` in validation accuracy; the smallest "
        "seed comes first."
    )
    assert "tied with row 2 in test accuracy;" in conclusions.winner(tied([float("nan")] * 8))
