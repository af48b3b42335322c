"""Figures and tables as HTML for notebooks, without files beside it."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    import pandas as pd


def figure_as_html(figure: Figure, text: str) -> str:
    """The figure as an image inside the page, at most as wide as the page. text: stands for it if unseen."""
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    encoded = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{encoded}" style="max-width:100%">'


def table_as_html(frame: pd.DataFrame) -> str:
    """The table with four decimals and without its index; its names and texts are escaped."""
    return str(frame.to_html(index=False, border=0, na_rep="", float_format="{:.4f}".format))
