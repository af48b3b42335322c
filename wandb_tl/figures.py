"""Plain data -> matplotlib figures. No figure is shown on a screen or registered with pyplot."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

# Okabe and Ito's colours, told apart with any kind of colour vision.
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"


def confusion_matrix(counts: Tensor, class_names: list[str], title: str) -> Figure:
    """Counts (K, K), actual by predicted, coloured by the share of the actual class."""
    counts = counts.numpy()
    classes = len(class_names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(3 + 0.45 * classes, 16)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the actual class")
    axes.set_xticks(range(classes), class_names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), class_names)
    axes.set(xlabel="predicted", ylabel="actual", title=title)
    if classes <= 20:
        for row, column in np.argwhere(counts > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            number = counts[row, column]
            axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=8)
    return figure


def examples(images: Tensor, actual: list[str], predicted: list[str], title: str) -> Figure:
    """Images uint8 (N, C, H, W) with their actual and predicted labels; mistakes stand out."""
    columns = min(5, len(images))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(columns * 1.9, rows * 2.3 + 0.4), layout="constrained")
    grid = _bare(figure.subplots(rows, columns, squeeze=False))
    for axes, image, truth, guess in zip(grid, images, actual, predicted, strict=False):
        _show(axes, image)
        colour = "black" if truth == guess else VERMILION
        axes.set_title(f"{truth}\n→ {guess}", fontsize=10, color=colour, loc="left")
    figure.suptitle(f"{title}\nactual → predicted", fontsize=11)
    return figure


def feature_maps(image: Tensor, maps: Tensor, title: str) -> Figure:
    """The maps (C, H, W) of a layer, at most 64 of them, beside the image (c, H, W) that they are of."""
    maps = maps[:64].float()
    columns = min(8, len(maps))
    rows = math.ceil(len(maps) / columns)
    figure = Figure(figsize=(columns * 0.95 + 2.2, max(rows * 0.95, 2) + 0.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.2, columns * 0.95))
    (axes,) = _bare(left.subplots(1, 1, squeeze=False))
    _show(axes, image)
    for axes, channel in zip(_bare(right.subplots(rows, columns, squeeze=False)), maps, strict=False):
        axes.imshow(channel.numpy(), cmap="viridis")
    figure.suptitle(title, fontsize=11)
    return figure


def curves(rows: list[dict[str, float]], title: str) -> Figure:
    """Loss and accuracy by epoch. rows: one a finished epoch, with `epoch`, `train/loss`, `test/loss`, …"""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, colour, marker in (("train", BLUE, "o"), ("val", VERMILION, "^"), ("test", ORANGE, "s")):
            if f"{split}/{metric}" in rows[0]:
                values = [row[f"{split}/{metric}"] for row in rows]
                axes.plot(epochs, values, color=colour, marker=marker, markersize=4, label=split)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.suptitle(title, fontsize=11)
    return figure


def _bare(grid: np.ndarray) -> list[Axes]:
    """The axes of a grid without ticks and frames."""
    for axes in grid.flat:
        axes.axis("off")
    return list(grid.flat)


def _show(axes: Axes, image: Tensor) -> None:
    if len(image) == 1:
        axes.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=255)
    else:
        axes.imshow(image.permute(1, 2, 0).numpy())
