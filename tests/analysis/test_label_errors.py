"""Likely label errors among features whose true labels are known."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from wandb_tl.analysis import label_errors
from wandb_tl.errors import InputError

NAMES = ["ash", "elm", "oak", "pine"]


def clusters(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features around a centre per class, and their labels."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), 40))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    noise = rng.normal(scale=0.8, size=(len(labels), 40))
    return (centres[labels] + noise).astype(np.float32), labels


def with_errors(labels: np.ndarray, count: int, classes: int) -> tuple[np.ndarray, list[int]]:
    """The labels with some of them wrong, and the indices of these."""
    rng = np.random.default_rng(1)
    wrong = rng.choice(len(labels), count, replace=False)
    given = labels.copy()
    given[wrong] = (labels[wrong] + rng.integers(1, classes, count)) % classes
    return given, sorted(wrong.tolist())


def test_wrong_labels_are_doubted_with_the_right_suggestion():
    features, labels = clusters([80, 60, 40, 20])
    given, wrong = with_errors(labels, 10, 4)
    result = label_errors.find(features, given)
    assert set(result.errors) <= set(wrong)
    assert len(result.errors) >= 7
    assert (result.suggested[wrong] == labels[wrong]).all()
    assert (result.probability[wrong] > result.score[wrong]).all()
    scores = result.score[result.errors]
    assert (np.diff(scores) >= 0).all() and ((scores >= 0) & (scores <= 1)).all()


def test_right_labels_are_hardly_ever_doubted():
    features, labels = clusters([50, 50, 50])
    assert len(label_errors.find(features, labels).errors) <= 2


def test_same_images_give_the_same_result():
    features, labels = clusters([30, 30])
    given, _ = with_errors(labels, 4, 2)
    first, second = label_errors.find(features, given), label_errors.find(features, given)
    assert first.errors == second.errors
    np.testing.assert_array_equal(first.score, second.score)


def test_classes_of_few_images_are_judged_and_single_images_are_not():
    features, labels = clusters([40, 40, 3, 2, 1])
    result = label_errors.find(features, labels)
    assert math.isnan(result.score[-1])
    assert np.isfinite(result.score[:-1]).all()
    assert len(labels) - 1 not in result.errors


def test_class_numbers_without_images_stay_as_they_are():
    features, labels = clusters([40, 40])
    given, wrong = with_errors(labels, 4, 2)
    result = label_errors.find(features, given * 3)
    assert set(result.suggested) == {0, 3}
    assert result.errors and set(result.errors) <= set(wrong)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_labels_that_cannot_be_judged_are_refused(labels: list[int]):
    with pytest.raises(InputError, match="label errors cannot be found without two classes"):
        label_errors.find(np.ones((4, 8), np.float32), np.array(labels))


def test_image_that_is_far_from_all_others_is_an_outlier():
    features, labels = clusters([60, 60])
    features[7] = np.random.default_rng(5).normal(scale=5, size=40)
    result = label_errors.find(features, labels)
    assert result.outliers[0] == 7
    assert result.typicality.argmin() == 7


def test_rows_of_a_table_say_what_is_doubted(tmp_path: Path):
    features, labels = clusters([40, 40, 40, 40])
    given, wrong = with_errors(labels, 5, 4)
    files = [f"{number}.png" for number in range(len(labels))]
    result = label_errors.find(features, given)
    doubts = label_errors.doubts(
        result, files, ["train"] * len(labels), [NAMES[label] for label in given], NAMES
    )
    first = doubts[0]
    assert first.index in wrong and first.is_error
    assert first.remark == f"looks like {NAMES[labels[first.index]]} ({first.probability:.0%})"
    text = label_errors.text(doubts, len(labels))
    assert text.startswith(f"Likely label errors: {len(result.errors)} of 160 pictures")
    assert first.file in text

    label_errors.write_csv(doubts, tmp_path / "doubts.csv")
    with (tmp_path / "doubts.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(doubts)
    assert rows[0] == {name: str(value) for name, value in first.row.items()}
    assert rows[0]["kind"] == "label error"


def test_text_without_doubts_says_so():
    assert label_errors.text([], 30) == (
        "Likely label errors: 0 of 30 pictures\n\nOutliers, unlike all other pictures: 0"
    )


def test_probabilities_become_as_confident_as_they_are_right():
    rng = np.random.default_rng(0)
    confident = rng.dirichlet([0.3, 0.3, 0.3], 4000)
    labels = np.array([rng.choice(3, p=row) for row in confident])
    flat = confident**0.5 / (confident**0.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(label_errors.calibrated(flat, labels), confident, atol=0.05)
