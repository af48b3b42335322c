"""The loss that training minimises, and how often each training image is drawn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wandb_tl.config import RunConfig


class Objective:
    """The mean cross-entropy of a batch, with the recipe's label smoothing and weights of classes.

    labels: of all training images (N,); they decide the weights.
    """

    def __init__(self, config: RunConfig, labels: Tensor, classes: int) -> None:
        self.classes = classes
        self._smoothing = config.label_smoothing
        self._weights = balanced(labels, classes) if config.class_balance == "loss" else None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss, a scalar, of logits (N, K) for class indices (N,) or probabilities (N, K).

        It is the mean over images, also where classes have weights: the parts of a batch add up to it.
        """
        if self._weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=self._smoothing)
        losses = F.cross_entropy(
            logits, targets, self._weights, reduction="none", label_smoothing=self._smoothing
        )
        return losses.mean()


def balanced(labels: Tensor, classes: int) -> Tensor:
    """A weight (K,) for each class, N / (K * its images), with which all classes count alike.

    The mean weight of the images is 1. A class without images has the weight 0.
    """
    images = torch.bincount(labels, minlength=classes)
    present = (images > 0).sum()
    return torch.where(images > 0, len(labels) / (present * images.clamp(min=1)), 0).float()


def draw_order(config: RunConfig, labels: Tensor, classes: int) -> Tensor:
    """The images (N,) of an epoch, by index and in random order, from torch's random numbers.

    With class_balance=sampling they are drawn with replacement, all classes equally often.
    """
    if config.class_balance == "sampling":
        return torch.multinomial(balanced(labels, classes)[labels], len(labels), replacement=True)
    return torch.randperm(len(labels), device=labels.device)
