"""Figures of a run's numbers: confusion matrix, scores by class, reliability, and curves.

They are not shown on a screen or registered with pyplot. All but the curves are one page in pixels, as large
as their parts need (see canvas).
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from wandb_tl.figures import canvas
from wandb_tl.figures.canvas import BLUE, END, FAINT, GREY, MIDDLE, START, UPRIGHT, VERMILION, Options
from wandb_tl.training.evaluate import ReliabilityBins

# With more classes, a confusion matrix has no space for numbers in its cells and lists its worst pairs.
CLASSES_COUNTED = 20
PAIRS_LISTED = 12
# An axis has space for this many names of classes.
CLASSES_NAMED = 100
CLASSES_REPORTED = 40


# Not ConfusionMatrixDisplay of scikit-learn or plot of torchmetrics: with 100 classes their mistakes are too
# pale to see and their labels overlap, and they show neither shares nor the pairs confused most often.
def confusion_matrix(confusion: Tensor, class_names: list[str], title: str) -> Figure:
    """Counts (K, K), actual by predicted: hits in blue, mistakes in orange, by the share of the actual class.

    For up to 20 classes, each cell has its count and its percentage of the actual class. For more, the pairs
    that are confused most often are listed below.
    """
    counts = confusion.numpy()
    classes = len(class_names)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [canvas.shortened(name) for name in class_names]
    with_counts = classes <= CLASSES_COUNTED
    side = min(170 * classes, max(680, 50 * classes)) if with_counts else min(max(1000, 13 * classes), 1300)
    middles = (np.arange(classes) + 0.5) * side / classes
    labelled = np.arange(0, classes, math.ceil(classes / CLASSES_NAMED))

    # Small enough that names do not touch each other and leave most of the page to the matrix.
    letters = min(side / len(labelled) / (1.2 * canvas.POINT), 14)
    letters = canvas.fitting_letters(names, max(0.35 * side, 220), letters)
    name = canvas.widest(names, letters)
    width = round(max(name + 76 + side, 400))
    left = (width - side + name + 36) / 2
    larger = max(width / 80, 11)
    line = 1.5 * larger * canvas.POINT
    title, top = canvas.wrapped(title, width)
    top += 0 if with_counts else round(2 * line)
    right, bottom = left + side, top + side
    slant = 45 if classes <= 40 else 90
    below = bottom + name * math.sin(math.radians(slant)) + letters * canvas.POINT + 40
    pairs = [] if with_counts else _confused_pairs(counts, shares, names)
    height = below + (line * (math.ceil(len(pairs) / 2) + 1.5) if pairs else 0)

    axes = canvas.page(width, round(height), title)
    canvas.image(axes, _hits_and_mistakes(shares), (left, right, bottom, top))
    if with_counts:
        edges = np.arange(1, classes) * side / classes
        axes.hlines(top + edges, left, right, FAINT, linewidth=0.8)
        axes.vlines(left + edges, bottom, top, FAINT, linewidth=0.8)
        _counts(axes, counts, shares, left + middles, top + middles, side / classes)
    else:
        _share_scale(axes, left, right, top, larger)
    canvas.frame(axes, left, right, bottom, top)
    axes.hlines(top + middles[labelled], left - 5, left, "black", linewidth=0.8)
    axes.vlines(left + middles[labelled], bottom, bottom + 5, "black", linewidth=0.8)
    slanted: Options = {"ha": "right", "va": "center", "rotation": slant, "rotation_mode": "anchor"}
    for i in labelled:
        canvas.text(axes, left - 9, top + middles[i], names[i], letters, **END)
        canvas.text(axes, left + middles[i], bottom + 10, names[i], letters, **slanted)
    canvas.text(axes, left - name - 28, (top + bottom) / 2, "actual", larger, **UPRIGHT)
    canvas.text(axes, (left + right) / 2, below - 18, "predicted", larger, **MIDDLE)
    if pairs:
        heading = "confused most often: actual → predicted, images (per cent of the actual class)"
        canvas.text(axes, 24, below + 0.5 * line, heading, 0.85 * larger, color=GREY, **START)
        canvas.two_columns(axes, pairs, width, below + line, line, larger)
    return canvas.figure_of(axes)


def _hits_and_mistakes(shares: np.ndarray) -> np.ndarray:
    """Colours uint8 (K, K, 3) of shares, by their square roots, so that rare mistakes can be seen."""
    diagonal = np.eye(len(shares), dtype=bool)[..., None]
    full = np.where(diagonal, to_rgb(BLUE), to_rgb(VERMILION))
    colours: np.ndarray = np.round(255 * (1 - np.sqrt(shares)[..., None] * (1 - full))).astype(np.uint8)
    return colours


def _counts(
    axes: Axes, counts: np.ndarray, shares: np.ndarray, x: np.ndarray, y: np.ndarray, cell: float
) -> None:
    """Each count but zero in the middle of its cell, above its percentage."""
    letters = canvas.fitting_letters([str(counts.max())], 0.85 * cell, min(0.23 * cell, 16))
    for row, column in np.argwhere(counts > 0):
        share = shares[row, column]
        # Black is legible on every shade but the darker blues.
        colour = "white" if row == column and share > 0.7 else "black"
        upper, lower = y[row] - 0.65 * letters, y[row] + 0.95 * letters
        canvas.text(axes, x[column], upper, str(counts[row, column]), letters, color=colour, **MIDDLE)
        canvas.text(axes, x[column], lower, _per_cent(share), 0.75 * letters, color=colour, **MIDDLE)


def _per_cent(share: float) -> str:
    """A share as a whole percentage; only 0 and 1 themselves are shown as 0% and 100%."""
    if share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{100 * share:.0f}%"


def _share_scale(axes: Axes, left: float, right: float, bottom: float, letters: float) -> None:
    """The legend of a confusion matrix's colours, above its right half."""
    height = letters * canvas.POINT
    start, end, top = (left + right) / 2, right - 2 * height, bottom - 2.4 * height
    ramp = np.linspace(0, 1, 128)[:, None]
    for i, colour in enumerate((BLUE, VERMILION)):
        colours = np.round(255 * (1 - ramp * (1 - np.array(to_rgb(colour))))).astype(np.uint8)
        edges = (start, end, top + (i + 1) * height / 2, top + i * height / 2)
        canvas.image(axes, colours[None], edges)
    canvas.frame(axes, start, end, top + height, top)
    for share in (0, 0.01, 0.1, 0.25, 0.5, 1):
        x = start + math.sqrt(share) * (end - start)
        canvas.text(axes, x, top + 1.7 * height, f"{100 * share:.0f}%", 0.8 * letters, **MIDDLE)
    label = "share of the actual class: right, wrong"
    canvas.text(axes, start - height, top + 0.5 * height, label, 0.8 * letters, **END)


