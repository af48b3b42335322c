"""The loss against torch's own, and how often images are drawn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wandb_tl.config import RunConfig
from wandb_tl.training.objective import Objective, balanced, draw_order

LABELS = torch.tensor([0] * 60 + [1] * 30 + [3] * 10)
LOGITS = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_torch(smoothing: float) -> None:
    plain = Objective(RunConfig(label_smoothing=smoothing), LABELS, 4)
    expected = F.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)
    assert torch.equal(plain(LOGITS, LABELS), expected)
    targets = F.one_hot(LABELS, 4).float()
    torch.testing.assert_close(plain(LOGITS, targets), expected)


def test_weights_of_classes_count_all_classes_alike() -> None:
    weights = balanced(LABELS, 4)
    assert weights.tolist() == pytest.approx([100 / 180, 100 / 90, 0, 100 / 30])
    weighted = Objective(RunConfig(class_balance="loss"), LABELS, 4)
    by_class = [F.cross_entropy(LOGITS[label == LABELS], LABELS[label == LABELS]) for label in (0, 1, 3)]
    torch.testing.assert_close(weighted(LOGITS, LABELS), torch.stack(by_class).mean())
    # Of the whole set, torch's mean over weights is the same; parts of a batch add up only with this one.
    torch.testing.assert_close(weighted(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, weights))
    halves = torch.stack([weighted(LOGITS[part], LABELS[part]) for part in (slice(50), slice(50, 100))])
    torch.testing.assert_close(halves.mean(), weighted(LOGITS, LABELS))


def test_rare_classes_are_drawn_as_often_as_others() -> None:
    torch.manual_seed(0)
    order = draw_order(RunConfig(), LABELS, 4)
    assert sorted(order.tolist()) == list(range(100))
    drawn = torch.cat([LABELS[draw_order(RunConfig(class_balance="sampling"), LABELS, 4)] for _ in range(90)])
    counts = torch.bincount(drawn, minlength=4)
    # 3,000 are expected of each, with a standard deviation of 45.
    assert counts[2] == 0 and (counts[[0, 1, 3]] - 3000).abs().max() < 250
