"""Figures of many images: test images with predictions, Grad-CAM heat maps, and feature maps of a layer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from wandb_tl.figures import canvas
from wandb_tl.figures.canvas import VERMILION

MAPS_SHOWN = 64


def examples(images: Tensor, actual: list[str], predicted: list[str], title: str) -> Figure:
    """Images uint8 (N, C, H, W) with their actual and predicted labels; mistakes stand out."""
    pairs = list(zip(actual, predicted, strict=True))
    labels = [_label(truth, guess) for truth, guess in pairs]
    wrong = [truth != guess for truth, guess in pairs]
    return _labelled(canvas.resized(images, 199), labels, wrong, 5, f"{title}\nactual → predicted")


def grad_cam(
    images: Tensor,
    heat: Tensor,
    actual: list[str],
    predicted: list[str],
    confidence: list[str],
    title: str,
) -> Figure:
    """Images uint8 (N, C, H, W) above the same under heat (N, h, w), between 0 and 1; mistakes stand out.

    confidence: the model's confidence in its prediction, as a string. Heat of NaN counts as 0.
    """
    pictures = canvas.resized(images, 199)
    heat = F.interpolate(heat.float().nan_to_num(0)[:, None], pictures.shape[2:], mode="bilinear")
    grey = pictures.float().mean(1, keepdim=True)
    overlays = 0.45 * grey + 0.55 * canvas.coloured(heat[:, 0].clamp(0, 1)).float()
    both = torch.cat([pictures.expand(-1, 3, -1, -1), overlays.round().byte()], dim=2)
    wrong = [truth != guess for truth, guess in zip(actual, predicted, strict=True)]
    labels = [
        f"{_label(truth, guess)}\n{'right' if truth == guess else 'wrong'}, {sure}"
        for truth, guess, sure in zip(actual, predicted, confidence, strict=True)
    ]
    caption = "actual → predicted, confidence; bright regions support the prediction"
    return _labelled(both, labels, wrong, 4, f"{title}\n{caption}")


def _label(actual: str, predicted: str) -> str:
    return f"{canvas.shortened(actual)}\n→ {canvas.shortened(predicted)}"


def _labelled(pictures: Tensor, labels: list[str], wrong: list[bool], columns: int, title: str) -> Figure:
    """Pictures uint8 (N, C, H, W), 199 pixels wide, under their labels, which have equally many lines."""
    columns = min(columns, len(pictures))
    above = round(canvas.LINE * (labels[0].count("\n") + 1)) + 6
    pitch = (209, pictures.shape[2] + above + 12)
    # Space for the title, even for a single picture.
    width = max(columns * pitch[0], 420)
    title, top = canvas.wrapped(title, width)
    axes = canvas.page(width, top + math.ceil(len(pictures) / columns) * pitch[1], title)
    left = (width - columns * pitch[0]) // 2 + 5
    canvas.tiles(axes, pictures, columns, (left, top + above), pitch)
    # Small enough that a name does not touch the next one.
    letters = canvas.fitting_letters("\n".join(labels).split("\n"), 202)
    for i, label in enumerate(labels):
        x, y = left + i % columns * pitch[0], top + i // columns * pitch[1] + above - 6
        colour = VERMILION if wrong[i] else "black"
        canvas.text(axes, x, y, label, letters, color=colour, va="bottom", linespacing=1.1)
    return canvas.figure_of(axes)


def feature_maps(image: Tensor, maps: Tensor, title: str) -> Figure:
    """The first 64 maps (C, H, W) of a layer beside their image (c, H, W)."""
    maps = maps[:MAPS_SHOWN].float()
    finite = maps.isfinite()
    low = maps.where(finite, math.inf).amin((1, 2), keepdim=True)
    high = maps.where(finite, -math.inf).amax((1, 2), keepdim=True)
    # Each map uses the whole range of colours. A constant map has the darkest colour, and NaN is white.
    shares = canvas.resized(((maps - low) / (high - low).clamp(min=1e-30))[None], 95)[0]
    tiles = canvas.coloured(shares)

    image = canvas.resized(image[None], 230)
    columns = min(8, len(tiles))
    pitch_x, pitch_y = 104, tiles.shape[2] + 13
    body = max(math.ceil(len(tiles) / columns) * pitch_y, image.shape[2] + 5)
    width = max(242 + columns * pitch_x, 400)
    title, top = canvas.wrapped(title, width)
    axes = canvas.page(width, top + body, title)
    canvas.tiles(axes, image, 1, (5, top + (body - image.shape[2]) // 2), (0, 0))
    canvas.tiles(axes, tiles, columns, (250, top + 4), (pitch_x, pitch_y))
    return canvas.figure_of(axes)
