"""Models ordered by how well their frozen features classify validation images, as tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabulate import tabulate

from wandb_tl.analysis import prices
from wandb_tl.analysis.formatting import conjunction, count
from wandb_tl.analysis.intervals import ALPHA
from wandb_tl.analysis.proportions import exact_interval, mcnemar

# Models that a sweep is started over.
FINALISTS = 3
# Names in a sentence; of more models it says how many.
NAMES_IN_SENTENCE = 8


@dataclass(frozen=True, eq=False)
class Ranked:
    """A model that has been judged.

    probe, knn: bool (N,), whether each of the validation images was classified correctly; the same images for
    all models. milliseconds: per image. parameters: their number.
    """

    model: str
    probe: NDArray[np.bool_]
    knn: NDArray[np.bool_]
    milliseconds: float
    parameters: int


@dataclass(frozen=True)
class Share:
    """An accuracy in per cent with its 95 % interval."""

    percent: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: NDArray[np.bool_]) -> Share:
        return cls(100 * float(hits.mean()), *exact_interval(int(hits.sum()), len(hits)))

    def __str__(self) -> str:
        return f"{self.percent:.2f} ({self.low:.1f} to {self.high:.1f})"


class Ranking:
    """One or more judged models. models: the most accurate by the probe first, of equal ones the faster."""

    def __init__(self, judged: Sequence[Ranked]) -> None:
        self.models = sorted(judged, key=lambda one: (-one.probe.sum(), one.milliseconds, one.model))

    @cached_property
    def frontier(self) -> list[Ranked]:
        """The models that none beats in both accuracy and time per image, the most accurate first."""
        accuracies = [float(one.probe.mean()) for one in self.models]
        return [
            self.models[i] for i in prices.frontier(accuracies, [one.milliseconds for one in self.models])
        ]

    @property
    def finalists(self) -> list[str]:
        """The most accurate models of the frontier."""
        return [one.model for one in self.frontier[:FINALISTS]]

    def table(self) -> str:
        """The ranking for a terminal."""
        rows = [
            (
                one.model,
                str(Share.of(one.probe)),
                str(Share.of(one.knn)),
                f"{one.milliseconds:.3g}",
                f"{one.parameters / 1e6:,.1f}",
                "yes" if one in self.frontier else "",
            )
            for one in self.models
        ]
        headers = ("model", "probe, %", "kNN, %", "ms/image", "M parameters", "frontier")
        align = ("left", "left", "left", "right", "right", "left")
        return tabulate(rows, headers, disable_numparse=True, colalign=align)

    def sentences(self, device: str) -> str:
        """What the table shows, and what it does not settle. device: what the models were timed on."""
        images = count(len(self.models[0].probe), "validation image")
        lines = [
            f"Accuracy of {images}, with its 95 % interval; no test image is used. Time on {device}.",
            "Frontier: no other model is both as accurate and as fast.",
        ]
        if self.as_good:
            names = in_words([one.model for one in self.as_good])
            lines.append(
                f"These images do not settle whether {self.models[0].model} is better than {names} "
                "(McNemar's test, p >= 0.05, not corrected for the number of models)."
            )
        return "\n".join(lines)

    @cached_property
    def as_good(self) -> list[Ranked]:
        """The models whose probe is not worse than that of the first one by McNemar's test."""
        first, *others = self.models
        best = pd.Series(first.probe)
        return [one for one in others if mcnemar(best, pd.Series(one.probe)).p >= ALPHA]

    def columns(self) -> dict[str, list[Any]]:
        """The ranking as columns of a table; accuracies in per cent."""
        columns: dict[str, list[Any]] = {"model": [one.model for one in self.models]}
        for name in ("probe", "knn"):
            shares = [Share.of(getattr(one, name)) for one in self.models]
            columns[f"{name}_accuracy"] = [share.percent for share in shares]
            columns[f"{name}_low"] = [share.low for share in shares]
            columns[f"{name}_high"] = [share.high for share in shares]
        columns["milliseconds_per_image"] = [one.milliseconds for one in self.models]
        columns["parameters"] = [one.parameters for one in self.models]
        columns["frontier"] = [one in self.frontier for one in self.models]
        return columns

    def summary(self) -> dict[str, Any]:
        """What a run's summary says about the ranking."""
        best = self.models[0]
        return {
            "best_model": best.model,
            "probe_accuracy": Share.of(best.probe).percent,
            "knn_accuracy": Share.of(best.knn).percent,
            "milliseconds_per_image": best.milliseconds,
            "frontier": ", ".join(one.model for one in self.frontier),
            "models_ranked": len(self.models),
            "val_images": len(best.probe),
        }


def in_words(names: list[str]) -> str:
    """Names as a list; of many, the first ones and how many there are besides."""
    more = len(names) - NAMES_IN_SENTENCE
    if more <= 1:
        return conjunction(names)
    return f"{', '.join(names[:NAMES_IN_SENTENCE])} and {more:,} more"
