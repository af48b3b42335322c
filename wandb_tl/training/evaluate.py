"""From logits to plain data: metrics, confusion counts, and the images to show."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Without torchmetrics, whose import takes longer than ten epochs of a classifier. The tests compare with it.

# Bins of the expected calibration error, as in Guo et al., On Calibration of Modern Neural Networks, 2017.
ECE_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """A model's predictions for N labelled images of K classes, and their scores. Tensors are on the CPU.

    loss: mean cross-entropy in nats; accuracy, f1_macro, ece: between 0 and 1; confusion (K, K) counts,
    actual by predicted; actual, predicted (N,) class indices; confidence (N,) probability of the predicted
    class.

    For each class: accuracy_by_class, its recall, NaN if it has no images; precision_by_class, NaN if it is
    never predicted; f1_by_class, NaN if both are so, and f1_macro is the mean of the others. scikit-learn
    computes the same with zero_division=nan.
    """

    loss: float
    accuracy: float
    f1_macro: float
    ece: float
    accuracy_by_class: list[float]
    precision_by_class: list[float]
    f1_by_class: list[float]
    images_by_class: list[int]
    confusion: Tensor
    actual: Tensor
    predicted: Tensor
    confidence: Tensor

    @property
    def percent(self) -> float:
        """The accuracy in per cent, from the number of hits, without an intermediate rounding."""
        return 100 * int((self.predicted == self.actual).sum()) / len(self.actual)

    def metrics(self, split: str, class_names: list[str]) -> dict[str, float]:
        """The metrics by their names in W&B: "test/accuracy", …"""
        by_class = zip(class_names, self.accuracy_by_class, strict=True)
        return {
            f"{split}/loss": self.loss,
            f"{split}/accuracy": self.accuracy,
            f"{split}/f1_macro": self.f1_macro,
            f"{split}/ece": self.ece,
            **{f"{split}/accuracy_by_class/{name}": accuracy for name, accuracy in by_class},
        }


@dataclass(frozen=True)
class ReliabilityBins:
    """Images by the confidence of their prediction, in bins of equal width from 0 to 1.

    count: images of each bin. confidence, accuracy: their means, 0 for an empty bin.
    """

    count: list[int]
    confidence: list[float]
    accuracy: list[float]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean over images of |accuracy - confidence| of their bins."""
        bins = zip(self.count, self.confidence, self.accuracy, strict=True)
        total = sum(count * abs(accuracy - confidence) for count, confidence, accuracy in bins)
        return total / sum(self.count)


def evaluate(logits: Tensor, labels: Tensor) -> Evaluation:
    """Evaluate logits (N, K) against labels (N,) on the same device."""
    classes = logits.shape[1]
    logits = logits.float()
    # Counted on the CPU: Apple's GPUs, and some of Intel's, have no float64.
    confidence, predicted = (one.cpu() for one in logits.softmax(1).max(1))
    actual = labels.cpu()
    confusion = torch.bincount(actual * classes + predicted, minlength=classes**2).view(classes, classes)
    hits, images, predictions = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    f1_by_class = 2 * hits / (images + predictions)
    return Evaluation(
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=(predicted == actual).sum().item() / len(actual),
        f1_macro=f1_by_class.nanmean().item(),
        ece=_bins(confidence, predicted == actual).error,
        accuracy_by_class=(hits / images).tolist(),
        precision_by_class=(hits / predictions).tolist(),
        f1_by_class=f1_by_class.tolist(),
        images_by_class=images.tolist(),
        confusion=confusion,
        actual=actual,
        predicted=predicted,
        confidence=confidence,
    )


def reliability_bins(evaluation: Evaluation) -> ReliabilityBins:
    """The bins of the evaluation's `ece`: how often predictions of each confidence are right."""
    return _bins(evaluation.confidence, evaluation.predicted == evaluation.actual)


def _bins(confidence: Tensor, hits: Tensor) -> ReliabilityBins:
    """The bins of predictions by their confidence (N,); hits (N,) says which are right."""
    edges = torch.linspace(0, 1, ECE_BINS + 1)
    # A confidence of 1 or NaN would be behind the last bin.
    index = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=ECE_BINS - 1)
    count = torch.bincount(index, minlength=ECE_BINS)

    def mean(values: Tensor) -> list[float]:
        sums = torch.bincount(index, values.double(), minlength=ECE_BINS)
        return (sums / count).nan_to_num(0).tolist()

    return ReliabilityBins(count.tolist(), mean(confidence), mean(hits))


def confident_mistakes_first(evaluation: Evaluation, count: int) -> list[int]:
    """Indices of `count` images: mistakes before hits, the most confident first."""
    wrong = evaluation.predicted != evaluation.actual
    indices: list[int] = torch.argsort(wrong * 2 + evaluation.confidence, descending=True)[:count].tolist()
    return indices


def one_of_each_class(evaluation: Evaluation, seed: int) -> list[int]:
    """Index of one random image per class that has images, in the order of the classes."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(evaluation.actual), generator=generator)
    labels = evaluation.actual[shuffled]
    return [int(shuffled[labels == label][0]) for label in labels.unique().tolist()]


def right_and_wrong(evaluation: Evaluation, count: int, seed: int) -> list[int]:
    """Indices of `count` images: the most confident mistakes, then random hits, half each where possible."""
    wrong = evaluation.predicted != evaluation.actual
    mistakes, hits = wrong.nonzero().flatten(), (~wrong).nonzero().flatten()
    mistakes = mistakes[evaluation.confidence[mistakes].argsort(descending=True)]
    hits = hits[torch.randperm(len(hits), generator=torch.Generator().manual_seed(seed))]
    half = min(max((count + 1) // 2, count - len(hits)), len(mistakes))
    return [*mistakes[:half].tolist(), *hits[: count - half].tolist()]
