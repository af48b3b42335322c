"""The exact probe: multinomial logistic regression on a frozen network's features, and nearest neighbours.

Neither draws random numbers: the same features give the same answer. Both need the features of all images,
which the activation cache has.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Weights of the L2 penalty, from the strongest to the weakest; each fit starts from the one before.
PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(0, -11, -1))
# Steps of L-BFGS for one penalty at most.
STEPS = 100
# Where there are no validation images, every so many-th training image of a class chooses the penalty.
HELD_OUT = 5
# Neighbours that vote, and the temperature of their votes, as for DINO (arXiv 2104.14294, appendix F).
NEIGHBOURS, TEMPERATURE = 20, 0.07
# Images whose distances to all training images are computed at once.
CHUNK = 1024


@dataclass(frozen=True)
class Features:
    """What a classifier gets for images: rows (N, D) in float32, and their labels (N,)."""

    rows: Tensor
    labels: Tensor

    def part(self, index: Tensor) -> Features:
        return Features(self.rows[index], self.labels[index])


@dataclass(frozen=True)
class Probe:
    """A linear classifier: weight (K, D), bias (K,), and the penalty that it was fitted with."""

    weight: Tensor
    bias: Tensor
    penalty: float

    def logits(self, rows: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D)."""
        return F.linear(rows, self.weight, self.bias)


def fit(train: Features, val: Features | None, classes: int) -> Probe:
    """The classifier with the penalty that is best on the validation images.

    Without validation images, a fifth of the training images chooses it, and all of them are fitted.
    """
    if val is not None and len(val.labels):
        path = _path(train, classes, PENALTIES)
        return max(path, key=lambda probe: _quality(probe, val))
    place = _places_in_class(train.labels)
    is_held_out = place % HELD_OUT == HELD_OUT - 1
    if not is_held_out.any():
        # Too few images of each class: the middle of the path.
        return _path(train, classes, PENALTIES[: len(PENALTIES) // 2 + 1])[-1]
    path = _path(train.part(~is_held_out), classes, PENALTIES)
    best = max(path, key=lambda probe: _quality(probe, train.part(is_held_out)))
    return _path(train, classes, PENALTIES[: PENALTIES.index(best.penalty) + 1])[-1]


def knn_scores(train: Features, rows: Tensor, classes: int) -> Tensor:
    """For features (N, D) the votes (N, K) of the nearest training images, weighted by cosine similarity."""
    bank = F.normalize(train.rows, dim=1)
    count = min(NEIGHBOURS, len(bank))
    scores = torch.zeros(len(rows), classes, device=rows.device)
    for start in range(0, len(rows), CHUNK):
        similarity = F.normalize(rows[start : start + CHUNK], dim=1) @ bank.T
        nearest, index = similarity.topk(count, dim=1)
        votes = (nearest / TEMPERATURE).softmax(1)
        scores[start : start + CHUNK].scatter_add_(1, train.labels[index], votes)
    return scores


def _path(train: Features, classes: int, penalties: tuple[float, ...]) -> list[Probe]:
    """A classifier for each of the penalties, strongest first.

    The features are standardised for the fit: the penalty weighs them alike, and L-BFGS needs fewer steps.
    """
    mean, deviation = train.rows.mean(0), train.rows.std(0, correction=0)
    scale = torch.where(deviation > 0, 1 / deviation, 0)
    rows = (train.rows - mean) * scale
    weight = torch.zeros(classes, rows.shape[1], device=rows.device, requires_grad=True)
    bias = torch.zeros(classes, device=rows.device, requires_grad=True)
    probes = []
    for penalty in penalties:
        _minimize(weight, bias, rows, train.labels, penalty)
        scaled = weight.detach() * scale
        probes.append(Probe(scaled, bias.detach() - scaled @ mean, penalty))
    return probes


def _minimize(weight: Tensor, bias: Tensor, rows: Tensor, labels: Tensor, penalty: float) -> None:
    """Move weight and bias to the least mean cross-entropy plus penalty / 2 times the squared weights."""
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=STEPS,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(rows, weight, bias), labels) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type, unused-ignore]


def _quality(probe: Probe, images: Features) -> tuple[float, float]:
    """Accuracy, and of equal ones the lower loss."""
    logits = probe.logits(images.rows)
    hits = (logits.argmax(1) == images.labels).float().mean().item()
    return hits, -F.cross_entropy(logits, images.labels).item()


def _places_in_class(labels: Tensor) -> Tensor:
    """For each image (N,) how many images of its class come before it."""
    places = torch.zeros_like(labels)
    for label in labels.unique():
        index = (labels == label).nonzero().squeeze(1)
        places[index] = torch.arange(len(index), device=labels.device)
    return places
