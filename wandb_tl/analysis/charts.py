"""Statistics of a sweep -> matplotlib figures: what each change is worth, and accuracy against time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from wandb_tl.analysis.answer import Answer, Recipe
from wandb_tl.analysis.effects import Effect
from wandb_tl.analysis.formatting import changes_in_words, points
from wandb_tl.figures.canvas import BLUE, DPI, FAINT, GREY, ORANGE

# Changes and names of a chart; more of them would not be legible.
MOST_EFFECTS, MOST_NAMED = 12, 12
# The size of a name in pixels.
NAME_WIDTH, NAME_HEIGHT = 50, 18
# Times whose largest is so many times the smallest stand on a logarithmic axis.
LOGARITHMIC = 10


def effects(found: Sequence[Effect]) -> Figure:
    """Each change of the winner as points of test accuracy with its 95 % interval, beside zero; at least one.

    Filled marks are settled, hollow ones are not.
    """
    drawn = found[:MOST_EFFECTS]
    figure = empty_figure(9, 1.3 + 0.38 * len(drawn))
    axes = figure.add_subplot()
    for y, one in enumerate(drawn):
        half = one.effect.half_width
        colour = BLUE if one.settled else GREY
        axes.errorbar(
            one.effect.mean,
            y,
            xerr=None if math.isnan(half) else half,
            color=colour,
            marker="o",
            markersize=7,
            markerfacecolor=colour if one.settled else "white",
            capsize=3,
            linewidth=1.6,
        )
        place = (1.01, y)
        coordinates = ("axes fraction", "data")
        axes.annotate(
            points(one.effect), place, xycoords=coordinates, va="center", fontsize=10, annotation_clip=False
        )
    axes.axvline(0, color="black", linewidth=0.8)
    names = [changes_in_words(one.changes) for one in drawn]
    axes.set_yticks(range(len(drawn)), names, fontsize=10, parse_math=False)
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    # Zero stays in the picture, with room for the marks.
    ends = [side for one in drawn for side in _ends(one)]
    margin = 0.06 * (max(0, *ends) - min(0, *ends)) or 1
    axes.set_xlim(min(0, *ends) - margin, max(0, *ends) + margin)
    intervals = ", 95 % interval" if any(one.effect.n > 1 for one in drawn) else ""
    axes.set_xlabel(f"points of test accuracy, against the best recipe{intervals}")
    clean(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def frontier(answer: Answer) -> Figure:
    """Test accuracy of every recipe against its training time; the frontier as a line, with row numbers."""
    timed = [one for one in answer.recipes if not math.isnan(one.price.seconds)]
    best = [answer.recipes[row - 1] for row in answer.frontier]
    figure = empty_figure(9, 4.6)
    axes = figure.add_subplot()
    _scatter(axes, [one for one in timed if one not in best], GREY, 18)
    # A recipe on the frontier is the best one up to the time of the next more accurate one.
    axes.step(
        [one.price.seconds for one in reversed(best)],
        [one.accuracy.mean for one in reversed(best)],
        where="post",
        color=BLUE,
        linewidth=1.2,
    )
    _scatter(axes, best, BLUE, 36)
    if answer.winner in timed:
        _scatter(axes, [answer.winner], ORANGE, 80)
    times = [one.price.seconds for one in timed]
    if min(times) > 0 and max(times) / min(times) > LOGARITHMIC:
        axes.set_xscale("log")
        # matplotlib labels the ticks of a short axis between them as powers of ten.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.3g}")
    axes.set_xlabel("seconds to train (median of the runs)")
    axes.set_ylabel("test accuracy, %")
    clean(axes, "both")
    axes.margins(0.08, 0.12)
    names = _Names(axes)
    first = [answer.winner, *([answer.cheaper] if answer.cheaper else [])]
    # Above and to the left of the frontier there are no recipes, so that its names are legible there.
    for row in dict.fromkeys(one.row for one in (*first, *best)):
        names.add(answer.recipes[row - 1], f"row {row}", "black", above=True)
    for other in (one for one in timed if one not in best and one is not answer.winner):
        names.add(other, str(other.row), GREY, above=False)
    return figure


class _Names:
    """Names of recipes in a scatter plot, without those that would cover an earlier one."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        self._places: list[tuple[float, float]] = []

    def add(self, recipe: Recipe, text: str, colour: str, above: bool) -> None:
        """Write a name above and to the left of a recipe, or below and to the right."""
        point = (recipe.price.seconds, recipe.accuracy.mean)
        if math.isnan(point[0]) or len(self._places) == MOST_NAMED:
            return
        x, y = self._axes.transData.transform(point)
        place = (x - NAME_WIDTH, y + NAME_HEIGHT) if above else (x, y - NAME_HEIGHT)
        near = (NAME_WIDTH, NAME_HEIGHT)
        if any(all(abs(place[i] - other[i]) < near[i] for i in (0, 1)) for other in self._places):
            return
        self._places.append(place)
        self._axes.annotate(
            text,
            point,
            (-5, 4) if above else (5, -4),
            textcoords="offset points",
            ha="right" if above else "left",
            va="bottom" if above else "top",
            fontsize=9,
            color=colour,
        )


def _scatter(axes: Axes, recipes: Sequence[Recipe], colour: str, size: float) -> None:
    axes.scatter(
        [one.price.seconds for one in recipes],
        [one.accuracy.mean for one in recipes],
        s=size,
        color=colour,
        zorder=3,
    )


def _ends(one: Effect) -> tuple[float, float]:
    half = 0 if math.isnan(one.effect.half_width) else one.effect.half_width
    return one.effect.mean - half, one.effect.mean + half


def clean(axes: Axes, grid: Literal["both", "x"]) -> None:
    """Grid lines behind the marks, and no frame at the top and the right."""
    axes.grid(axis=grid, color=FAINT)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def empty_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches; its layout is computed when it is drawn."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
