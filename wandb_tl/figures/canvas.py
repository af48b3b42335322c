"""Drawing for all figures: colours, a page in pixels, and texts and images at computed places on it.

A layout engine draws a figure several times to place its parts, and the ticks of an Axes take longer to draw
than its data. Therefore a figure is one Axes in pixels, and the place of every part is computed here. The
font is large for the page, so that a figure is still legible when a web page shows it 500 pixels wide.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import PcolorImage
from torch import Tensor

# Okabe and Ito's colours, distinct for every kind of colour vision, and a grey that is legible on white.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"
# For grid lines.
FAINT = "#DDDDDD"
# Pixels per inch. Font sizes are in points, everything else here in pixels.
DPI = 110
POINT = DPI / 72
LETTERS, SMALLEST_LETTERS = 12, 5
LINE = 1.2 * LETTERS * POINT
# Longer names are cut, so that they leave space for the rest of the figure.
LONGEST_NAME = 30
# Options of `text`: the point of the text that is at its place.
Options = dict[str, Any]
MIDDLE: Options = {"ha": "center", "va": "center_baseline"}
START: Options = {"ha": "left", "va": "center_baseline"}
END: Options = {"ha": "right", "va": "center_baseline"}
UPRIGHT: Options = {"ha": "center", "va": "center", "rotation": 90}
# Measures texts without drawing them.
_RULER = RendererAgg(1, 1, DPI)


def page(width: int, height: int, title: str) -> Axes:
    """An Axes that covers a new figure with this title, in pixels from the top left corner."""
    axes = titled(width, height, title).add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return axes


def figure_of(page: Axes) -> Figure:
    """The figure that a page covers."""
    figure = page.figure
    assert isinstance(figure, Figure)
    return figure


def titled(width: int, height: int, title: str) -> Figure:
    """An empty figure with a title; width and height in pixels."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    letters = _title_letters(width)
    figure.text(0.5, 1 - 5 / height, title, fontsize=letters, ha="center", va="top", parse_math=False)
    return figure


def wrapped(title: str, width: float) -> tuple[str, int]:
    """A title in lines that fit into a page's width, and its height in pixels."""
    letters = _title_letters(width)
    lines: list[str] = []
    for line in title.split("\n"):
        fit = int(0.95 * len(line) * width / max(text_width(line, letters), 1))
        lines += textwrap.wrap(line, max(fit, 1)) or [""]
    return "\n".join(lines), 12 + round(1.2 * letters * POINT * len(lines))


def _title_letters(width: float) -> float:
    return max(width / 72, 11)


def shortened(name: str) -> str:
    """The name of a class, cut if it is long."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def text_width(text: str, letters: float) -> float:
    """The width in pixels of a text in one line, at this font size."""
    width: float = _RULER.get_text_width_height_descent(text, FontProperties(size=letters), ismath=False)[0]
    return width


def widest(texts: Iterable[str], letters: float) -> float:
    """The width in pixels of the widest text; 0 if there is none."""
    return max((text_width(text, letters) for text in set(texts)), default=0)


def fitting_letters(texts: Iterable[str], width: float, largest: float = LETTERS) -> float:
    """The largest font size at which each of the texts fits into a width, but at least the smallest one."""
    texts = set(texts)
    letters = largest
    while letters > SMALLEST_LETTERS and (needed := widest(texts, letters)) > width:
        # Letters are drawn in whole pixels, so their width is not quite proportional to the font size.
        letters = min(letters * width / needed, letters - 0.25)
    return max(letters, SMALLEST_LETTERS)


def text(axes: Axes, x: float, y: float, words: str, letters: float = LETTERS, **where: Any) -> None:
    """Write words at a place. Dollar signs have no special meaning."""
    axes.text(x, y, words, fontsize=letters, parse_math=False, **where)


def image(axes: Axes, colours: np.ndarray, edges: tuple[float, float, float, float]) -> None:
    """Show colours uint8 (H, W, 3) between left, right, bottom and top."""
    left, right, bottom, top = edges
    x = np.linspace(left, right, colours.shape[1] + 1)
    y = np.linspace(top, bottom, colours.shape[0] + 1)
    # Faster than imshow, which resamples every pixel in floating point. It has no extent for layout engines.
    axes.add_image(PcolorImage(axes, x, y, colours, in_layout=False))


def tiles(axes: Axes, images: Tensor, columns: int, corner: tuple[int, int], pitch: tuple[int, int]) -> None:
    """Images uint8 (N, C, H, W) in rows, pixel for pixel, drawn as one image, which is faster than N.

    corner: the left and upper edge of the first image. pitch: the distance to the next one, right and down.
    """
    height, width = images.shape[2:]
    places = [(i // columns * pitch[1], i % columns * pitch[0]) for i in range(len(images))]
    down, right = places[-1][0] + height, max(x for _, x in places) + width
    sheet = torch.full((down, right, 3), 255, dtype=torch.uint8)
    for (y, x), tile in zip(places, images, strict=True):
        sheet[y : y + height, x : x + width] = tile.permute(1, 2, 0)
    image(axes, sheet.numpy(), (corner[0], corner[0] + right, corner[1] + down, corner[1]))


def two_columns(
    axes: Axes, rows: list[tuple[str, str]], width: float, top: float, line: float, letters: float
) -> None:
    """Rows of words and a number, in two columns under `top`; numbers are at the right edge of a column."""
    column = width / 2 - 48
    numbers = widest((number for _, number in rows), letters)
    small = fitting_letters((words for words, _ in rows), column - numbers - 20, letters)
    half = math.ceil(len(rows) / 2)
    for i, (words, number) in enumerate(rows):
        x, y = 24 + i // half * width / 2, top + (i % half + 0.5) * line
        text(axes, x, y, words, small, **START)
        text(axes, x + column, y, number, letters, **END)


def bars(axes: Axes, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """Fill rectangles: x (N, 2) left and right edges, y (N, 2) lower and upper ones."""
    corners = list(np.stack([x[:, [0, 1, 1, 0]], y[:, [0, 0, 1, 1]]], axis=2))
    axes.add_collection(PolyCollection(corners, **style), autolim=False)


def frame(axes: Axes, left: float, right: float, bottom: float, top: float) -> None:
    """A thin line around a rectangle."""
    box = np.array([[left, right]]), np.array([[bottom, top]])
    bars(axes, *box, facecolor="none", edgecolor="black", linewidth=0.8)


def resized(images: Tensor, width: int) -> Tensor:
    """Images (N, C, H, W) resized to a width in pixels; enlarged pixels stay sharp squares."""
    size = (max(round(width * images.shape[2] / images.shape[3]), 1), width)
    if images.shape[3] < width:
        return F.interpolate(images, size, mode="nearest-exact")
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def coloured(shares: Tensor, colour_map: str = "viridis") -> Tensor:
    """Shares (N, H, W) between 0 and 1 as colours uint8 (N, 3, H, W); NaN is white."""
    colours = matplotlib.colormaps[colour_map].with_extremes(bad="white")(shares.numpy(), bytes=True)
    return torch.from_numpy(colours[..., :3]).permute(0, 3, 1, 2)
