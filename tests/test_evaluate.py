import math

import torch

from wandb_tl.evaluate import confident_mistakes_first, evaluate, one_of_each_class

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
