"""The lines of each format."""

from pathlib import Path

import pytest

from wandb_tl.predicting.classifier import Prediction
from wandb_tl.predicting.rows import rows
from wandb_tl.predicting.targets import Target

GOOD = Prediction("a.jpg", "cat", 0.75, {"cat": 0.75, "a dog": 0.2, "fox": 0.05})
BAD = Prediction("b.jpg", problem="empty file")
TARGETS = [Target(Path("a.jpg"), "a.jpg", "cat"), Target(Path("b.jpg"), "b.jpg")]
LINES = {
    "table": [
        "picture  actual  label         %",
        "a.jpg    cat     cat       75.00  a dog     20.00",
        "b.jpg            cannot be read: empty file",
    ],
    "csv": [
        "picture,actual,label,probability,label_2,probability_2,problem",
        "a.jpg,cat,cat,0.75,a dog,0.2,",
        "b.jpg,,,,,,empty file",
    ],
    "json": [
        '{"picture": "a.jpg", "actual": "cat", "label": "cat", "probability": 0.75, '
        '"top": {"cat": 0.75, "a dog": 0.2}, "problem": null}',
        '{"picture": "b.jpg", "actual": null, "label": null, "probability": null, "top": {}, '
        '"problem": "empty file"}',
    ],
}


@pytest.mark.parametrize("form", LINES)
def test_two_labels_of_three(form):
    made = rows(form, TARGETS, ["a dog", "cat", "fox"], 2)
    lines = [made.first(), made.line(TARGETS[0], GOOD), made.line(TARGETS[1], BAD)]
    assert [line for line in lines if line is not None] == LINES[form]


@pytest.mark.parametrize("form", LINES)
def test_no_more_labels_than_classes_and_no_column_of_unknown_classes(form):
    made = rows(form, TARGETS[1:], ["a dog", "cat", "fox"], 9)
    assert "actual" not in (made.first() or "") + made.line(TARGETS[1], GOOD)
    assert made.line(TARGETS[1], GOOD).count("fox") == 1