def _confused_pairs(counts: np.ndarray, shares: np.ndarray, names: list[str]) -> list[tuple[str, str]]:
    """The most frequent mistakes as "actual → predicted" and "count (percentage of the actual class)"."""
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS_LISTED]
    pairs = [divmod(place, len(counts)) for place in order if wrong.flat[place]]
    return [(f"{names[i]} → {names[j]}", f"{wrong[i, j]} ({_per_cent(shares[i, j])})") for i, j in pairs]


def class_report(
    precision: list[float],
    recall: list[float],
    f1: list[float],
    images: list[int],
    class_names: list[str],
    title: str,
) -> Figure:
    """Precision, recall and F1 of the 40 classes with the lowest F1, the lowest first.

    Values of NaN have no mark.
    """
    scores = np.array([precision, recall, f1], dtype=float)
    worst = np.argsort(scores[2], kind="stable")[:CLASSES_REPORTED]
    if len(worst) < len(class_names):
        title += f"\nthe {len(worst)} of {len(class_names)} classes with the lowest F1"
    names = [canvas.shortened(class_names[i]) for i in worst]
    width, pitch = 820, 30
    title, top = canvas.wrapped(title, width)
    letters = canvas.fitting_letters(names, 260)
    name = 16 + canvas.widest(names, letters)
    left, right, top = name + 90, width - 70, top + 2 * pitch
    bottom = top + pitch * len(worst)
    y = top + pitch * (np.arange(len(worst)) + 0.5)
    values = scores[:, worst]
    lowest = np.nanmin(values) if np.isfinite(values).any() else 0
    start = min(math.floor(10 * lowest) / 10, 0.9)
    x = left + (values - start) / (1 - start) * (right - left)

    axes = canvas.page(width, round(bottom + 44), title)
    for tick in np.arange(1, start - 1e-9, -0.1 if start >= 0.5 else -0.2):
        place = left + (tick - start) / (1 - start) * (right - left)
        axes.vlines(place, bottom, top, FAINT, linewidth=1)
        canvas.text(axes, place, bottom + 22, f"{tick:.1f}", **MIDDLE)
    axes.hlines(y, left, right, FAINT, linewidth=1)
    some = np.isfinite(x).any(0)
    axes.hlines(y[some], np.nanmin(x[:, some], 0), np.nanmax(x[:, some], 0), GREY, linewidth=2)
    # The mark of precision is above its row and that of recall below, so that no mark hides another.
    styles = (("precision", "v", canvas.ORANGE, -8), ("recall", "^", canvas.GREEN, 8), ("F1", "o", BLUE, 0))
    for i, (label, marker, colour, down) in enumerate(styles):
        mark: Options = {"marker": marker, "color": colour, "markersize": 7.5}
        axes.plot(x[i], y + down, linestyle="none", **mark)
        place = left + 8 + i * 130
        axes.plot([place], [top - 1.4 * pitch], **mark)
        canvas.text(axes, place + 14, top - 1.4 * pitch, label, **START)
    canvas.text(axes, left - 14, top - 0.5 * pitch, "images", color=GREY, **END)
    canvas.text(axes, width - 12, top - 0.5 * pitch, "F1", color=BLUE, **END)
    for row, i in enumerate(worst):
        canvas.text(axes, name, y[row], names[row], letters, **END)
        canvas.text(axes, left - 14, y[row], str(images[i]), letters, color=GREY, **END)
        if np.isfinite(f1[i]):
            canvas.text(axes, width - 12, y[row], f"{f1[i]:.2f}", color=BLUE, **END)
    return canvas.figure_of(axes)


