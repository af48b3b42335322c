"""Any picture as RGB, as a person sees it: transparency over white, deep grey values scaled, inks converted.

A grey picture of more than 8 bits says nothing about which value is white. One pair of values for the whole
data set decides it, because a pair per picture would erase the difference between dark and light classes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from wandb_tl.errors import one_line
from wandb_tl.pictures.decoding import UnreadablePictureError

# Grey of more than 8 bits: integers, and floats.
DEEP_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N", "F"}

# The white of cameras and scanners: 8, 10, 12, 14 and 16 bits.
INTEGER_WHITES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)

# Values of a picture that are scaled at once, so that the intermediate results stay small.
BLOCK = 1 << 20


class GreyExtremes(NamedTuple):
    """The smallest and the largest value of a grey picture of more than 8 bits; whether it stores floats."""

    floating: bool
    smallest: float
    largest: float


@dataclass(frozen=True)
class GreyLevels:
    """The values that are shown as black and as white, in integer and in floating-point grey pictures."""

    integer: tuple[float, float] = (0.0, 65535.0)
    floating: tuple[float, float] = (0.0, 1.0)


def grey_extremes(image: Image.Image) -> GreyExtremes | None:
    """The smallest and the largest value of a picture whose mode is in DEEP_MODES; None for others.

    Infinite values, NaN and the transparent value do not count. UnreadablePictureError if nothing is left.
    """
    if image.mode not in DEEP_MODES:
        return None
    values = np.asarray(image)
    if (transparent := _transparent_value(image)) is not None:
        values = values[values != transparent]
    if image.mode == "F":
        values = values[np.isfinite(values)]
    if not values.size:
        raise UnreadablePictureError("no finite or opaque pixel")
    return GreyExtremes(image.mode == "F", float(values.min()), float(values.max()))


def grey_levels(extremes: Iterable[GreyExtremes]) -> GreyLevels:
    """What is shown as black and as white in a data set whose deep grey pictures have these extremes.

    No value is clipped. Black is 0. If there are negative values, it is the negative power of two that covers
    them: -1000 gives -1024. White is the smallest of 255, 1023, 4095, 16383, 65535, 2**17 - 1, 2**18 - 1, ...
    that covers all integer pictures: data of 12 bits in files of 16 use the whole range. For floating-point
    pictures it is the smallest of ..., 0.25, 0.5, 1, 3, 7, ..., 255, 511, .... The steps lie apart so that a
    new picture in the data set seldom changes all others.
    """
    entries = list(extremes)
    integer = [entry for entry in entries if not entry.floating]
    floating = [entry for entry in entries if entry.floating]
    levels = GreyLevels()
    return GreyLevels(
        (_black(integer), _integer_white(integer)) if integer else levels.integer,
        (_black(floating), _floating_white(floating)) if floating else levels.floating,
    )


def _black(extremes: list[GreyExtremes]) -> float:
    smallest = min(entry.smallest for entry in extremes)
    return -(2.0 ** math.ceil(math.log2(-smallest))) if smallest < 0 else 0.0


def _integer_white(extremes: list[GreyExtremes]) -> float:
    largest = max(entry.largest for entry in extremes)
    for white in INTEGER_WHITES:
        if largest <= white:
            return white
    return 2.0 ** int(largest).bit_length() - 1


def _floating_white(extremes: list[GreyExtremes]) -> float:
    largest = max(entry.largest for entry in extremes)
    if largest <= 0:
        return 1.0
    if largest <= 1:
        return 2.0 ** math.ceil(math.log2(largest))
    return 2.0 ** math.ceil(math.log2(largest + 1)) - 1


def to_rgb(image: Image.Image, levels: GreyLevels | None = None) -> Image.Image:
    """A picture in mode RGB, 8 bits per channel, transparent pixels composed over white.

    levels: those of the data set, see grey_levels; by default 0 to 65535 for integers and 0 to 1 for floats.
    NaN is black. A CMYK picture is converted with its colour profile. The profiles of other pictures are
    ignored, as in the loaders of torchvision and timm, so that pretrained models see the values that they
    were trained on. Raises UnreadablePictureError.
    """
    try:
        return _converted(image, levels or GreyLevels())
    except UnreadablePictureError:
        raise
    except Exception as error:
        # Damaged palettes and profiles raise several kinds of errors in Pillow.
        reason = one_line(error)
        raise UnreadablePictureError(f"mode {image.mode} cannot be converted: {reason}") from error


def _converted(image: Image.Image, levels: GreyLevels) -> Image.Image:
    mode = image.mode
    if mode in DEEP_MODES:
        return _deep_grey_to_rgb(image, *(levels.floating if mode == "F" else levels.integer))
    if mode in {"RGBA", "LA", "PA"} or (mode in {"1", "L", "P", "RGB"} and image.has_transparency_data):
        return _over_white(image.convert("RGBA"))
    if mode in {"RGBa", "La"}:
        return _over_white(image.convert("RGBA" if mode == "RGBa" else "LA").convert("RGBA"))
    if mode == "RGB":
        return image
    if mode in {"1", "L", "P", "RGBX", "YCbCr", "HSV"}:
        return image.convert("RGB")
    if mode == "CMYK":
        return _cmyk_to_rgb(image)
    if mode == "LAB":
        return _with_profile(image, ImageCms.createProfile("LAB"))
    raise UnreadablePictureError(f"mode {mode} is not supported")


def _over_white(image: Image.Image) -> Image.Image:
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    composed = Image.new("RGB", image.size, "white")
    composed.paste(image, mask=alpha)
    return composed


def _deep_grey_to_rgb(image: Image.Image, black: float, white: float) -> Image.Image:
    values = np.asarray(image)
    flat = values.reshape(-1)
    grey = np.empty(values.size, np.uint8)
    for start in range(0, values.size, BLOCK):
        grey[start : start + BLOCK] = _scaled(flat[start : start + BLOCK], black, white)
    if (transparent := _transparent_value(image)) is not None:
        grey[flat == transparent] = 255
    return Image.fromarray(grey.reshape(values.shape)).convert("RGB")


def _scaled(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Values from black to white as 0 to 255, rounded to the nearest; beyond them clipped."""
    scaled: NDArray[np.float64] = (values.astype(np.float64) - black) * 255 / (white - black)
    finite = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)
    return finite.clip(0, 255).round().astype(np.uint8)


def _transparent_value(image: Image.Image) -> int | None:
    """The one grey value that a PNG of 16 bits may name as transparent."""
    value = image.info.get("transparency")
    return value if isinstance(value, int) else None


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    if profile := image.info.get("icc_profile"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.profile.xcolor_space.strip() == "CMYK":
                return _with_profile(image, source)
        except (OSError, TypeError, ValueError, ImageCms.PyCMSError):
            # A damaged profile does not damage the pixels: convert as if there were none.
            pass
    return image.convert("RGB")


def _with_profile(image: Image.Image, source: Any) -> Image.Image:
    converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    # It is None only where the conversion is in place.
    assert converted is not None
    return converted
