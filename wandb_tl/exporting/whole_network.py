"""The network that is exported: from uint8 images to logits and calibrated probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wandb_tl.training import models
from wandb_tl.training.model_folder import TrainedModel
from wandb_tl.training.preprocess import grey


class WholeNetwork(nn.Module):
    """uint8 images (N, 3, size, size) -> logits (N, K) and probabilities (N, K), both float32, on the CPU.

    It contains the normalisation before the trained network, and the temperature after it. It is the plain
    network in float32, which is not cut into a frozen and a trainable half as in the run.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        size = trained.description.config.image_size
        preprocess = models.preprocess(trained.network, size, torch.device("cpu"))
        self.image_size, self.temperature = size, trained.description.temperature
        self.network = trained.network
        self.register_buffer("scale", preprocess.scale)
        self.register_buffer("shift", preprocess.shift)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(self.inputs(images))
        return logits, (logits / self.temperature).softmax(1)

    def inputs(self, images: Tensor) -> Tensor:
        """The normalised input of the trained network, float32 (N, D, size, size); D is 1 or 3."""
        pixels = images.float()
        if len(self.scale) == 1:
            # A model of one channel takes grey pictures.
            pixels = grey(pixels)
        return pixels * self.scale - self.shift
