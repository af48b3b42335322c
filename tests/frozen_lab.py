"""Frozen parts of small models that count their images, and inputs computed by them."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.training import convolutions, cutting, models
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.datasets import Split
from wandb_tl.training.devices import Autocast
from wandb_tl.training.inputs import FrozenPart, Inputs
from wandb_tl.training.preprocess import Preprocess

CPU = torch.device("cpu")


class Counting(nn.Module):
    """A network that counts the images of each of its calls."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.images: list[int] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.images.append(len(pixels))
        return self.network(pixels)

    @property
    def computed(self) -> int:
        """All images but the one that tells the shape of the output."""
        return sum(self.images) - 1


def frozen_network(image_size: int = 32, seed: int = 0, **options) -> tuple[Counting, Preprocess]:
    """The frozen part of a model, folded, and its preprocessing."""
    options = {"model_name": "tf_efficientnet_lite0", "finetuning": True} | options
    model = models.build(RunConfig(image_size=image_size, seed=seed, **options), 10)
    preprocess = models.preprocess(model, image_size, CPU)
    example = preprocess(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
    return Counting(convolutions.fold_batch_norms(cutting.cut(model, example).frozen, example)), preprocess


def inputs_of(
    network: nn.Module,
    preprocess: Preprocess,
    split: Split,
    activations: ActivationCache,
    before: Inputs | None = None,
    autocast: Autocast = nullcontext,
    precision: str = "fp32",
) -> Inputs:
    """Inputs computed by a network, in batches of 50."""
    part = FrozenPart(network, autocast, 50, {"precision": precision})
    return Inputs(split, preprocess, part, activations, before)


def cached(
    split: Split,
    activations: ActivationCache,
    autocast: Autocast = nullcontext,
    precision: str = "fp32",
    **options,
) -> tuple[Inputs, int]:
    """The cached inputs of a new run with these options, and the number of images that it computed."""
    network, preprocess = frozen_network(**options)
    inputs = inputs_of(network, preprocess, split, activations, autocast=autocast, precision=precision)
    assert inputs.cache("test")
    return inputs, network.computed
