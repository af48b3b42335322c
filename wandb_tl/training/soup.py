"""A soup: the mean of the weights of trained models, which computes as fast as one of them.

The greedy soup of Wortsman et al., Model soups, 2022 (arXiv 2203.05482). The mean of two models is a good one
only if both have been trained from the same weights; analysis/ingredients.py decides which ones have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from wandb_tl.training import devices, frozen_part, model_folder, trainer
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.calibration import CALIBRATION_BATCH
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.memory import Parts
from wandb_tl.training.model_folder import TrainedModel

Ingredient = TypeVar("Ingredient")
Tensors = Mapping[str, Tensor]

# For the BatchNorm statistics of a mean.
STATISTICS_IMAGES = 8192


@dataclass(frozen=True)
class Total:
    """The sum of the tensors of `count` models, by name, of which `mean` gives the soup.

    sums: in float64, so that the order of the models rounds nothing. first: the tensors of the first model,
    which gives the soup its types, and those tensors that are not numbers with a fraction, such as counts.
    """

    sums: Tensors
    first: Tensors
    count: int = 1

    @classmethod
    def of(cls, tensors: Tensors) -> Total:
        """The total of one model."""
        fractions = {name: one.double() for name, one in tensors.items() if one.is_floating_point()}
        return cls(fractions, tensors)

    def plus(self, other: Total) -> Total:
        """The total of the models of both, which have tensors of the same names and shapes."""
        sums = {name: one + other.sums[name] for name, one in self.sums.items()}
        return Total(sums, self.first, self.count + other.count)

    def mean(self) -> dict[str, Tensor]:
        """The mean of each tensor. A tensor that is equal in all models stays the same bit for bit."""
        means = {name: (one / self.count).to(self.first[name].dtype) for name, one in self.sums.items()}
        return dict(self.first) | means


@dataclass(frozen=True)
class Attempt(Generic[Ingredient]):
    """A model that was tried as an ingredient.

    hits: validation images that the mean of it and the ingredients before it gets right. added: whether it
    became an ingredient, as it does if these are not fewer than without it.
    """

    ingredient: Ingredient
    hits: int
    added: bool


def greedy(
    best_first: Sequence[Ingredient],
    read: Callable[[Ingredient], Total],
    hits: Callable[[Total], int],
    tell: Callable[[Attempt[Ingredient]], None] = lambda _: None,
) -> tuple[Total, list[Attempt[Ingredient]]]:
    """The soup of models, at least one, that starts with the first and never gets fewer hits than it.

    read: gives the total of one model. hits: how many validation images a mean gets right. tell: called with
    each attempt. Returns the total, and all attempts.
    """
    total, most = None, 0
    attempts = []
    for ingredient in best_first:
        own = read(ingredient)
        more = own if total is None else total.plus(own)
        count = hits(more)
        one = Attempt(ingredient, count, added=total is None or count >= most)
        if one.added:
            total, most = more, count
        tell(one)
        attempts.append(one)
    assert total is not None, "at least one model"
    return total, attempts


class MeanEvaluator:
    """Evaluates means of models of one network on what its frozen part gives for the images, computed once.

    trained: one of the models, whose network the means are loaded into. averaged: names of the tensors that
    the runs have trained. inputs: of the layers behind the frozen part, by split.
    """

    def __init__(
        self, trained: TrainedModel, data: Dataset, device: torch.device, activations: ActivationCache
    ) -> None:
        # Without augmentation, the inputs are computed once.
        self.config = dataclasses.replace(trained.description.config, augment="none")
        self.description = trained.description
        self.network = trained.network.to(device)
        self.precision = devices.resolve_precision(trained.description.precision, device)
        self._autocast = devices.make_autocast(device, self.precision)
        self._chunk, self._memory = devices.chunk_size(device, self.config.image_size), Parts("evaluation")
        self._trainable, self.inputs = frozen_part.freeze_and_cache(
            self.config, data, self.network, device, self.precision, activations, is_trained=True
        )
        behind = {id(tensor) for tensor in self._trainable.state_dict(keep_vars=True).values()}
        state = self.network.state_dict(keep_vars=True)
        saved = model_folder.trained_tensors(self.network, self.config)
        self.averaged = [name for name in saved if id(state[name]) in behind]

    def read(self, folder: Path) -> Total:
        """The model in a folder, as a mean of one."""
        tensors = model_folder.read_tensors(folder)
        return Total.of({name: tensors[name] for name in self.averaged})

    def fits(self, folder: Path) -> bool:
        """Whether the model in a folder has the frozen weights of the network, and all that are averaged."""
        tensors, description = model_folder.read_tensors(folder), model_folder.read_description(folder)
        state = self.network.state_dict()
        frozen = [name for name in tensors if name not in self.averaged]
        return (
            tensors.keys() >= set(self.averaged)
            and all(name in state and tensors[name].equal(state[name].cpu()) for name in frozen)
            and model_folder.has_trunk_of(description, self.network, tensors)
        )

    def load(self, total: Total) -> int:
        """Load a mean into the network; returns how many validation images it gets right then.

        The statistics of BatchNorm layers belong to the weights before them, and those of the mean of several
        models have never been seen in training. Where they get more validation images right than the mean of
        the models' statistics, they are estimated on training images.
        """
        mean = total.mean()
        self.network.load_state_dict(mean, strict=False)
        hits = self._hits()
        if total.count > 1 and self._norms:
            self._estimate_statistics()
            estimated = self._hits()
            if estimated > hits:
                return estimated
            self.network.load_state_dict(mean, strict=False)
        return hits

    def logits(self, split: str) -> Tensor:
        """Logits (N, K) in float32 of all images of a split, by the mean that is loaded."""
        self._trainable.eval()
        return trainer.predict(self._trainable, self.inputs[split], self._chunk, self._autocast, self._memory)

    def _hits(self) -> int:
        return int((self.logits("val").argmax(1) == self.inputs["val"].labels).sum())

    @cached_property
    def _norms(self) -> list[_BatchNorm]:
        """The BatchNorm layers whose statistics the runs have changed."""
        all_change = self.config.norm_in_effect == "batch"
        return [
            module
            for module in self._trainable.modules()
            if isinstance(module, _BatchNorm)
            and module.track_running_stats
            and (all_change or any(weight.requires_grad for weight in module.parameters()))
        ]

    @torch.no_grad()
    def _estimate_statistics(self) -> None:
        """Set the statistics of the trained BatchNorm layers to the mean over batches of training images."""
        self._trainable.eval()
        momenta = [norm.momentum for norm in self._norms]
        for norm in self._norms:
            norm.reset_running_stats()
            # All batches have the same weight.
            norm.momentum = None
            norm.train()
        inputs = self.inputs["train"]
        # The images may be in the order of their classes.
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
        with self._autocast():
            for index in trainer.split_batches(order[:STATISTICS_IMAGES], CALIBRATION_BATCH):
                self._trainable(inputs.batch(index.to(inputs.labels.device)))
        for norm, momentum in zip(self._norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
