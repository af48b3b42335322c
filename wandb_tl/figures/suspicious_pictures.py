"""Contact sheets of pictures that a person should look at: pairs that are alike, and doubtful labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from wandb_tl.figures import canvas
from wandb_tl.figures.canvas import VERMILION

# Pixels: the side of a picture, and the distance to the next one.
SIDE, PITCH = 170, 186
PADDING = 8
LETTERS = 9
LINE = 1.25 * LETTERS * canvas.POINT
PAIRS_PER_ROW, PICTURES_PER_ROW = 3, 6


@dataclass(frozen=True)
class Tile:
    """A picture, uint8 (C, H, W) and square, and the lines under it, the first of which is its file.

    important: the number of the line that stands out; None for none of them.
    """

    image: Tensor
    lines: Sequence[str]
    important: int | None = None


def pairs(tiles: Sequence[tuple[Tile, Tile]], headings: Sequence[str], title: str) -> Figure:
    """Pairs of pictures side by side, each under its heading and in a frame."""
    heading = round(LINE) + 8
    flat = [tile for pair in tiles for tile in pair]
    columns = 2 * min(PAIRS_PER_ROW, len(tiles))
    axes, left, top, pitch = _page(flat, columns, heading, title)
    for number, words in enumerate(headings):
        x = left + 2 * number % columns * PITCH
        y = top + 2 * number // columns * pitch - heading
        letters = canvas.fitting_letters([words], 2 * PITCH - 20, LETTERS + 1)
        canvas.text(axes, x, y + heading / 2, words, letters, color=VERMILION, **canvas.START)
        canvas.frame(axes, x - 4, x + 2 * PITCH - 12, y + pitch - 6, y - 2)
    return canvas.figure_of(axes)


def single(tiles: Sequence[Tile], title: str) -> Figure:
    """Pictures in rows."""
    axes, *_ = _page(tiles, min(PICTURES_PER_ROW, len(tiles)), 0, title)
    return canvas.figure_of(axes)


def tensor(picture: NDArray[np.uint8]) -> Tensor:
    """The picture of a tile from an array (C, H, W)."""
    return torch.from_numpy(picture)


def shortened(name: str, width: float) -> str:
    """A file's path in a width in pixels; if it is too long, its name without the middle: "emblem-…c.png"."""
    if canvas.text_width(name, LETTERS) <= width:
        return name
    name = name.rpartition("/")[2]
    for kept in range(len(name), 1, -1):
        text = name if kept == len(name) else f"{name[: kept - kept // 3]}…{name[len(name) - kept // 3 :]}"
        if canvas.text_width(text, LETTERS) <= width:
            return text
    return "…"


def _page(tiles: Sequence[Tile], columns: int, heading: int, title: str) -> tuple[Axes, int, int, int]:
    """A page with the tiles in rows, each row below space for a heading.

    Returns also the left edge of the first picture, its upper edge, and the distance between rows.
    """
    lines = max(len(tile.lines) for tile in tiles)
    pitch = heading + SIDE + round(lines * LINE) + 18
    width = max(columns * PITCH + 2 * PADDING, 420)
    title, top = canvas.wrapped(title, width)
    axes = canvas.page(width, top + math.ceil(len(tiles) / columns) * pitch + PADDING, title)
    left, top = (width - columns * PITCH) // 2 + PADDING, top + heading
    images = torch.cat([canvas.resized(tile.image[None], SIDE).expand(-1, 3, -1, -1) for tile in tiles])
    canvas.tiles(axes, images, columns, (left, top), (PITCH, pitch))
    for number, tile in enumerate(tiles):
        x, y = left + number % columns * PITCH, top + number // columns * pitch + SIDE + 4
        for row, line in enumerate(tile.lines):
            words = shortened(line, SIDE) if row == 0 else line
            style = {"color": VERMILION if row == tile.important else "black"}
            letters = canvas.fitting_letters([words], SIDE + 8, LETTERS)
            canvas.text(axes, x, y + (row + 0.5) * LINE, words, letters, **style, **canvas.START)
    return axes, left, top, pitch
