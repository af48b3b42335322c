"""Likely label errors and outliers among labelled images, from the features that a model gives them.

A classifier of the features gives class probabilities of images that were not among its training images.
Confident learning (Northcutt, Jiang and Chuang, 2021), as cleanlab implements it, estimates from them how
many labels are wrong. The images whose given label is least probable are the likely errors.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.outlier import OutOfDistribution
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tabulate import tabulate

from wandb_tl.errors import InputError
from wandb_tl.progress import tqdm

FOLDS = 5
# Features have more dimensions than a few thousand images need. Fewer make the classifier many times faster.
COMPONENTS = 128
# The inverse strength of L2 regularisation, for features that are scaled to a total variance of 1. A much
# weaker one lets the classifier learn wrong labels by heart, so that the probabilities of similar images are
# wrong too. Of 0.13, 1.3, 13, 130 and 1300, this one ranks errors best that were made on purpose.
INVERSE_REGULARISATION = 1.3
ITERATIONS = 500
# Limits of the inverse temperature.
EXPONENTS = (0.2, 5.0)
NEIGHBOURS = 10
# An outlier's distance is this many interquartile ranges above the third quartile, as in cleanlab's Datalab.
OUTLIER_RANGES = 1.7

COLUMNS = ("kind", "file", "split", "label", "suggested", "probability", "score")
ROWS_PRINTED = 20


@dataclass(frozen=True)
class LabelErrors:
    """What is suspicious about N labelled images of K classes. Indices are those of the images.

    suggested: int (N,), the most probable class. probability: (N,), of that class. score: (N,), the
    probability of the given label; NaN for the only image of its class, which cannot be judged. errors:
    indices of likely label errors, the most certain one first. typicality: (N,) between 0 and 1, low if an
    image is far from all others. outliers: indices of images that are unusually far from all others, the
    farthest one first.
    """

    suggested: NDArray[np.int64]
    probability: NDArray[np.float64]
    score: NDArray[np.float64]
    errors: list[int]
    typicality: NDArray[np.float64]
    outliers: list[int]


@dataclass(frozen=True)
class Doubt:
    """A likely label error, or an outlier.

    index: of the image. suggested: the most probable class, with its probability. score: the probability of
    the label of a likely error, the typicality of an outlier; both are low if the doubt is strong.
    """

    index: int
    is_error: bool
    file: str
    split: str
    label: str
    suggested: str
    probability: float
    score: float

    @property
    def remark(self) -> str:
        return (
            f"looks like {self.suggested} ({self.probability:.0%})" if self.is_error else "unlike all others"
        )

    @property
    def row(self) -> dict[str, Any]:
        """The doubt as a row of a table, by COLUMNS."""
        values = {name: getattr(self, name) for name in COLUMNS if name != "kind"}
        return {"kind": "label error" if self.is_error else "outlier", **values}


def find(features: NDArray[np.float32], labels: NDArray[np.int64], seed: int = 0) -> LabelErrors:
    """Judge the labels of images by their features.

    features: (N, D). labels: (N,) class indices; a class may have no images. seed: of the division into
    folds. InputError if no two classes have images, or every class has only one.
    """
    present, compact = np.unique(labels, return_inverse=True)
    sizes = np.bincount(compact)
    if len(present) < 2 or sizes.max() < 2:
        raise InputError("label errors cannot be found without two classes, and two pictures of one of them")
    judged = np.flatnonzero(sizes[compact] > 1)
    probabilities = cross_validated(features, compact, judged, seed)
    probabilities[judged] = calibrated(probabilities[judged], compact[judged])
    score = np.full(len(labels), np.nan)
    score[judged] = get_label_quality_scores(compact[judged], probabilities[judged])
    # Of cleanlab's filters, this one finds the most errors that were made on purpose in real images.
    suspicious = find_label_issues(
        compact[judged],
        probabilities[judged],
        filter_by="low_self_confidence",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    suggested = present[probabilities.argmax(axis=1)]
    typicality, outliers = _outliers(features)
    return LabelErrors(
        suggested=suggested,
        probability=probabilities.max(axis=1),
        score=score,
        errors=[index for index in judged[suspicious].tolist() if suggested[index] != labels[index]],
        typicality=typicality,
        outliers=outliers,
    )


def doubts(
    result: LabelErrors,
    files: Sequence[str],
    splits: Sequence[str],
    labels: Sequence[str],
    class_names: Sequence[str],
) -> list[Doubt]:
    """Likely label errors, then outliers, the strongest doubts first.

    files, splits, labels: of each image.
    """

    def doubt(index: int, is_error: bool) -> Doubt:
        return Doubt(
            index=index,
            is_error=is_error,
            file=files[index],
            split=splits[index],
            label=labels[index],
            suggested=class_names[result.suggested[index]],
            probability=round(float(result.probability[index]), 4),
            score=round(float((result.score if is_error else result.typicality)[index]), 4),
        )

    return [doubt(index, True) for index in result.errors] + [
        doubt(index, False) for index in result.outliers
    ]


def text(doubts: Sequence[Doubt], images: int) -> str:
    """The strongest doubts as tables for a terminal. images: how many there are in all."""
    errors = [doubt for doubt in doubts if doubt.is_error]
    outliers = [doubt for doubt in doubts if not doubt.is_error]
    parts = [f"Likely label errors: {len(errors):,} of {images:,} pictures{_more(errors)}"]
    if errors:
        rows = [
            (
                doubt.file,
                doubt.split,
                doubt.label,
                f"{doubt.suggested} ({doubt.probability:.0%})",
                doubt.score,
            )
            for doubt in errors[:ROWS_PRINTED]
        ]
        headers = ("file", "split", "labelled", "looks like", "probability of its label")
        parts.append(tabulate(rows, headers, disable_numparse=[0, 1, 2, 3], floatfmt=".3f"))
    parts.append(f"Outliers, unlike all other pictures: {len(outliers):,}{_more(outliers)}")
    if outliers:
        unlike = [(doubt.file, doubt.split, doubt.label, doubt.score) for doubt in outliers[:ROWS_PRINTED]]
        columns = ("file", "split", "labelled", "typicality")
        parts.append(tabulate(unlike, columns, disable_numparse=[0, 1, 2], floatfmt=".3f"))
    return "\n\n".join(parts)


def write_csv(doubts: Sequence[Doubt], file: Path) -> None:
    """Write one row per doubt. OSError if the file cannot be written."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(doubt.row for doubt in doubts)


