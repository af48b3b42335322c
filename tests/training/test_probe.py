"""The exact probe: gradients at the minimum, what is chosen, and neighbours."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wandb_tl.training import probe
from wandb_tl.training.probe import Features


def clouds(count: int, seed: int, spread: float = 1.0) -> Features:
    """Three clouds of points in 8 dimensions, whose scales differ a thousandfold."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = torch.eye(8)[:3] * 3
    rows = centres[labels] + spread * torch.randn(count, 8, generator=generator)
    return Features(rows * torch.logspace(-2, 1, 8) + 5, labels)


def gradient(fitted: probe.Probe, train: Features) -> Tensor:
    """The gradient of the penalised loss in the standardised weights, where it is zero at the minimum."""
    mean, deviation = train.rows.mean(0), train.rows.std(0, correction=0)
    weight = (fitted.weight * deviation).double().requires_grad_()
    bias = (fitted.bias + fitted.weight @ mean).double().requires_grad_()
    rows = ((train.rows - mean) / deviation).double()
    loss = F.cross_entropy(F.linear(rows, weight, bias), train.labels)
    loss = loss + fitted.penalty / 2 * weight.square().sum()
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, [weight, bias])])


def test_each_classifier_is_the_minimum_of_its_penalised_loss() -> None:
    train = clouds(300, 0)
    for fitted in probe._path(train, 3, probe.PENALTIES):
        assert gradient(fitted, train).abs().max() < 2e-4, fitted.penalty


def test_the_penalty_is_the_best_on_validation_images_and_nothing_is_random() -> None:
    train, val = clouds(60, 0, spread=2.5), clouds(2000, 1, spread=2.5)
    fitted = probe.fit(train, val, 3)
    accuracies = [
        (one.logits(val.rows).argmax(1) == val.labels).float().mean().item()
        for one in probe._path(train, 3, probe.PENALTIES)
    ]
    best = (fitted.logits(val.rows).argmax(1) == val.labels).float().mean().item()
    assert best == max(accuracies) > min(accuracies)
    torch.manual_seed(5)
    again = probe.fit(train, val, 3)
    assert torch.equal(fitted.weight, again.weight) and torch.equal(fitted.bias, again.bias)


@pytest.mark.parametrize("count", [3, 300])
def test_without_validation_images_training_images_choose(count: int) -> None:
    fitted = probe.fit(clouds(count, 0), None, 3)
    assert fitted.penalty in probe.PENALTIES
    test = clouds(300, 1)
    assert (fitted.logits(test.rows).argmax(1) == test.labels).float().mean() > 0.4


def test_a_feature_that_never_changes_does_no_harm() -> None:
    train = clouds(90, 0)
    constant = Features(torch.cat([train.rows, torch.ones(90, 1)], 1), train.labels)
    fitted = probe.fit(constant, constant, 3)
    assert fitted.logits(constant.rows).isfinite().all() and fitted.weight[:, -1].abs().max() == 0


def test_neighbours_vote_by_their_similarity() -> None:
    train = Features(torch.eye(4), torch.tensor([0, 1, 2, 2]))
    scores = probe.knn_scores(train, torch.tensor([[0.9, 0.1, 0, 0], [0, 0, 1, 1.0]]), 3)
    assert scores.argmax(1).tolist() == [0, 2] and torch.allclose(scores.sum(1), torch.ones(2))
    votes = (F.normalize(torch.tensor([[0.9, 0.1, 0, 0]])) / probe.TEMPERATURE).softmax(1)[0]
    assert torch.allclose(scores[0], torch.stack([votes[0], votes[1], votes[2] + votes[3]]))