def reliability(bins: ReliabilityBins, ece: float, title: str) -> Figure:
    """Accuracy by confidence, with the diagonal of a calibrated model, above the images of each bin."""
    count, confidence, accuracy = map(np.array, (bins.count, bins.confidence, bins.accuracy))
    width, left, right = 640, 84, 616
    title, top = canvas.wrapped(title, width)
    top += 12
    side = right - left
    bottom, low, high = top + side, top + side + 190, top + side + 64
    filled = count > 0
    edges = np.linspace(left, right, len(count) + 1)
    x = np.stack([edges[:-1] + 1.5, edges[1:] - 1.5], 1)
    right_of, sure_of = bottom - accuracy * side, bottom - confidence * side

    axes = canvas.page(width, low + 76, title)
    ticks = np.linspace(0, 1, 6)
    axes.hlines(bottom - ticks * side, left, right, FAINT, linewidth=1, zorder=0)
    axes.vlines(left + ticks * side, bottom, top, FAINT, linewidth=1, zorder=0)
    canvas.bars(axes, x[filled], np.stack([np.full(len(count), bottom), right_of], 1)[filled], facecolor=BLUE)
    gap: Options = {"facecolor": "#FFFFFF99", "edgecolor": VERMILION, "hatch": "///", "linewidth": 1}
    canvas.bars(axes, x[filled], np.stack([right_of, sure_of], 1)[filled], **gap)
    axes.plot([left, right], [bottom, top], color="black", linestyle="--", linewidth=1)
    canvas.frame(axes, left, right, bottom, top)
    tallest = (low - high) * count / max(count.max(), 1)
    canvas.bars(axes, x, np.stack([np.full(len(count), low), low - tallest], 1), facecolor=GREY)
    axes.hlines(low, left, right, "black", linewidth=0.8)

    total = max(count.sum(), 1)
    canvas.text(axes, left + 14, top + 26, f"ECE {ece:.3f}", 16, **START)
    means = f"accuracy {count @ accuracy / total:.3f}\nmean confidence {count @ confidence / total:.3f}"
    canvas.text(axes, left + 14, top + 46, means, va="top", linespacing=1.4)
    key = np.array([[left + 14, left + 36]])
    legend: list[tuple[str, Options]] = [("accuracy", {"facecolor": BLUE}), ("gap to the confidence", gap)]
    for i, (label, style) in enumerate(legend):
        y = top + 116 + 26 * i
        canvas.bars(axes, key, np.array([[y + 8, y - 8]]), **style)
        canvas.text(axes, left + 44, y, label, **START)
    letters = canvas.fitting_letters(map(str, bins.count), side / len(count) - 2, 9)
    for place, height, images in zip(x[filled].mean(1), tallest[filled], count[filled], strict=True):
        canvas.text(axes, place, low - height - 9, str(images), letters, **MIDDLE)
    for tick in ticks:
        canvas.text(axes, left - 10, bottom - tick * side, f"{tick:.1f}", **END)
        canvas.text(axes, left + tick * side, low + 18, f"{tick:.1f}", **MIDDLE)
    canvas.text(axes, 22, (top + bottom) / 2, "accuracy", **UPRIGHT)
    canvas.text(axes, 22, (low + high) / 2, "images", **UPRIGHT)
    canvas.text(axes, (left + right) / 2, low + 52, "confidence", **MIDDLE)
    return canvas.figure_of(axes)


