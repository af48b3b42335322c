"""What stands in a figure: its pixels, its texts, and whether all of it is on the page."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

TITLE = "tf_efficientnet_lite0-pretrainedTrue-finetuningTrue-optimAdam-seed0"
LONG = ["Golden Retriever (female)", "Yellow-bellied marmot WWW", "American_Staffordshire_Te", "x" * 60]


def render(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def texts(figure: Figure) -> list[Text]:
    return [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def is_whole(figure: Figure) -> bool:
    """Whether nothing of a figure lies beyond its edges."""
    drawn = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height
