"""Many images of a run -> one figure: what it was shown, where it looked, and the maps of a layer."""

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

    confidence: how sure of its prediction the model is, in words. Heat that is no number counts as none.
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
    caption = "actual → predicted, confidence; bright is what speaks for the prediction"
    return _labelled(both, labels, wrong, 4, f"{title}\n{caption}")


def _label(actual: str, predicted: str) -> str:
    return f"{canvas.shortened(actual)}\n→ {canvas.shortened(predicted)}"


def _labelled(pictures: Tensor, labels: list[str], wrong: list[bool], columns: int, title: str) -> Figure:
    """Pictures uint8 (N, C, H, W), 199 pixels wide, under labels of as many lines each."""
    columns = min(columns, len(pictures))
    above = round(canvas.LINE * (labels[0].count("\n") + 1)) + 6
    pitch = (209, pictures.shape[2] + above + 12)
    # Room for a title, however few the pictures are.
    width = max(columns * pitch[0], 420)
    title, top = canvas.wrapped(title, width)
    axes = canvas.page(width, top + math.ceil(len(pictures) / columns) * pitch[1], title)
    left = (width - columns * pitch[0]) // 2 + 5
    canvas.tiles(axes, pictures, columns, (left, top + above), pitch)
    # No name runs into the next picture's.
    letters = canvas.fitting_letters("\n".join(labels).split("\n"), 202)
    for i, label in enumerate(labels):
        x, y = left + i % columns * pitch[0], top + i // columns * pitch[1] + above - 6
        colour = VERMILION if wrong[i] else "black"
        canvas.text(axes, x, y, label, letters, color=colour, va="bottom", linespacing=1.1)
    return axes.figure


def feature_maps(image: Tensor, maps: Tensor, title: str) -> Figure:
    """The maps (C, H, W) of a layer, at most 64 of them, beside the image (c, H, W) that they are of."""
    maps = maps[:MAPS_SHOWN].float()
    finite = maps.isfinite()
    low = maps.where(finite, math.inf).amin((1, 2), keepdim=True)
    high = maps.where(finite, -math.inf).amax((1, 2), keepdim=True)
    # Each map has all colours to itself; a constant one has the darkest, and what is no number is left white.
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
    return axes.figure
