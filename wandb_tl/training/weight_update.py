"""A step of training: the gradients of a batch of images, and the update of the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.training import distributed
from wandb_tl.training.accumulation import TrainingStep

# Adds the gradients of the images at the indices (N,), augmented in this way; returns their loss and hits.
Compute = Callable[[Tensor, str], tuple[Tensor, Tensor]]


class WeightUpdate:
    """Updates the weights with a batch of training images.

    gradients: computes those of the batch, or of this process's share of it.
    """

    def __init__(
        self,
        config: RunConfig,
        gradients: TrainingStep,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self._augment, self._clip = config.augment, config.clip_grad
        self._gradients, self._optimizer, self._scaler = gradients, optimizer, scaler

    def __call__(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Update the weights with the images at the indices (N,).

        Returns the sum of the losses and the number of hits of this process's share; see TrainingStep. The
        gradients stay in the weights until the next update.
        """
        return self._update(batch, self._gradients)

    def whole(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The same for a batch that fits the memory; otherwise torch.OutOfMemoryError."""
        return self._update(batch, self._gradients.whole)

    def _update(self, batch: Tensor, compute: Compute) -> tuple[Tensor, Tensor]:
        index = distributed.share(batch)
        self._optimizer.zero_grad(set_to_none=True)
        if len(index):
            loss, hits = compute(index, self._augment)
        else:
            loss, hits = torch.zeros(2, device=batch.device)
        distributed.sum_gradients(self._optimizer, len(index) / len(batch))
        if self._clip:
            self._scaler.unscale_(self._optimizer)
            weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
            nn.utils.clip_grad_norm_(weights, self._clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss * len(index), hits
