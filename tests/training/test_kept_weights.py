"""Moving averages, the best epoch, and when training ends."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.training.kept_weights import BestEpoch, MovingAverage, best_place, is_over


def test_the_average_is_the_exponential_one_and_comes_back_from_a_checkpoint() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average, expected = MovingAverage(module, 0.9), None
    for step in range(5):
        with torch.no_grad():
            for tensor in (*module.parameters(), module[1].running_mean):
                tensor.fill_(step)
        average.update()
        expected = step if expected is None else 0.9 * expected + 0.1 * step
    resumed = MovingAverage(copy.deepcopy(module), 0.9)
    resumed.load_state_dict(copy.deepcopy(average.state_dict()))
    for one in (average, resumed):
        own = copy.deepcopy(one._module.state_dict())
        with one.in_place():
            assert one._module[0].weight.flatten().tolist() == pytest.approx([expected] * 4)
            assert one._module[1].running_mean.tolist() == pytest.approx([expected] * 2)
        assert all(torch.equal(value, own[name]) for name, value in one._module.state_dict().items())


def rows(*accuracies: float, loss: float = 1.0) -> list[dict[str, float]]:
    return [{"val/accuracy": accuracy, "val/loss": loss - i / 100} for i, accuracy in enumerate(accuracies)]


def test_the_best_epoch_keeps_its_weights() -> None:
    module = nn.Linear(1, 1)
    best, seen = BestEpoch(module), []
    for accuracy in (0.5, 0.8, 0.7):
        nn.init.constant_(module.weight, accuracy)
        seen.append(accuracy)
        best.consider(rows(*seen))
    resumed = BestEpoch(module)
    resumed.load_state_dict(best.state_dict())
    resumed.apply()
    assert resumed.epoch == 2 and module.weight.item() == pytest.approx(0.8)


def test_of_equal_accuracies_the_lower_loss_is_better() -> None:
    assert best_place(rows(0.5, 0.8, 0.8)) == 2


@pytest.mark.parametrize(
    ("accuracies", "over"),
    [((), False), ((0.5,), False), ((0.5, 0.4), False), ((0.5, 0.4, 0.4), True), ((0.1, 0.2, 0.3), False)],
)
def test_training_ends_when_patience_does(accuracies: tuple[float, ...], over: bool) -> None:
    config = RunConfig(epochs=9, patience=2, val_fraction=0.2)
    assert is_over(config, rows(*accuracies)) == over
    assert not is_over(RunConfig(epochs=9), rows(*accuracies))
    assert is_over(RunConfig(epochs=1), rows(*accuracies)) == bool(accuracies)


def test_patience_begins_when_the_stages_open() -> None:
    config = RunConfig(epochs=9, patience=2, finetuning=True, head_epochs=4)
    assert not is_over(config, rows(0.5, 0.4, 0.4, 0.4, 0.4)) and is_over(config, rows(0.5, *[0.4] * 5))
