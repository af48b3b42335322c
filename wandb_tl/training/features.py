"""The features of images: the input of a model's classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wandb_tl.progress import tqdm
from wandb_tl.training.datasets import Dataset, Split
from wandb_tl.training.devices import chunk_size
from wandb_tl.training.preprocess import Preprocess


@dataclass(frozen=True)
class LabelledPictures:
    """All N pictures of a data set, split by split.

    files: their names, or the split and the number of a picture that is not a file. splits: the name of the
    split of each. labels: class indices (N,). features: float (N, D).
    """

    parts: Sequence[Split]
    files: Sequence[str]
    splits: Sequence[str]
    labels: NDArray[np.int64]
    features: NDArray[np.float32]

    def image(self, index: int) -> Tensor:
        """The picture of an index, uint8 (C, H, W)."""
        for part in self.parts:
            if index < len(part):
                return part.images[index]
            index -= len(part)
        raise IndexError(index)


def of_dataset(model: nn.Module, data: Dataset, preprocess: Preprocess) -> LabelledPictures:
    """The pictures of all splits, and the features that the model gives them; see of_images."""
    splits = {"train": data.train, "val": data.val, "test": None if data.test_is_val else data.test}
    parts = {name: split for name, split in splits.items() if split is not None}
    return LabelledPictures(
        parts=list(parts.values()),
        files=[
            split.names[number] if split.names else f"{name} {number}"
            for name, split in parts.items()
            for number in range(len(split))
        ],
        splits=[name for name, split in parts.items() for _ in range(len(split))],
        labels=np.concatenate([split.labels.numpy() for split in parts.values()]),
        features=np.concatenate(
            [
                of_images(model, split.images, preprocess, f"features of {name} pictures")
                for name, split in parts.items()
            ]
        ),
    )


def of_images(model: nn.Module, images: Tensor, preprocess: Preprocess, title: str) -> NDArray[np.float32]:
    """Features (N, D) of uint8 images (N, C, H, W), by a timm model in eval mode on the device of preprocess.

    title: of the progress bar.
    """
    timm_model: Any = model
    parts = []
    size = chunk_size(preprocess.device, preprocess.size)
    with (
        torch.inference_mode(),
        tqdm(total=len(images), desc=title, unit="img", leave=False) as progress,
    ):
        for start in range(0, len(images), size):
            inputs = preprocess(images[start : start + size])
            outputs = timm_model.forward_head(timm_model.forward_features(inputs), pre_logits=True)
            parts.append(outputs.flatten(1).float().cpu().numpy())
            progress.update(len(inputs))
    return np.concatenate(parts)
