"""Labelled images before they become tensors: where they come from, and which of them a run uses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from wandb_tl.config import RunConfig
from wandb_tl.pictures import splitting
from wandb_tl.training.pixels import Source


@dataclass(frozen=True)
class LabelledImages:
    """The N images of a split.

    labels: class indices. digests: of the content of each image. images: uint8 (N, C, H, W), or `sources` to
    decode them from. names: what tables call each image; empty if they have only numbers.
    """

    labels: Sequence[int]
    digests: Sequence[str]
    images: Tensor | None = None
    sources: Sequence[Source] = ()
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int]) -> LabelledImages:
        """The images at the indices, in this order."""
        return LabelledImages(
            labels=[self.labels[index] for index in indices],
            digests=[self.digests[index] for index in indices],
            images=None if self.images is None else self.images[indices],
            sources=[self.sources[index] for index in indices] if self.sources else (),
            names=[self.names[index] for index in indices] if self.names else (),
        )


def of_arrays(images: Tensor, labels: Tensor) -> LabelledImages:
    """Images (N, C, H, W) and labels (N,) that are in memory."""
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images.numpy()]
    return LabelledImages(labels.tolist(), digests, images)


def with_missing_splits(
    config: RunConfig, splits: Mapping[str, LabelledImages]
) -> tuple[dict[str, LabelledImages], list[str]]:
    """The splits with those that are missing held out of "train", and a sentence about each new one."""
    train = splits["train"]
    parts, notes = splitting.divide(
        train.digests, train.labels, splits, config.val_fraction, config.test_fraction, config.fold_of
    )
    return dict(splits) | {name: train.take(indices) for name, indices in parts.items()}, notes


def within_limits(config: RunConfig, splits: Mapping[str, LabelledImages]) -> dict[str, LabelledImages]:
    """The images that a run uses of each split, the same ones for every seed.

    Training images come in random order, which calibration needs. Test images keep theirs.
    """
    train, test = splits["train"], splits["test"]
    first = splitting.limit(train.digests, train.labels, config.train_limit, "train_limit")
    tested = sorted(splitting.limit(test.digests, test.labels, config.test_limit, "test_limit"))
    return dict(splits) | {"train": train.take(first), "test": test.take(tested)}
