"""Figures as images of W&B, and as files from which a resumed run logs those that the server has not got."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import wandb
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


def of_figures(figures: Mapping[str, Figure], folder: Path | None = None) -> dict[str, wandb.Image]:
    """Figures as PNG images, by media key. One is encoded while the next is drawn.

    folder: where they stay as files for `stored`; None if they need not.
    """
    with ThreadPoolExecutor(1) as encoder:
        images = {
            key: encoder.submit(_encoded, _drawn(figure), folder and folder / f"{key}.png")
            for key, figure in figures.items()
        }
    return {key: image.result() for key, image in images.items()}


def stored(folder: Path) -> dict[str, wandb.Image]:
    """The images that `of_figures` has stored in a folder, by media key; none if there is no folder."""
    files = sorted(folder.rglob("*.png"))
    return {file.relative_to(folder).with_suffix("").as_posix(): wandb.Image(str(file)) for file in files}


def _drawn(figure: Figure) -> Image.Image:
    # Drawn into memory: a file would be encoded, decoded, and encoded again by wandb.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _encoded(image: Image.Image, file: Path | None) -> wandb.Image:
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file)
        except OSError:
            # As on a full disk. The run itself does not need the file.
            file.unlink(missing_ok=True)
        else:
            return wandb.Image(str(file))
    return wandb.Image(image)
