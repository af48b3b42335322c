"""Confusion matrices: counts by actual and predicted class, from a Table of triples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from wandb_tl.local.pages.values import is_number

# The columns of the Table behind wandb.plot.confusion_matrix, and of other Tables of counts, in lower case.
COLUMNS = (("actual", "predicted", "npredictions"), ("actual", "predicted", "count"))
# The classes of a matrix on a page; of more classes, those that are confused most often.
CLASSES = 50


@dataclass(frozen=True)
class Cell:
    """A count, its share of the actual class, and the page with its images, "" without one.

    images: how many images that page has; a run often logs a few examples of many.
    """

    count: float
    share: float
    url: str
    images: int = 0


@dataclass(frozen=True)
class Examples:
    """Where images of a cell are: the address of a Table's page, and the names of its columns.

    images: how many rows of the Table have an actual and a predicted class.
    """

    url: str
    actual: str
    predicted: str
    images: Counter[tuple[str, str]]

    def of(self, actual: str, predicted: str) -> str:
        words = f"{quoted(self.actual)}={quoted(actual)} {quoted(self.predicted)}={quoted(predicted)}"
        return f"{self.url}&{urlencode({'filter': words})}"


@dataclass
class Confusion:
    """Cells by actual class (row) and predicted class (column). largest: the largest count, at least 1.

    left_out: how many more classes the Table has.
    """

    classes: list[str]
    rows: list[list[Cell]]
    largest: float
    left_out: int


def is_confusion(columns: list[str], rows: list[list[Any]]) -> bool:
    """Whether a Table is one of counts by actual and predicted class."""
    names = tuple(name.lower() for name in columns)
    return names in COLUMNS and all(len(row) == 3 and is_number(row[2]) for row in rows)


def confusion(triples: list[list[Any]], examples: Examples | None = None) -> Confusion:
    """The matrix of [actual, predicted, count] triples; of a pair that occurs twice, the last one counts."""
    counts = {(str(actual), str(predicted)): count for actual, predicted, count in triples}
    classes = list(
        dict.fromkeys([*(actual for actual, _ in counts), *(predicted for _, predicted in counts)])
    )
    images: Counter[str] = Counter()
    # All of them: as many of the largest are in the matrix, errors or not.
    errors: Counter[str] = Counter(dict.fromkeys(classes, 0))
    for (actual, predicted), count in counts.items():
        images[actual] += count
        if actual != predicted:
            errors[actual] += count
            errors[predicted] += count
    in_matrix = classes
    if len(classes) > CLASSES:
        most = {name for name, _ in errors.most_common(CLASSES)}
        in_matrix = [name for name in classes if name in most]

    def cell(actual: str, predicted: str) -> Cell:
        count = counts.get((actual, predicted), 0)
        examples_of_cell = examples.images[actual, predicted] if examples and count else 0
        url = examples.of(actual, predicted) if examples and examples_of_cell else ""
        share = count / images[actual] if images[actual] else 0.0
        return Cell(count, share, url, examples_of_cell)

    rows = [[cell(actual, predicted) for predicted in in_matrix] for actual in in_matrix]
    largest = max((each.count for row in rows for each in row), default=0) or 1
    return Confusion(in_matrix, rows, largest, len(classes) - len(in_matrix))


def quoted(text: str) -> str:
    """A word of a filter in quotes; quotes in it are put into quotes of the other kind, which may follow."""
    return "'\"'".join(f'"{part}"' for part in text.split('"'))
