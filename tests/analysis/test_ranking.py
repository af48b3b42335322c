"""The order of models, their frontier, and what the validation images do not settle."""

import re

import numpy as np
import pytest
from scipy import stats

from wandb_tl.analysis.ranking import Ranked, Ranking, in_words

IMAGES = 200


def model(name: str, hits: int, milliseconds: float, knn: int = 100) -> Ranked:
    """A model that classifies the first images correctly."""
    images = np.arange(IMAGES)
    return Ranked(name, images < hits, images < knn, milliseconds, 1_500_000)


@pytest.fixture
def ranking() -> Ranking:
    return Ranking(
        [
            model("slow", 150, 9.0),
            model("fast", 100, 1.0),
            model("beaten", 140, 5.0),
            model("close", 148, 3.0),
            model("best", 160, 8.0),
        ]
    )


def test_the_most_accurate_comes_first_and_the_frontier_has_what_none_beats(ranking: Ranking):
    assert [one.model for one in ranking.models] == ["best", "slow", "close", "beaten", "fast"]
    assert [one.model for one in ranking.frontier] == ["best", "close", "fast"] == ranking.finalists
    assert ranking.columns()["frontier"] == [True, False, True, False, True]


def test_of_equal_ones_the_faster_comes_first_and_beats_the_other():
    ranking = Ranking([model("slow", 100, 2.0), model("fast", 100, 1.0)])
    assert [one.model for one in ranking.models] == ["fast", "slow"]
    assert ranking.finalists == ["fast"]


def test_accuracies_have_the_interval_of_the_binomial_distribution(ranking: Ranking):
    columns = ranking.columns()
    interval = stats.binomtest(160, IMAGES).proportion_ci(0.95, method="exact")
    assert columns["probe_accuracy"][0] == pytest.approx(80)
    assert columns["probe_low"][0] == pytest.approx(100 * interval.low)
    assert columns["probe_high"][0] == pytest.approx(100 * interval.high)
    row = re.split(" {2,}", ranking.table().splitlines()[2])
    assert row[:2] == ["best", f"80.00 ({100 * interval.low:.1f} to {100 * interval.high:.1f})"]
    assert ranking.summary()["best_model"] == "best" and ranking.summary()["val_images"] == IMAGES


def test_what_the_images_do_not_settle():
    # Of 5 images that only one model classifies correctly, all on one side: p = 0.0625; of 6, p = 0.03125.
    ranking = Ranking([model("best", 106, 1), model("undecided", 101, 1), model("worse", 100, 1)])
    assert [one.model for one in ranking.as_good] == ["undecided"]
    assert "whether best is better than undecided (McNemar" in ranking.sentences("a processor")
    settled = Ranking([model("best", 106, 1), model("worse", 100, 1)])
    assert "settle" not in settled.sentences("a processor")


def test_many_names_are_counted():
    assert in_words(["a", "b"]) == "a and b"
    assert in_words([str(number) for number in range(30)]).endswith("6, 7 and 22 more")
