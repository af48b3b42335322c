"""Plain data -> matplotlib figures. No figure is shown on a screen or registered with pyplot.

A layout engine draws a figure several times to place its parts, and an Axes with its ticks takes longer than
what it shows. So a figure is one Axes in pixels, with images and texts at places that are computed here; only
the curves have axes of their own. A figure is as large as its parts need.
"""

from __future__ import annotations

import math
import textwrap
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import PcolorImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

# Okabe and Ito's colours, told apart with any kind of colour vision.
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
# Pixels an inch. Letters are measured in points, everything else here in pixels.
DPI = 110
POINT = DPI / 72
LETTERS = 10
# Longer names are cut: they would leave no room for what they name.
LONGEST_NAME = 30
# Which point of a text stands at the place given for it.
MIDDLE = {"ha": "center", "va": "center_baseline"}
END = {"ha": "right", "va": "center", "rotation_mode": "anchor"}
UPRIGHT = {"ha": "center", "va": "center", "rotation": 90}


def confusion_matrix(counts: Tensor, class_names: list[str], title: str) -> Figure:
    """Counts (K, K), actual by predicted, coloured by the share of the actual class."""
    counts = counts.numpy()
    classes = len(class_names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    most = DPI * min(3 + 0.45 * classes, 16)
    title, top = _wrapped(title, most + 88, 12)

    names = [_shortened(name) for name in class_names]
    slant = 45 if classes <= 40 else 90
    # Of more classes than can be named in letters, some are.
    named = np.arange(0, classes, math.ceil(classes / 120))
    for letters in range(LETTERS, 4, -1):
        # The largest letters in which a name does not touch its neighbours.
        name = max(_text_width(name, letters) for name in names)
        left, behind = name + 50, 112
        below = name * math.sin(math.radians(slant)) + letters * POINT + 36
        side = max(min(most + 88 - left - behind, most - top - below), 200)
        if side / len(named) > 1.2 * letters * POINT:
            break
    right, bottom = left + side, top + side

    axes = _page(round(right + behind), round(bottom + below), title, 12)
    _image(axes, shares, (left, right, bottom, top))
    axes.add_patch(Rectangle((left, top), side, side, fill=False, linewidth=0.8))
    middles = (np.arange(classes) + 0.5) * side / classes
    axes.hlines(top + middles[named], left - 5, left, "black", linewidth=0.8)
    axes.vlines(left + middles[named], bottom, bottom + 5, "black", linewidth=0.8)
    for i in named:
        _text(axes, left - 9, top + middles[i], names[i], letters, **END)
        _text(axes, left + middles[i], bottom + 10, names[i], letters, rotation=slant, **END)
    _text(axes, left - name - 30, (top + bottom) / 2, "actual", **UPRIGHT)
    _text(axes, (left + right) / 2, bottom + below - 16, "predicted", **MIDDLE)
    if classes <= 20:
        for row, column in np.argwhere(counts > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            x, y = left + middles[column], top + middles[row]
            _text(axes, x, y, str(counts[row, column]), 8, color=colour, **MIDDLE)

    left, right = right + 26, right + 54
    _image(axes, np.linspace(1, 0, 256)[:, None], (left, right, bottom, top))
    axes.add_patch(Rectangle((left, top), right - left, side, fill=False, linewidth=0.8))
    for share in np.linspace(0, 1, 6):
        y = bottom - share * side
        axes.hlines(y, right, right + 5, "black", linewidth=0.8)
        _text(axes, right + 9, y, f"{share:.1f}", va="center_baseline")
    _text(axes, right + 46, (top + bottom) / 2, "share of the actual class", **UPRIGHT)
    return axes.figure


def examples(images: Tensor, actual: list[str], predicted: list[str], title: str) -> Figure:
    """Images uint8 (N, C, H, W) with their actual and predicted labels; mistakes stand out."""
    columns = min(5, len(images))
    tiles = _resized(images, 199)
    pitch_x, pitch_y = 209, tiles.shape[2] + 51
    # Room for a title, however few the images are.
    width = max(columns * pitch_x, 400)
    title, top = _wrapped(f"{title}\nactual → predicted", width, 11)
    axes = _page(width, top + math.ceil(len(images) / columns) * pitch_y, title, 11)

    _show(axes, tiles, columns, (5, top + 41), (pitch_x, pitch_y))
    pairs = [
        (_shortened(truth), f"→ {_shortened(guess)}") for truth, guess in zip(actual, predicted, strict=True)
    ]
    for letters in range(LETTERS, 4, -1):
        # The largest letters in which no name runs into the next picture's.
        if max(_text_width(line, letters) for pair in pairs for line in pair) <= 202:
            break
    for i, lines in enumerate(pairs):
        x, y = 5 + i % columns * pitch_x, top + i // columns * pitch_y + 32
        colour = "black" if actual[i] == predicted[i] else VERMILION
        _text(axes, x, y, "\n".join(lines), letters, color=colour)
    return axes.figure


def feature_maps(image: Tensor, maps: Tensor, title: str) -> Figure:
    """The maps (C, H, W) of a layer, at most 64 of them, beside the image (c, H, W) that they are of."""
    maps = maps[:64].float()
    finite = maps.isfinite()
    low = maps.where(finite, math.inf).amin((1, 2), keepdim=True)
    high = maps.where(finite, -math.inf).amax((1, 2), keepdim=True)
    # Each map has all colours to itself; a constant one has the darkest, and what is no number is left white.
    shares = _resized(((maps - low) / (high - low).clamp(min=1e-30))[None], 95)[0]
    colours = matplotlib.colormaps["viridis"].with_extremes(bad="white")(shares.numpy(), bytes=True)
    tiles = torch.from_numpy(colours[..., :3]).permute(0, 3, 1, 2)

    image = _resized(image[None], 230)
    columns = min(8, len(tiles))
    pitch_x, pitch_y = 104, tiles.shape[2] + 13
    body = max(math.ceil(len(tiles) / columns) * pitch_y, image.shape[2] + 5)
    width = max(242 + columns * pitch_x, 400)
    title, top = _wrapped(title, width, 11)
    axes = _page(width, top + body, title, 11)
    _show(axes, image, 1, (5, top + (body - image.shape[2]) // 2), (0, 0))
    _show(axes, tiles, columns, (250, top + 4), (pitch_x, pitch_y))
    return axes.figure


def curves(rows: list[dict[str, float]], title: str) -> Figure:
    """Loss and accuracy by epoch. rows: one a finished epoch, with `epoch`, `train/loss`, `test/loss`, …"""
    width, height = 880, 374
    title, top = _wrapped(title, width, 11)
    figure = _titled(width, height, title, 11)
    epochs = [row["epoch"] for row in rows]
    margin = 0.05 * (epochs[-1] - epochs[0]) or 0.5
    for start, metric in ((0, "loss"), (width // 2, "accuracy")):
        axes = figure.add_axes((0, 52 / height, 0.4, 1 - (top + 52) / height))
        for split, colour, marker in (("train", BLUE, "o"), ("val", VERMILION, "^"), ("test", ORANGE, "s")):
            if f"{split}/{metric}" in rows[0]:
                values = [row[f"{split}/{metric}"] for row in rows]
                axes.plot(epochs, values, color=colour, marker=marker, markersize=4, label=split)
        axes.set(xlabel="epoch", ylabel=metric, xlim=(epochs[0] - margin, epochs[-1] + margin))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        # How much room the numbers take beside and above the axes is known only now that it has data.
        beside = axes.yaxis.get_tightbbox()
        left = start + 6 + axes.bbox.x0 - beside.x0
        above = top + max(beside.y1 - axes.bbox.y1, 0)
        right = start + width // 2 - 14
        axes.set_position((left / width, 52 / height, (right - left) / width, 1 - (above + 52) / height))
    return figure


def _titled(width: int, height: int, title: str, letters: int) -> Figure:
    """An empty figure, of a width and height in pixels, under a title."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.text(0.5, 1 - 5 / height, title, fontsize=letters, ha="center", va="top", parse_math=False)
    return figure


def _page(width: int, height: int, title: str, letters: int) -> Axes:
    """An Axes in pixels from the top left corner of its figure, which it covers, under a title."""
    figure = _titled(width, height, title, letters)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return axes


def _wrapped(title: str, width: float, letters: int) -> tuple[str, int]:
    """A title in lines that fit into a width, and the height that it takes."""
    lines = []
    for line in title.split("\n"):
        fit = int(0.95 * len(line) * width / max(_text_width(line, letters), 1))
        lines += textwrap.wrap(line, max(fit, 1)) or [""]
    return "\n".join(lines), 10 + round(1.2 * letters * POINT * len(lines))


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _text_width(text: str, letters: float) -> float:
    """The width in pixels of a text in one line."""
    renderer = RendererAgg(1, 1, DPI)
    return renderer.get_text_width_height_descent(text, FontProperties(size=letters), ismath=False)[0]


def _text(axes: Axes, x: float, y: float, text: str, letters: float = LETTERS, **where: Any) -> None:
    # Names are texts: what stands in one between two dollar signs is no formula.
    axes.text(x, y, text, fontsize=letters, parse_math=False, **where)


def _image(axes: Axes, values: np.ndarray, edges: tuple[float, float, float, float]) -> None:
    """Shares (H, W) in shades of blue, or colours uint8 (H, W, 3), between left, right, bottom and top."""
    left, right, bottom, top = edges
    x = np.linspace(left, right, values.shape[1] + 1)
    y = np.linspace(top, bottom, values.shape[0] + 1)
    # Not imshow, which computes every pixel in floating point. It cannot tell a layout where it is.
    image = PcolorImage(axes, x, y, values, cmap="Blues", norm=Normalize(0, 1), in_layout=False)
    axes.add_image(image)


def _show(axes: Axes, tiles: Tensor, columns: int, corner: tuple[int, int], pitch: tuple[int, int]) -> None:
    """Tiles uint8 (N, C, H, W) in rows, pixel for pixel, as one image: each image costs as much again.

    corner: the left and upper edge of the first tile. pitch: from a tile to the next, to the right and down.
    """
    height, width = tiles.shape[2:]
    places = [(i // columns * pitch[1], i % columns * pitch[0]) for i in range(len(tiles))]
    down, right = places[-1][0] + height, max(x for _, x in places) + width
    sheet = torch.full((down, right, 3), 255, dtype=torch.uint8)
    for (y, x), tile in zip(places, tiles, strict=True):
        sheet[y : y + height, x : x + width] = tile.permute(1, 2, 0)
    _image(axes, sheet.numpy(), (corner[0], corner[0] + right, corner[1] + down, corner[1]))


def _resized(images: Tensor, width: int) -> Tensor:
    """Images (N, C, H, W) at a width in pixels: pixels stay square, but many are smoothed."""
    size = (max(round(width * images.shape[2] / images.shape[3]), 1), width)
    if images.shape[3] < width:
        return F.interpolate(images, size, mode="nearest-exact")
    return F.interpolate(images, size, mode="bilinear", antialias=True)
