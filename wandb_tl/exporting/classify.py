"""Classify pictures with model.onnx, which lies beside this script: python classify.py PICTURE ...

It needs only onnxruntime, numpy and Pillow. For each picture it prints a line: the name, and the most
probable labels with their probabilities, separated by tabs. Pictures are framed exactly as by wandb_tl; what
this script would show differently (deep grey, CMYK) it refuses. The exit code is 1 if a picture is refused.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

LABELS_SHOWN = 5
# The border of a padded picture: the mean colour of ImageNet.
BORDER = (124, 116, 104)
# Of a picture that is longer than this ratio of its sides, only the part that the crop shows is scaled.
LONGEST = 16
PLAIN_MODES = {"1", "L", "P", "RGB", "LA", "PA", "RGBA"}


def main(files: list[str]) -> int:
    """Print a line for each picture. Returns the exit code."""
    if not files:
        print("usage: python classify.py PICTURE ...", file=sys.stderr)
        return 2
    session = onnxruntime.InferenceSession(
        Path(__file__).with_name("model.onnx"), providers=["CPUExecutionProvider"]
    )
    metadata = session.get_modelmeta().custom_metadata_map
    labels, framing = json.loads(metadata["labels"]), json.loads(metadata["framing"])
    code = 0
    for file in files:
        try:
            rgb = read_rgb(file)
        except Exception as error:
            # Pillow raises almost every exception there is for damaged files.
            print(f"{file}\tcannot be read: {error}")
            code = 1
            continue
        images = frame(rgb, **framing)[None]
        probabilities = session.run(["probabilities"], {"images": images})[0][0]
        best = np.argsort(-probabilities, kind="stable")[:LABELS_SHOWN]
        cells = [f"{labels[index]}\t{probabilities[index]:.6f}" for index in best]
        print("\t".join([file, *cells]))
    return code


def read_rgb(file: str) -> Image.Image:
    """The picture upright, 8 bits per channel, transparent pixels over white. ValueError if it is refused."""
    with Image.open(file) as opened:
        if opened.format in ("EPS", "WMF"):
            raise ValueError(f"{opened.format} is a program, not pixels")
        opened.load()
        image = ImageOps.exif_transpose(opened)
    if image.mode not in PLAIN_MODES or (image.mode in ("L", "RGB") and "transparency" in image.info):
        raise ValueError(f"pictures of mode {image.mode}, or with a transparent value, need wandb_tl")
    if image.mode not in ("LA", "PA", "RGBA") and not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    over_white = Image.new("RGB", image.size, "white")
    over_white.paste(rgba, mask=rgba.getchannel("A"))
    return over_white


def frame(rgb: Image.Image, size: int, resize: str, crop_fraction: float, interpolation: str) -> Any:
    """The picture as a uint8 array (3, size, size). resize: crop, squash or pad, as in wandb_tl."""
    filter = Image.Resampling[interpolation.upper()]
    if resize == "squash":
        framed = rgb.resize((size, size), filter)
    elif resize == "pad":
        framed = pad(rgb, size, filter)
    else:
        framed = crop(rgb, size, crop_fraction, filter)
    return np.ascontiguousarray(np.asarray(framed).transpose(2, 0, 1))


def pad(rgb: Image.Image, size: int, filter: Image.Resampling) -> Image.Image:
    """Scale the longer side to size, and add a border."""
    width, height = (max(1, round(side * size / max(rgb.size))) for side in rgb.size)
    framed = Image.new("RGB", (size, size), BORDER)
    framed.paste(rgb.resize((width, height), filter), ((size - width) // 2, (size - height) // 2))
    return framed


def crop(rgb: Image.Image, size: int, crop_fraction: float, filter: Image.Resampling) -> Image.Image:
    """Scale the shorter side to size / crop_fraction, and take the centre."""
    width, height = rgb.size
    shorter = math.floor(size / crop_fraction)
    scaled_width = max(shorter, int(shorter * width / height))
    scaled_height = max(shorter, int(shorter * height / width))
    left, top = round((scaled_width - size) / 2), round((scaled_height - size) / 2)
    right, bottom = left + size, top + size
    if max(scaled_width, scaled_height) <= LONGEST * shorter:
        return rgb.resize((scaled_width, scaled_height), filter).crop((left, top, right, bottom))
    across, down = width / scaled_width, height / scaled_height
    box = left * across, top * down, min(width, right * across), min(height, bottom * down)
    return rgb.resize((size, size), filter, box=box)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
