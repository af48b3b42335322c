"""Logits -> plain data: metrics, confusion counts, and which images to show."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

# Bins of the expected calibration error, as in Guo et al., On Calibration of Modern Neural Networks, 2017.
ECE_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """What a model does on N labelled images of K classes. Tensors are on the CPU.

    loss: mean cross-entropy in nats; accuracy, f1_macro, ece: between 0 and 1; accuracy_by_class (K,), NaN
    for a class without images; confusion (K, K) counts, actual by predicted; actual, predicted (N,) class
    indices; confidence (N,) probability of the predicted class.
    """

    loss: float
    accuracy: float
    f1_macro: float
    ece: float
    accuracy_by_class: list[float]
    confusion: Tensor
    actual: Tensor
    predicted: Tensor
    confidence: Tensor

    def metrics(self, split: str, class_names: list[str]) -> dict[str, float]:
        """The scalars under the names that W&B shows: "test/accuracy", …"""
        by_class = zip(class_names, self.accuracy_by_class, strict=True)
        return {
            f"{split}/loss": self.loss,
            f"{split}/accuracy": self.accuracy,
            f"{split}/f1_macro": self.f1_macro,
            f"{split}/ece": self.ece,
            **{f"{split}/accuracy_by_class/{name}": accuracy for name, accuracy in by_class},
        }


def evaluate(logits: Tensor, labels: Tensor) -> Evaluation:
    """Judge logits (N, K) against labels (N,), both on one device."""
    classes = logits.shape[1]
    logits = logits.float()
    probabilities = logits.softmax(1)
    confidence, predicted = probabilities.max(1)
    confusion = multiclass_confusion_matrix(predicted, labels, classes)
    return Evaluation(
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=(predicted == labels).double().mean().item(),
        f1_macro=multiclass_f1_score(predicted, labels, classes, average="macro").item(),
        ece=multiclass_calibration_error(probabilities, labels, classes, n_bins=ECE_BINS).item(),
        accuracy_by_class=(confusion.diagonal() / confusion.sum(1)).tolist(),
        confusion=confusion.cpu(),
        actual=labels.cpu(),
        predicted=predicted.cpu(),
        confidence=confidence.cpu(),
    )


def confident_mistakes_first(evaluation: Evaluation, count: int) -> list[int]:
    """Indices of `count` images: mistakes before hits, the most confident first."""
    wrong = evaluation.predicted != evaluation.actual
    return torch.argsort(wrong * 2 + evaluation.confidence, descending=True)[:count].tolist()


def one_of_each_class(evaluation: Evaluation, seed: int) -> list[int]:
    """Index of one random image of each class that has images, in the order of the classes."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(evaluation.actual), generator=generator)
    labels = evaluation.actual[shuffled]
    return [int(shuffled[labels == label][0]) for label in labels.unique().tolist()]