def curves(rows: list[dict[str, float]], title: str) -> Figure:
    """Loss and accuracy by epoch, and the learning rate if the rows have it.

    rows: one per finished epoch, with `epoch`, `train/loss`, `test/loss`, …
    """
    width, height = 880, 374
    title, top = canvas.wrapped(title, width)
    figure = canvas.titled(width, height, title)
    epochs = [row["epoch"] for row in rows]
    margin = 0.05 * (epochs[-1] - epochs[0]) or 0.5
    panels = [("loss", 0, 440), ("accuracy", 440, 880)]
    if "train/lr" in rows[0]:
        panels = [("loss", 0, 330), ("accuracy", 330, 660), ("lr", 660, 880)]
    for metric, start, end in panels:
        axes = figure.add_axes((0, 58 / height, 0.4, 1 - (top + 58) / height))
        for split, colour, marker in (
            ("train", BLUE, "o"),
            ("val", VERMILION, "^"),
            ("test", canvas.ORANGE, "s"),
        ):
            if f"{split}/{metric}" in rows[0]:
                values = [row[f"{split}/{metric}"] for row in rows]
                axes.plot(epochs, values, color=colour, marker=marker, markersize=4, label=split)
        axes.set_xlabel("epoch", fontsize=12)
        axes.set_ylabel("learning rate" if metric == "lr" else metric, fontsize=12)
        axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
        axes.tick_params(labelsize=11)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=(end - start) // 60))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if metric == "lr":
            axes.set_ylim(bottom=0)
        else:
            axes.legend(frameon=False, fontsize=11)
        # The axes needs its data before the width of its numbers is known.
        numbers = axes.yaxis.get_tightbbox()
        assert numbers is not None
        left = start + 6 + axes.bbox.x0 - numbers.x0
        above = top + max(numbers.y1 - axes.bbox.y1, 0)
        axes.set_position((left / width, 58 / height, (end - 14 - left) / width, 1 - (above + 58) / height))
    return figure
