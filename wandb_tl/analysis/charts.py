"""Statistics of a sweep -> matplotlib figures: what each choice is worth, and all recipes at a glance."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from wandb_tl.analysis.effects import Comparison
from wandb_tl.analysis.formatting import changes_in_words, level, points
from wandb_tl.analysis.runs_by_recipe import in_order
from wandb_tl.figures.canvas import BLUE, DPI, GREY, ORANGE

Floats = NDArray[np.float64]

# At most this many interactions are shown, the largest ones.
INTERACTIONS_SHOWN = 12
# An axis with more levels than this is a scale; otherwise each level is named.
LEVELS_NAMED = 12
# The mark of recipes in which the hyperparameter of an axis has no effect, and its height.
NO_EFFECT, BELOW = "no effect", -0.06


def effects(comparisons: list[Comparison]) -> Figure:
    """Main effects and interactions as points of test accuracy with 95 % intervals, around zero.

    Filled marks are significant by their Holm-corrected p-value; hollow marks are not.
    """
    ordered = sorted(comparisons, key=lambda one: -abs(one.effect.mean))
    mains = [one for one in ordered if one.kind == "main"]
    drawn = mains + [one for one in ordered if one.kind == "interaction"][:INTERACTIONS_SHOWN]

    figure = _figure(9, 1.3 + 0.34 * len(drawn))
    axes = figure.add_subplot()
    for y, one in enumerate(drawn):
        colour = BLUE if one.kind == "main" else ORANGE
        half = one.effect.half_width
        axes.errorbar(
            one.effect.mean,
            y,
            xerr=None if math.isnan(half) else half,
            color=colour if one.significant else GREY,
            marker="o" if one.kind == "main" else "D",
            markersize=6,
            markerfacecolor=colour if one.significant else "white",
            capsize=3,
            linewidth=1.6,
        )
        axes.annotate(
            points(one.effect),
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(drawn)), [changes_in_words(one) for one in drawn], fontsize=9, parse_math=False)
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.set_xlabel("points of test accuracy" + (", 95 % interval" if _has_intervals(drawn) else ""))
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def parallel_coordinates(recipes: pd.DataFrame, parameters: list[str]) -> Figure:
    """One line per recipe through its hyperparameters to its mean test accuracy, coloured by that.

    recipes: runs_by_recipe.recipes(), best first. The best recipe is drawn last and thickest.
    """
    names = [*parameters, "mean"]
    figure = _figure(max(1.9 * len(names), 6), 4.6)
    axes = figure.add_subplot()
    heights = np.stack([_heights(axes, x, recipes[name], name) for x, name in enumerate(names)])
    scale = Normalize(recipes["mean"].min(), max(recipes["mean"].max(), recipes["mean"].min() + 1e-9))
    for row in reversed(range(len(recipes))):
        colour = colormaps["viridis"](0.85 * scale(recipes["mean"].iloc[row]))
        line = PathPatch(_curve(heights[:, row]), fill=False, edgecolor=colour, linewidth=1.6, alpha=0.9)
        if row == 0:
            line.set(linewidth=4, alpha=1)
        axes.add_patch(line)
    axes.set_xlim(-0.35, len(names) - 0.4)
    axes.set_ylim(-0.08, 1.08)
    titles = [*parameters, "test accuracy, %"]
    axes.set_xticks(range(len(names)), titles, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0, pad=8)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure


def _figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches; its layout is computed when it is drawn."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _has_intervals(comparisons: list[Comparison]) -> bool:
    return any(not math.isnan(one.effect.half_width) for one in comparisons)


def _heights(axes: Axes, x: float, values: pd.Series[Any], name: str) -> Floats:
    """The heights, from 0 to 1, of a column's values on its axis at x; draws the axis with its marks.

    Lines through one level are spread around it in the order of the recipes, so that they can be followed.
    """
    axes.axvline(x, 0.07, 0.93, color="black", linewidth=0.8, zorder=3)
    levels = in_order(values.dropna())
    numeric = not any(isinstance(one, str | bool | np.bool_) for one in levels)
    if name == "mean" or (numeric and len(levels) > LEVELS_NAMED):
        return _on_scale(axes, x, values.astype(float))
    if values.isna().any():
        values, levels = values.astype(object).where(values.notna(), NO_EFFECT), [*levels, NO_EFFECT]
    place = {one: (i / (len(levels) - 1) if len(levels) > 1 else 0.5) for i, one in enumerate(levels)}
    for one, height in place.items():
        _mark(axes, x, height, level(one))
    spread = min(0.25 / max(len(levels) - 1, 1), 0.14)
    offsets = spread * (0.5 - (np.arange(len(values)) + 0.5) / len(values))
    return values.map(place).to_numpy(float) + offsets


def _on_scale(axes: Axes, x: float, values: pd.Series[Any]) -> Floats:
    """Heights on a scale with round marks, logarithmic for wide ranges; "no effect" is below the scale."""
    wide = values.min() > 0 and values.max() / values.min() > 50
    locator = LogLocator(numticks=8) if wide else MaxNLocator(6)
    ticks = locator.tick_values(values.min(), values.max())
    scale = (LogNorm if wide else Normalize)(min(ticks[0], values.min()), max(ticks[-1], values.max()))
    for tick in ticks:
        _mark(axes, x, float(scale(tick)), f"{tick:g}")
    if values.isna().any():
        _mark(axes, x, BELOW, NO_EFFECT)
    return np.ma.filled(np.ma.masked_invalid(scale(values.to_numpy())), BELOW)


def _mark(axes: Axes, x: float, height: float, text: str) -> None:
    axes.annotate(
        text,
        (x, height),
        (7, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        zorder=4,
        parse_math=False,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )
    axes.plot([x], [height], marker="_", color="black", markersize=8, zorder=3)


def _curve(heights: Floats) -> Path:
    """A line through the axes, horizontal where it crosses them."""
    points, codes = [(0.0, heights[0])], [Path.MOVETO]
    for x, (before, after) in enumerate(pairwise(heights)):
        points += [(x + 0.45, before), (x + 0.55, after), (x + 1.0, after)]
        codes += [Path.CURVE4] * 3
    return Path(points, codes)
