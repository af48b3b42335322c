"""The network of a trained model, computed as in the evaluation of its run."""

from __future__ import annotations

import torch
from torch import Tensor

from wandb_tl.config import RunConfig
from wandb_tl.pictures.framing import Framing
from wandb_tl.training import convolutions, devices, frozen_part, models
from wandb_tl.training.inputs import FrozenPart
from wandb_tl.training.memory import Parts
from wandb_tl.training.model_folder import TrainedModel


class RunNetwork:
    """Computes logits in the steps of the run, because another order of operations rounds differently.

    device: where it computes; by default on a GPU if there is one. batch_size: images per forward pass; by
    default as in the evaluation of the run.
    """

    def __init__(
        self, trained: TrainedModel, device: torch.device | None = None, batch_size: int | None = None
    ) -> None:
        self.device = device or devices.fastest()
        config = trained.description.config
        size = config.image_size
        self.batch_size = batch_size or devices.chunk_size(self.device, size)
        network = trained.network.to(self.device)
        self._preprocess = models.preprocess(network, size, self.device)
        precision = devices.resolve_precision(trained.description.precision, self.device)
        self._autocast = devices.make_autocast(self.device, precision)
        example = frozen_part.example_of(self._preprocess, size)
        halves = frozen_part.halves_of(config, network, example)
        parts = frozen_part.frozen_networks(config, network, halves, example) if halves else []
        self._frozen = [FrozenPart(part, self._autocast, self.batch_size, {}) for part in parts]
        self._trainable = (halves.trainable if halves else network).eval()
        self._memory = Parts("prediction")
        if self.device.type == "cpu":
            convolutions.train_on_cpu(self._trainable)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, K) in float32 of uint8 images (N, 3, size, size), at most batch_size of them."""

        def logits(parts: list[Tensor]) -> list[Tensor]:
            return [self._logits(part) for part in parts]

        return torch.cat(self._memory.run(logits, images))

    def _logits(self, images: Tensor) -> Tensor:
        values = self._preprocess(images)
        for part in self._frozen:
            values = part(values)
        with self._autocast():
            logits: Tensor = self._trainable(values).float()
        return logits


def framing(config: RunConfig) -> Framing:
    """How the pictures become squares: as in training.

    The images of a data set of small arrays are resized as a whole there, and never cropped.
    """
    if config.has_arrays:
        return Framing(config.image_size, "squash", interpolation="bilinear")
    return models.framing(config)
