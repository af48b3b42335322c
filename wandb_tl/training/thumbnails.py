"""Pictures of a data set as a person sees them, for comparison and for contact sheets; without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wandb_tl.pictures.colours import GreyLevels
from wandb_tl.pictures.facts import Picture
from wandb_tl.pictures.framing import Framing
from wandb_tl.training import pixels
from wandb_tl.training.tensor_store import TensorStore

# A comparison takes the whole picture into account, at any aspect ratio.
FRAMING = Framing(64, "squash", 1.0, "bilinear")


def of_pictures(
    pictures: Sequence[Picture], levels: GreyLevels, store: TensorStore
) -> tuple[NDArray[np.uint8], dict[str, str]]:
    """Thumbnails (N, 72) of pictures, see framing.thumbnail, and why some are unreadable, by their digests.

    levels: how deep grey pictures are shown. store: where the decoded pictures are kept.
    """
    sources = [pixels.source_of(picture, levels) for picture in pictures]
    decoded = pixels.load(sources, FRAMING, store, "comparing pictures")
    return decoded.thumbnails.numpy(), pixels.problems(sources, decoded)


def square(picture: Picture, levels: GreyLevels, size: int) -> NDArray[np.uint8]:
    """The whole picture with a border, (3, size, size). UnreadablePictureError if its file has changed."""
    return Framing(size, "pad", 1.0, "bicubic")(pixels.source_of(picture, levels).open())
