"""The sentences about the accuracy of predictions."""

from wandb_tl.predicting.classifier import Prediction
from wandb_tl.predicting.scores import Scores


def test_accuracy_majority_and_mistakes():
    scores = Scores()
    for actual, label, count in (
        ("cat", "cat", 20),
        ("dog", "dog", 15),
        ("fox", "dog", 3),
        ("cat", "dog", 2),
    ):
        for _ in range(count):
            scores.add(actual, Prediction("a.jpg", label, 0.9, {label: 0.9}))
    scores.add("cat", Prediction("b.jpg", problem="empty file"))
    # The interval is the one of the tables of Clopper and Pearson.
    assert scores.text().splitlines() == [
        "Accuracy: 87.50 % (35 of 40 pictures), 95 % interval 73.20 to 95.81 %",
        "A model that always answers cat has 55.00 %.",
        "Most frequent mistakes: fox as dog (3), cat as dog (2)",
        "Not counted, because they cannot be read: 1",
    ]


def test_without_mistakes_none_are_listed():
    scores = Scores()
    scores.add("cat", Prediction("a.jpg", "cat", 0.9, {"cat": 0.9}))
    assert len(scores.text().splitlines()) == 2
