import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from wandb_tl.training.evaluate import (
    Evaluation,
    confident_mistakes_first,
    evaluate,
    one_of_each_class,
    reliability_bins,
    right_and_wrong,
)

# Probabilities of three classes for five images; the last class has no image.
PROBABILITIES = torch.tensor(
    [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7], [0.9, 0.05, 0.05]]
)
LABELS = torch.tensor([0, 1, 1, 1, 0])


def test_metrics_by_hand():
    result = evaluate(PROBABILITIES.log(), LABELS)
    assert result.confusion.tolist() == [[2, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert math.isclose(result.accuracy, 3 / 5)
    assert math.isclose(result.loss, -sum(map(math.log, (0.7, 0.3, 0.8, 0.1, 0.9))) / 5, rel_tol=1e-6)
    assert result.accuracy_by_class[0] == 1 and math.isclose(result.accuracy_by_class[1], 1 / 3, rel_tol=1e-6)
    assert math.isnan(result.accuracy_by_class[2])
    # Class 2 is predicted once and never right: F1 of 4/5, 1/2 and 0.
    assert math.isclose(result.f1_macro, (4 / 5 + 1 / 2 + 0) / 3, rel_tol=1e-6)
    # Each confidence falls into a bin of its own but the two of 0.7, one of which is right.
    gaps = [abs(0.5 - 0.7) * 2, 0.6, 0.2, 0.1]
    assert math.isclose(result.ece, sum(gaps) / 5, rel_tol=1e-5)


def test_names_of_the_metrics():
    names = set(evaluate(PROBABILITIES.log(), LABELS).metrics("test", ["a", "b/c", "d"]))
    scalars = {"test/loss", "test/accuracy", "test/f1_macro", "test/ece"}
    assert names == scalars | {f"test/accuracy_by_class/{name}" for name in ("a", "b/c", "d")}


def test_images_to_show():
    result = evaluate(PROBABILITIES.log(), LABELS)
    assert confident_mistakes_first(result, 4) == [3, 1, 4, 2]
    chosen = [one_of_each_class(result, seed) for seed in range(30)]
    assert {first for first, _ in chosen} == {0, 4} and {second for _, second in chosen} == {1, 2, 3}


def some_evaluation(
    images: int, classes: int, scale: float, seed: int = 0
) -> tuple[Evaluation, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images,), generator=generator)
    logits = torch.randn(images, classes, generator=generator) + 1.5 * F.one_hot(labels, classes)
    return evaluate(scale * logits, labels), scale * logits, labels


@pytest.mark.parametrize("classes", [2, 10, 60])
def test_scores_of_classes_are_those_of_scikit_learn(classes):
    # 40 images of 60 classes: some have none, some are never predicted, and of some both is true.
    result, logits, labels = some_evaluation(40, classes, 1)
    precision, recall, f1, images = precision_recall_fscore_support(
        labels, logits.argmax(1), labels=range(classes), zero_division=np.nan
    )
    np.testing.assert_allclose(result.precision_by_class, precision, rtol=1e-6)
    np.testing.assert_allclose(result.accuracy_by_class, recall, rtol=1e-6)
    np.testing.assert_allclose(result.f1_by_class, f1, rtol=1e-6)
    assert result.images_by_class == images.tolist()
    assert math.isclose(np.nanmean(result.f1_by_class), result.f1_macro, rel_tol=1e-6)


@pytest.mark.parametrize("classes", [2, 10, 60])
def test_scores_are_those_of_torchmetrics(classes):
    result, logits, labels = some_evaluation(200, classes, 1)
    predicted, probabilities = logits.argmax(1), logits.softmax(1)
    assert torch.equal(result.confusion, multiclass_confusion_matrix(predicted, labels, classes))
    f1 = multiclass_f1_score(predicted, labels, classes, average="macro").item()
    error = multiclass_calibration_error(probabilities, labels, classes, n_bins=15).item()
    assert math.isclose(result.f1_macro, f1, rel_tol=1e-6) and math.isclose(result.ece, error, rel_tol=1e-5)


# At a scale of 100 most confidences are exactly 1.
@pytest.mark.parametrize("scale", [0.3, 1, 5, 100])
def test_reliability_bins_are_those_of_the_calibration_error(scale):
    result, logits, labels = some_evaluation(3000, 10, scale)
    bins = reliability_bins(result)
    count, confidence, accuracy = map(np.array, (bins.count, bins.confidence, bins.accuracy))
    assert len(count) == 15 and count.sum() == 3000
    assert math.isclose((count * abs(accuracy - confidence)).sum() / 3000, result.ece, abs_tol=1e-6)
    assert math.isclose((count * accuracy).sum() / 3000, result.accuracy, rel_tol=1e-6)
    sure, right = logits.softmax(1).max(1).values.numpy(), (logits.argmax(1) == labels).numpy()
    for i in range(15):
        inside = (sure >= i / 15) & ((sure < (i + 1) / 15) | (i == 14))
        assert abs(int(inside.sum()) - bins.count[i]) <= 1
    filled, expected = calibration_curve(right, sure, n_bins=15)
    np.testing.assert_allclose(accuracy[count > 0], filled, atol=0.01)
    np.testing.assert_allclose(confidence[count > 0], expected, atol=0.01)


def test_a_confidence_of_exactly_one_is_in_the_last_bin():
    sure, less = 1.0, 1 / (1 + math.exp(-3))
    result = evaluate(torch.tensor([[200.0, 0.0]] + [[3.0, 0.0]] * 9), torch.tensor([1] + [0] * 9))
    assert result.confidence[0] == 1 and reliability_bins(result).count == [0] * 14 + [10]
    assert math.isclose(result.ece, abs(0.9 - (sure + 9 * less) / 10), rel_tol=1e-4)


def test_a_model_that_has_diverged_is_judged():
    result = evaluate(torch.full((4, 3), float("nan")), torch.tensor([0, 1, 2, 0]))
    assert sum(reliability_bins(result).count) == 4 and math.isnan(result.loss)


@pytest.mark.parametrize("count", [1, 5, 12])
def test_images_to_explain_are_confident_mistakes_and_random_hits(count):
    result, _, _ = some_evaluation(300, 10, 2)
    chosen = right_and_wrong(result, count, seed=3)
    wrong = (result.predicted != result.actual).numpy()
    mistakes, hits = chosen[: (count + 1) // 2], chosen[(count + 1) // 2 :]
    assert len(chosen) == len(set(chosen)) == count and not wrong[hits].any()
    by_confidence = sorted(np.flatnonzero(wrong), key=lambda i: -result.confidence[i])
    assert mistakes == by_confidence[: len(mistakes)]
    assert chosen == right_and_wrong(result, count, seed=3)
    assert count < 5 or hits != right_and_wrong(result, count, seed=4)[len(mistakes) :]


@pytest.mark.parametrize(
    ("mistakes", "hits", "expected"),
    [(1, 9, (1, 5)), (9, 1, (5, 1)), (0, 9, (0, 6)), (9, 0, (6, 0)), (2, 2, (2, 2))],
)
def test_where_mistakes_or_hits_are_few_the_others_make_up(mistakes, hits, expected):
    labels = torch.tensor([1] * mistakes + [0] * hits)
    result = evaluate(torch.tensor([[2.0, 0.0]]).repeat(mistakes + hits, 1), labels)
    chosen = right_and_wrong(result, 6, seed=0)
    wrong = sum(i < mistakes for i in chosen)
    assert (wrong, len(chosen) - wrong) == expected and len(set(chosen)) == len(chosen)
