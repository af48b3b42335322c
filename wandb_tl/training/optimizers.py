"""The optimizer of a run, and its learning rate by step."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim._param_groups import param_groups_layer_decay
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError


def make_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of the model's trainable weights, in its fused form.

    SGD and AdamW have weight decay; Adam has none. A probe uses no optimizer: it gets SGD, which is cheap.
    """
    parameters = parameter_groups(config, model)
    if config.optimizer == "AdamW":
        return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay, fused=True)
    if config.optimizer == "Adam":
        return torch.optim.Adam(parameters, config.lr, fused=True)
    # PyTorch's fused SGD fails where some weights get their first gradient later than others.
    fused = not config.head_epochs
    return torch.optim.SGD(
        parameters, config.lr, config.momentum, weight_decay=config.weight_decay, fused=fused
    )


def parameter_groups(config: RunConfig, model: nn.Module) -> list[Any]:
    """The trainable weights; with lr_decay a group for each layer, with its own learning rate.

    The layers are those that timm counts, from the stem to the classifier. InputError if timm does not define
    them for this model.
    """
    if not config.finetuning or config.lr_decay == 1:
        return [weight for weight in model.parameters() if weight.requires_grad]
    groups = param_groups_layer_decay(model, layer_decay=config.lr_decay)
    if len({group["lr_scale"] for group in groups}) == 1:
        raise InputError(f"lr_decay: timm does not define the layers of {config.model_name}")
    # timm's own schedules alone apply its lr_scale. It exempts biases from weight decay, which is another
    # choice than that of a learning rate.
    return [{"params": group["params"], "lr": config.lr * group["lr_scale"]} for group in groups]


def make_schedule(config: RunConfig, optimizer: torch.optim.Optimizer, images: int) -> LRScheduler:
    """The learning rate by step: constant, or a half cosine down to zero over the run, after the warm-up."""
    per_epoch = -(-images // config.batch_size)
    # Of few images, the warm-up may round up to the whole run.
    warmup = min(round(config.warmup_epochs * per_epoch), config.epochs * per_epoch - 1)
    schedule: LRScheduler
    if config.scheduler == "cosine":
        schedule = CosineAnnealingLR(optimizer, config.epochs * per_epoch - warmup)
    else:
        schedule = ConstantLR(optimizer, factor=1.0)
    if not warmup:
        return schedule
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, schedule], milestones=[warmup])