def _more(doubts: Sequence[Doubt]) -> str:
    return f", the first {ROWS_PRINTED}" if len(doubts) > ROWS_PRINTED else ""


def cross_validated(
    features: NDArray[np.float32], labels: NDArray[np.int64], judged: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Class probabilities (N, K) of each image, from a classifier that was trained without it.

    labels: 0 to K - 1, each with at least one image. judged: indices of the images whose class has another
    image; the probabilities of all others are the classes' shares, because nothing is known about them.
    """
    shares = np.bincount(labels) / len(labels)
    probabilities = np.tile(shares, (len(labels), 1))
    alone = np.setdiff1d(np.arange(len(labels)), judged)
    for train, held_out in tqdm(_folds(labels[judged], seed), "cross-validation", FOLDS, leave=False):
        # The only image of a class is always trained on, so that every classifier knows every class.
        seen = np.concatenate([judged[train], alone])
        components = min(COMPONENTS, len(seen), features.shape[1])
        classifier = make_pipeline(
            StandardScaler(),
            PCA(components, random_state=seed),
            # Standardised features have a total variance of D.
            LogisticRegression(C=INVERSE_REGULARISATION / features.shape[1], max_iter=ITERATIONS),
        )
        classifier.fit(features[seen], labels[seen])
        probabilities[judged[held_out]] = classifier.predict_proba(features[judged[held_out]])
    return probabilities


def calibrated(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probabilities (N, K) at the temperature that makes the given labels most probable.

    A strongly regularised classifier is less confident than it is right, and few label errors would be
    counted.
    """
    logarithms = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))

    def loss(exponent: float) -> float:
        return -float(log_softmax(exponent * logarithms, axis=1)[np.arange(len(labels)), labels].mean())

    exponent = float(minimize_scalar(loss, bounds=EXPONENTS, method="bounded").x)
    return np.asarray(softmax(exponent * logarithms, axis=1))


def _folds(labels: NDArray[np.int64], seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Indices to train on and to hold out. A class of fewer images than folds is in as many folds."""
    folds = min(FOLDS, int(np.bincount(labels).max()))
    with warnings.catch_warnings():
        # It warns of small classes.
        warnings.simplefilter("ignore", UserWarning)
        yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)


def _outliers(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], list[int]]:
    """How typical each image is, and the indices of outliers."""
    neighbours = min(NEIGHBOURS, len(features) - 1)
    typicality = OutOfDistribution({"k": neighbours}).fit_score(features=features, verbose=False)
    # Typicality is the exponential of the mean distance to the neighbours, times a negative factor.
    distances = -np.log(np.maximum(typicality, np.finfo(np.float64).tiny))
    lower, upper = np.quantile(distances, [0.25, 0.75])
    far = np.flatnonzero(distances > upper + OUTLIER_RANGES * (upper - lower))
    return typicality, far[np.argsort(-distances[far], kind="stable")].tolist()
