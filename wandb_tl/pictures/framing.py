"""Brings RGB pictures of any shape to the square that a model expects, and to thumbnails for comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RESIZES = ("crop", "squash", "pad")

# The border of a padded picture: the mean colour of ImageNet. A model's normalisation turns it into values
# near 0, which is also what convolutions pad with. White or black would be an edge that a model reacts to.
BORDER = (124, 116, 104)

# Beyond this ratio of its sides, a picture is not scaled as a whole before the crop: 1 x 30,000 pixels would
# become gigabytes. Only the part that the crop shows is scaled, which rounds a little differently.
LONGEST = 16

THUMBNAIL_ROWS, THUMBNAIL_COLUMNS = 8, 9
THUMBNAIL_BYTES = THUMBNAIL_ROWS * THUMBNAIL_COLUMNS


@dataclass(frozen=True)
class Framing:
    """RGB picture -> uint8 array (3, size, size).

    size: the side in pixels. resize: "crop" scales the shorter side to size / crop_fraction and takes the
    centre, as timm does for evaluation; "squash" scales both sides to size; "pad" scales the longer side to
    size and adds a border. interpolation: Pillow's name in lower case ("bilinear", "bicubic", ...); all but
    "nearest" are antialiased.
    """

    size: int
    resize: str = "crop"
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ValueError(f"resize: {self.resize!r} is not one of {', '.join(RESIZES)}")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction: {self.crop_fraction} is not above 0 and at most 1")
        if self.interpolation.upper() not in Image.Resampling.__members__:
            raise ValueError(f"interpolation: {self.interpolation!r} is not a filter of Pillow")

    def __call__(self, rgb: Image.Image) -> NDArray[np.uint8]:
        if self.resize == "crop":
            framed = self._cropped(rgb)
        elif self.resize == "squash":
            framed = rgb.resize((self.size, self.size), self._filter)
        else:
            framed = self._padded(rgb)
        return np.ascontiguousarray(np.asarray(framed).transpose(2, 0, 1))

    @property
    def _filter(self) -> Image.Resampling:
        return Image.Resampling[self.interpolation.upper()]

    def _cropped(self, rgb: Image.Image) -> Image.Image:
        """The centre of the scaled picture, with the roundings of torchvision's Resize and CenterCrop."""
        width, height = rgb.size
        shorter = math.floor(self.size / self.crop_fraction)
        scaled_width = max(shorter, int(shorter * width / height))
        scaled_height = max(shorter, int(shorter * height / width))
        left, top = round((scaled_width - self.size) / 2), round((scaled_height - self.size) / 2)
        right, bottom = left + self.size, top + self.size
        if max(scaled_width, scaled_height) <= LONGEST * shorter:
            return rgb.resize((scaled_width, scaled_height), self._filter).crop((left, top, right, bottom))
        across, down = width / scaled_width, height / scaled_height
        box = left * across, top * down, min(width, right * across), min(height, bottom * down)
        return rgb.resize((self.size, self.size), self._filter, box=box)

    def _padded(self, rgb: Image.Image) -> Image.Image:
        framed = Image.new("RGB", (self.size, self.size), BORDER)
        width, height = _fitted(rgb.size, self.size)
        corner = (self.size - width) // 2, (self.size - height) // 2
        framed.paste(rgb.resize((width, height), self._filter), corner)
        return framed


def _fitted(picture: tuple[int, int], size: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side becomes `size`."""
    longer = max(picture)
    width, height = (max(1, round(side * size / longer)) for side in picture)
    return width, height


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A framed picture (3, size, size) as the grey means of 8 rows and 9 columns: uint8 (72,), row by row.

    Two pictures that look the same have similar thumbnails, even if their files differ.
    """
    shape = (THUMBNAIL_COLUMNS, THUMBNAIL_ROWS)
    red, green, blue = (
        np.asarray(Image.fromarray(channel).resize(shape, Image.Resampling.BOX)).astype(np.uint32)
        for channel in np.ascontiguousarray(pixels)
    )
    # The weights of the eye in thousandths, in whole numbers so that all machines agree.
    grey = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return grey.astype(np.uint8).reshape(-1)
