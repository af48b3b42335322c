"""A picture in any of the forms that Python code has: a path, an open file, a PIL image, an array."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wandb_tl.errors import one_line
from wandb_tl.pictures import decoding
from wandb_tl.pictures.decoding import UnreadablePictureError

# A picture: the path of its file, an open file, a PIL image, or an array of grey (H, W) or RGB (H, W, 3)
# values, with transparency (H, W, 4). Arrays are uint8; grey ones are also uint16, int32 or float32.
Picture = str | Path | BinaryIO | Image.Image | NDArray[np.generic]

GREY_TYPES = ("uint8", "uint16", "int32", "float32")


def open_any(picture: Picture) -> Image.Image:
    """The picture as a PIL image, upright. UnreadablePictureError if it cannot be read."""
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
