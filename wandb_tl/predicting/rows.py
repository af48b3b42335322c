"""Predictions as lines of output: a table for people, CSV or JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from wandb_tl.predicting.classifier import Prediction
    from wandb_tl.predicting.targets import Target

FORMATS = ("table", "csv", "json")
# Columns of a name in the table, so that one long name does not widen all rows.
WIDEST = 60


class Rows(Protocol):
    """Gives the lines of one format."""

    def first(self) -> str | None:
        """The line before all others, if there is one."""

    def line(self, target: Target, prediction: Prediction) -> str:
        """The line of a picture."""


def rows(form: str, targets: Sequence[Target], class_names: Sequence[str], top_k: int) -> Rows:
    """The rows of a format, one of FORMATS. top_k: labels per picture."""
    labelled = any(target.actual is not None for target in targets)
    top_k = min(top_k, len(class_names))
    if form == "json":
        return _JsonRows(labelled, top_k)
    if form == "csv":
        return _CsvRows(labelled, top_k)
    return _TableRows(labelled, top_k, targets, class_names)


def _top(prediction: Prediction, count: int) -> list[tuple[str, float]]:
    return list(prediction.probabilities.items())[:count]


class _TableRows:
    def __init__(
        self, labelled: bool, top_k: int, targets: Sequence[Target], class_names: Sequence[str]
    ) -> None:
        self.labelled, self.top_k = labelled, top_k
        self.name = min(WIDEST, max(len("picture"), *(len(target.name) for target in targets)))
        self.label = max(len("actual"), *map(len, class_names))

    def first(self) -> str | None:
        return self._row("picture", "actual", [f"{'label':{self.label}}        %"])

    def line(self, target: Target, prediction: Prediction) -> str:
        if prediction.problem:
            return self._row(target.name, target.actual, [f"cannot be read: {prediction.problem}"])
        cells = [f"{label:{self.label}} {100 * value:8.2f}" for label, value in _top(prediction, self.top_k)]
        return self._row(target.name, target.actual, cells)

    def _row(self, name: str, actual: str | None, cells: list[str]) -> str:
        before = [f"{name:{self.name}}"]
        if self.labelled:
            before.append(f"{actual or '':{self.label}}")
        return "  ".join([*before, *cells]).rstrip()


class _CsvRows:
    def __init__(self, labelled: bool, top_k: int) -> None:
        self.labelled, self.top_k = labelled, top_k

    def first(self) -> str | None:
        ranks = [f"_{rank}" if rank > 1 else "" for rank in range(1, self.top_k + 1)]
        columns = [f"{name}{rank}" for rank in ranks for name in ("label", "probability")]
        return self._row(["picture", *(["actual"] if self.labelled else []), *columns, "problem"])

    def line(self, target: Target, prediction: Prediction) -> str:
        cells = [cell for pair in _top(prediction, self.top_k) for cell in pair]
        cells += [""] * (2 * self.top_k - len(cells))
        actual = [target.actual] if self.labelled else []
        return self._row([target.name, *actual, *cells, prediction.problem])

    def _row(self, cells: list[Any]) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(cells)
        return line.getvalue()


class _JsonRows:
    def __init__(self, labelled: bool, top_k: int) -> None:
        self.labelled, self.top_k = labelled, top_k

    def first(self) -> str | None:
        return None

    def line(self, target: Target, prediction: Prediction) -> str:
        values: dict[str, Any] = {"picture": target.name}
        if self.labelled:
            values["actual"] = target.actual
        if prediction.problem:
            values |= {"label": None, "probability": None, "top": {}, "problem": prediction.problem}
        else:
            top = dict(_top(prediction, self.top_k))
            values |= {"label": prediction.label, "probability": prediction.probability, "top": top}
            values["problem"] = None
        return json.dumps(values, ensure_ascii=False)
