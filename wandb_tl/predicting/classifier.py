"""A trained model that classifies pictures, computed as in the evaluation of its run."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from wandb_tl.config import ARRAY_DATASETS, RunConfig
from wandb_tl.errors import InputError, one_line
from wandb_tl.pictures import decoding
from wandb_tl.pictures.colours import to_rgb
from wandb_tl.pictures.decoding import UnreadablePictureError
from wandb_tl.pictures.framing import Framing
from wandb_tl.training import convolutions, devices, frozen_part, models
from wandb_tl.training.inputs import FrozenPart
from wandb_tl.training.model_folder import TrainedModel

# A picture: the path of its file, an open file, a PIL image, or an array of grey (H, W) or RGB (H, W, 3)
# values, with transparency (H, W, 4). Arrays are uint8; grey ones are also uint16, int32 or float32.
Picture = str | Path | BinaryIO | Image.Image | NDArray[np.generic]

GREY_TYPES = ("uint8", "uint16", "int32", "float32")


@dataclass(frozen=True)
class Prediction:
    """What the model says about one picture.

    name: the path of the picture, or its number in the list. label: the most probable class, whose
    probability is between 0 and 1. probabilities: of all classes, the most probable one first. problem: why
    the picture cannot be read; then label is "", probability NaN, and probabilities is empty.
    """

    name: str
    label: str = ""
    probability: float = math.nan
    probabilities: dict[str, float] = field(default_factory=dict)
    problem: str = ""


class Classifier:
    """Classifies pictures: `classifier(["a.jpg", image, array])` gives a list of predictions.

    trained: the model, with the hyperparameters of its run and the names of its classes. device: where it
    computes; by default on a GPU if there is one. batch_size: pictures per forward pass; by default as in the
    evaluation of the run.
    """

    def __init__(
        self, trained: TrainedModel, device: torch.device | None = None, batch_size: int | None = None
    ) -> None:
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.trained, self.class_names = trained, trained.class_names
        config, size = trained.config, trained.config.image_size
        self.batch_size = batch_size or devices.chunk_size(self.device, size)
        self._levels = trained.levels
        self._framing = framing(config)
        network = trained.network.to(self.device)
        self._preprocess = models.preprocess(network, size, self.device)
        precision = devices.resolve_precision(trained.precision, self.device)
        self._autocast = devices.make_autocast(self.device, precision)
        # The same steps as in the run, because another order of operations rounds differently.
        noise = torch.randint(256, (2, 3, size, size), generator=torch.Generator().manual_seed(0))
        example = self._preprocess(noise.to(torch.uint8))
        halves = frozen_part.halves_of(config, network, example)
        parts = frozen_part.frozen_networks(config, network, halves, example) if halves else []
        self._frozen = [FrozenPart(part, self._autocast, self.batch_size, {}) for part in parts]
        self._trainable = (halves.trainable if halves else network).eval()
        if self.device.type == "cpu":
            convolutions.train_on_cpu(self._trainable)

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
            probabilities = self._logits(torch.stack(readable)).softmax(1)
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

    @torch.inference_mode()
    def _logits(self, images: Tensor) -> Tensor:
        """Logits (N, K) in float32 of uint8 images (N, 3, size, size)."""
        values = self._preprocess(images)
        for part in self._frozen:
            values = part(values)
        with self._autocast():
            logits: Tensor = self._trainable(values).float()
        return logits

    def _read(self, picture: Picture) -> Tensor | str:
        """The framed picture as a uint8 tensor (3, size, size), or the reason why it cannot be read."""
        try:
            return torch.from_numpy(self._framing(to_rgb(_opened(picture), self._levels)))
        except UnreadablePictureError as error:
            return str(error)


def framing(config: RunConfig) -> Framing:
    """How the pictures become squares: as in training.

    The images of a data set of small arrays are resized as a whole there, and never cropped.
    """
    if config.dataset in ARRAY_DATASETS:
        return Framing(config.image_size, "squash", interpolation="bilinear")
    return models.framing(config)


def _opened(picture: Picture) -> Image.Image:
    """The picture, upright. UnreadablePictureError if it cannot be read."""
    if isinstance(picture, str | Path):
        return decoding.open_picture(Path(picture).expanduser())
    if isinstance(picture, Image.Image):
        return _upright(picture)
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    if hasattr(picture, "read"):
        return decoding.open_picture(io.BytesIO(picture.read()))
    raise UnreadablePictureError(f"{type(picture).__name__}: takes a path, a PIL image or an array")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:
        # An image that has not been decoded yet raises almost every exception there is.
        raise UnreadablePictureError(one_line(error)) from error


def _from_array(values: NDArray[np.generic]) -> Image.Image:
    kind = values.dtype.name
    is_grey = values.ndim == 2 and kind in GREY_TYPES
    is_colour = values.ndim == 3 and values.shape[2] in (3, 4) and kind == "uint8"
    if not (is_grey or is_colour) or not values.size:
        raise UnreadablePictureError(
            f"array of {kind} {values.shape}: takes uint8 (H, W, 3) or (H, W, 4), or grey (H, W) of "
            f"{', '.join(GREY_TYPES)}"
        )
    return Image.fromarray(np.ascontiguousarray(values))
