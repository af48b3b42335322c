"""The optimizer of a run, and its learning rate by step."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler

from wandb_tl.config import RunConfig


def make_optimizer(config: RunConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer in its fused form. SGD and AdamW have weight decay; Adam has none."""
    if config.optimizer == "SGD":
        return torch.optim.SGD(
            parameters, config.lr, config.momentum, weight_decay=config.weight_decay, fused=True
        )
    if config.optimizer == "AdamW":
        return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay, fused=True)
    return torch.optim.Adam(parameters, config.lr, fused=True)


def make_schedule(config: RunConfig, optimizer: torch.optim.Optimizer, images: int) -> LRScheduler:
    """The learning rate by step: constant, or a half cosine down to zero over the run."""
    if config.scheduler == "cosine":
        return CosineAnnealingLR(optimizer, config.epochs * -(-images // config.batch_size))
    return ConstantLR(optimizer, factor=1.0)
