"""A trained model that classifies pictures: reads and frames them, and turns logits into predictions."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wandb_tl.errors import InputError
from wandb_tl.pictures.colours import to_rgb
from wandb_tl.pictures.decoding import UnreadablePictureError
from wandb_tl.pictures.framing import Framing
from wandb_tl.pictures.opening import Picture, open_any
from wandb_tl.training.model_description import ModelDescription


@dataclass(frozen=True)
class Prediction:
    """What the model says about one picture.

    name: the path of the picture, or its number in the list. label: the most probable class, whose
    probability is between 0 and 1. probabilities: of all classes, the most probable one first, calibrated by
    the temperature of the model. problem: why the picture cannot be read; then label is "", probability NaN,
    and probabilities is empty.
    """

    name: str
    label: str = ""
    probability: float = math.nan
    probabilities: dict[str, float] = field(default_factory=dict)
    problem: str = ""


class Network(Protocol):
    """Computes logits (N, K) in float32 of uint8 images (N, 3, size, size), at most batch_size at a time."""

    batch_size: int

    def __call__(self, images: Tensor) -> Tensor: ...


class Classifier:
    """Classifies pictures: `classifier(["a.jpg", image, array])` gives a list of predictions.

    network: computes the logits. description: the hyperparameters of its run and the names of its classes.
    framing: how a picture becomes a square.
    """

    def __init__(self, network: Network, description: ModelDescription, framing: Framing) -> None:
        self.network, self.description = network, description
        self.class_names, self.batch_size = description.class_names, network.batch_size
        self._framing = framing

    def __call__(self, pictures: Picture | Iterable[Picture]) -> list[Prediction]:
        """A prediction for each picture, in their order; also for one that cannot be read."""
        alone = isinstance(pictures, str | Path | Image.Image) or hasattr(pictures, "read")
        if alone or (isinstance(pictures, np.ndarray) and pictures.ndim < 4):
            raise InputError("takes a list of pictures: [picture] for one")
        members: list[Picture] = list(pictures)  # type: ignore[arg-type]
        names = [
            str(one) if isinstance(one, str | Path) else str(number) for number, one in enumerate(members)
        ]
        return list(self.predict(members, names))

    def predict(self, pictures: Sequence[Picture], names: Sequence[str]) -> Iterator[Prediction]:
        """The predictions as they are computed, batch by batch. names: what each prediction is called."""
        starts = range(0, len(pictures), self.batch_size)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            # The next batch is decoded while the model computes this one.
            following = pool.map(self._read, pictures[: self.batch_size])
            for start in starts:
                decoded, stop = following, start + self.batch_size
                following = pool.map(self._read, pictures[stop : stop + self.batch_size])
                yield from self._classify(list(decoded), names[start:stop])

    def _classify(self, decoded: list[Tensor | str], names: Sequence[str]) -> Iterator[Prediction]:
        """Predictions for decoded pictures (3, size, size), and for the reasons why there are none."""
        readable = [entry for entry in decoded if isinstance(entry, Tensor)]
        if readable:
            probabilities = (self.network(torch.stack(readable)) / self.description.temperature).softmax(1)
            first = probabilities.max(1)
            order = probabilities.sort(dim=1, descending=True, stable=True)
            rows = zip(first.indices.tolist(), order.indices.tolist(), order.values.tolist(), strict=True)
        for name, entry in zip(names, decoded, strict=True):
            if isinstance(entry, str):
                yield Prediction(name, problem=entry)
                continue
            label, indices, values = next(rows)
            by_class = {self.class_names[index]: value for index, value in zip(indices, values, strict=True)}
            yield Prediction(name, self.class_names[label], values[0], by_class)

    def _read(self, picture: Picture) -> Tensor | str:
        """The framed picture as a uint8 tensor (3, size, size), or the reason why it cannot be read."""
        try:
            return torch.from_numpy(self._framing(to_rgb(open_any(picture), self.description.levels)))
        except UnreadablePictureError as error:
            return str(error)
