"""Learning rates by step and by layer, against what torch and timm compute."""

from __future__ import annotations

import math

import pytest
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import models
from wandb_tl.training.optimizers import make_optimizer, make_schedule


def rates(epochs: int, images: int, **options) -> list[float]:
    """The learning rate of every step of a run."""
    config = RunConfig(epochs=epochs, **options)
    optimizer = make_optimizer(config, nn.Linear(2, 2))
    schedule = make_schedule(config, optimizer, images)
    steps = []
    for _ in range(epochs * -(-images // config.batch_size)):
        steps.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return steps


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "AdamW"])
def test_the_rate_rises_and_the_schedule_follows(optimizer: str) -> None:
    # Five steps an epoch: eight of warm-up, and twelve of the schedule.
    constant = rates(4, 300, lr=0.9, warmup_epochs=1.6, optimizer=optimizer)
    rise = [0.9 * step / 9 for step in range(1, 9)]
    assert constant == pytest.approx([*rise, *[0.9] * 12])
    cosine = rates(4, 300, lr=0.9, warmup_epochs=1.6, scheduler="cosine", optimizer=optimizer)
    fall = [0.45 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
    assert cosine == pytest.approx([*rise, *fall])


def test_a_warmup_leaves_a_step_to_the_schedule() -> None:
    assert rates(1, 100, lr=0.9, warmup_epochs=0.8, scheduler="cosine") == pytest.approx([0.45, 0.9])


def test_without_a_warmup_the_schedule_is_as_it_was() -> None:
    weight = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(weight.parameters(), 0.001)
    expected = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for rate in rates(2, 300, scheduler="cosine"):
        assert rate == float(expected.get_last_lr()[0])
        optimizer.step()
        expected.step()


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("unfreeze", ["last_stage", "all"])
def test_each_layer_has_the_rate_that_timm_scales_it_to(name: str, unfreeze: str) -> None:
    options = {"model_name": name, "pretrained": False, "image_size": 64, "unfreeze": unfreeze}
    config = RunConfig(finetuning=True, lr=0.02, lr_decay=0.7, **options)
    model = models.build(config, 10)
    optimizer = make_optimizer(config, model)
    own = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    expected = {
        id(weight): 0.02 * group["lr_scale"]
        for group in param_groups_layer_decay(model, layer_decay=0.7)
        for weight in group["params"]
    }
    assert own == pytest.approx(expected)
    assert set(own) == {id(weight) for weight in model.parameters() if weight.requires_grad}
    assert {own[id(weight)] for weight in model.get_classifier().parameters()} == {0.02}
    assert len(set(own.values())) > (5 if unfreeze == "all" and name != "test_resnet" else 1)


def test_a_network_whose_layers_timm_does_not_know_is_refused() -> None:
    plain = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"^lr_decay: timm does not define the layers of resnet50"):
        make_optimizer(RunConfig(finetuning=True, lr_decay=0.5), plain)
