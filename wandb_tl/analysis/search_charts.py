"""The metric of a search against each hyperparameter, as one matplotlib figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wandb_tl.analysis import charts
from wandb_tl.analysis.formatting import level
from wandb_tl.analysis.runs_by_recipe import METRIC, in_order
from wandb_tl.analysis.searches import Hyperparameter, Search
from wandb_tl.figures.canvas import BLUE, GREY, ORANGE, VERMILION

# Panels of the figure, and those of a line.
MOST_PANELS, COLUMNS = 12, 3
# Inches.
WIDTH, HEIGHT = 3.0, 2.5
# The longest name of a value, in characters; more names than that are drawn at an angle.
LONGEST, MOST_UPRIGHT = 14, 4
# Logarithmic axes that are shorter than this factor have ticks at their ends and in the middle.
DECADES = 100
# Recipes with the same one of a few values stand side by side in so many places. They are in the order of the
# metric: in consecutive places they would form lines that mean nothing.
PLACES, STEP = 7, 3
LABELS = {METRIC: "test accuracy, %", "val/accuracy": "validation accuracy"}


def hyperparameters(search: Search) -> Figure:
    """A panel per hyperparameter. The best quarter is blue, the best recipe orange, crosses diverged."""
    drawn = search.hyperparameters[:MOST_PANELS]
    columns = min(len(drawn), COLUMNS)
    lines = math.ceil(len(drawn) / columns)
    figure = charts.empty_figure(max(WIDTH * columns, 4.5) + 0.4, HEIGHT * lines + 0.4)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, one in zip(panels.flat, drawn, strict=False):
        _panel(axes, one, search)
    for axes in panels.flat[len(drawn) :]:
        axes.set_visible(False)
    figure.supylabel(LABELS.get(search.judged_by, search.judged_by), fontsize=10)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def _panel(axes: Axes, one: Hyperparameter, search: Search) -> None:
    numbers = [value for value in search.metric if not math.isnan(value)]
    bottom = min(numbers, default=0) - 0.08 * ((max(numbers, default=1) - min(numbers, default=0)) or 1)
    heights = [bottom if math.isnan(value) else value for value in search.metric]
    places = _places(one)
    groups = [
        ("other recipes", range(search.quarter, len(heights) - search.diverged), GREY, "o", 16),
        ("diverged", range(len(heights) - search.diverged, len(heights)), VERMILION, "x", 26),
        ("best quarter", range(1, search.quarter), BLUE, "o", 30),
        ("best recipe", range(1), ORANGE, "o", 70),
    ]
    for label, recipes, colour, marker, size in groups:
        if len(recipes) == 0:
            continue
        # A recipe in which the hyperparameter has no effect is not in its panel.
        x, y = [places[i] for i in recipes], [heights[i] for i in recipes]
        axes.scatter(x, y, s=size, color=colour, marker=marker, label=label, zorder=3)
    _axis(axes, one)
    axes.set_title(one.name, fontsize=10, parse_math=False)
    charts.clean(axes, "both")
    axes.tick_params(labelsize=9)


def _is_category(one: Hyperparameter) -> bool:
    """Whether a panel has a place for each value in place of a scale."""
    return one.space is None or bool(one.space.listed and one.counts)


def _places(one: Hyperparameter) -> Sequence[float]:
    """Where each recipe stands on the axis; NaN without effect."""
    if not _is_category(one):
        return [math.nan if value is None else float(value) for value in one.values]
    levels = in_order(value for value in one.values if value is not None)
    numbers: dict[object, int] = {}
    places = []
    for value in one.values:
        if value is None:
            places.append(math.nan)
            continue
        number = numbers[value] = numbers.get(value, -1) + 1
        places.append(levels.index(value) + 0.08 * (STEP * number % PLACES - PLACES // 2))
    return places


def _axis(axes: Axes, one: Hyperparameter) -> None:
    """The scale of a panel, its ends, and the range of the best quarter as a band."""
    if one.space is None or _is_category(one):
        levels = in_order(value for value in one.values if value is not None)
        names = [level(value) for value in levels]
        short = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
        axes.set_xticks(range(len(levels)), short, parse_math=False)
        if len(levels) > MOST_UPRIGHT:
            axes.tick_params(axis="x", rotation=30)
            for name in axes.get_xticklabels():
                name.set(ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(levels) - 0.5)
        return
    if one.space.logarithmic:
        axes.set_xscale("log")
        if one.space.high / one.space.low < DECADES:
            # On so short an axis the ticks would be too few, or their names too long.
            ticks = [one.space.at(share) for share in (0, 0.5, 1)]
            axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            axes.minorticks_off()
    axes.set_xlim(one.space.at(-0.05), one.space.at(1.05))
    if one.best_quarter:
        low, high = (float(value) for value in (one.best_quarter[0], one.best_quarter[-1]))
        axes.axvspan(low, high, color=BLUE, alpha=0.1, linewidth=0)
