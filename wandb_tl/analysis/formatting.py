"""How tables, charts and sentences print accuracies, intervals, p-values, hyperparameters and row numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from wandb_tl.analysis.effects import Change
from wandb_tl.analysis.intervals import Mean
from wandb_tl.hyperparameters import Value

# The characters of Markdown and HTML, but for the underscore, which names of models and options have.
MARKDOWN = str.maketrans(
    {char: f"\\{char}" for char in "|*[]`"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\\": "&#92;"}
)


def points(mean: Mean, with_sign: bool = True) -> str:
    """Points of accuracy with their 95 % interval: "+13.10 ± 0.60"."""
    value = signed(mean.mean) if with_sign else f"{abs(mean.mean):.2f}"
    return with_interval(value, mean.half_width)


def accuracy(mean: float, half_width: float, low: float = math.nan) -> str:
    """An accuracy in per cent with its 95 % interval: "86.60 ± 0.59"; without one for a single run.

    low: the least accuracy on other test images. It is printed where all test images are right in all runs,
    which then show no spread: "100.00 (at least 92.9)".
    """
    if mean == 100 and not math.isnan(low):
        return f"100.00 (at least {low:.1f})"
    return with_interval(f"{mean:.2f}", half_width)


def with_interval(value: str, half_width: float) -> str:
    return value if math.isnan(half_width) else f"{value} ± {half_width:.2f}"


def probability(p: float) -> str:
    """A p-value: "0.032", "< 0.001"; empty for NaN. Few seeds do not support smaller ones."""
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def verdict(mean: Mean, settled: bool) -> str:
    """Whether a difference in points is settled; if not, its 95 % interval."""
    if settled:
        return "settled"
    if math.isnan(mean.half_width):
        return "no interval"
    if mean.mean == mean.half_width == 0:
        return "not settled: equal in each seed"
    between = f"between {signed(mean.mean - mean.half_width)} and {signed(mean.mean + mean.half_width)}"
    alone = "; its own interval leaves out 0" if abs(mean.mean) > mean.half_width else ""
    return f"not settled: {between}{alone}"


def signed(value: float) -> str:
    """A number of points with its sign: "+1.23"; zero has none."""
    text = f"{value:+.2f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def seconds(value: float) -> str:
    """A time: "0.91 s", "15.0 s", "312 s"."""
    return f"{value:,.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 1 else f"{value:.2f} s"


def number(value: float, form: str) -> str:
    """A number in a format such as "{:,.1f}"; empty for NaN."""
    return "" if math.isnan(value) else form.format(value)


def count(number: int, noun: str) -> str:
    """A number of things: "1 run", "40 runs"."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def level(value: Any) -> str:
    """A hyperparameter's value on one line; empty where it has no effect."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())


def changes_in_words(changes: Iterable[Change]) -> str:
    """What changes: "optimizer: Adam → SGD"; of a hyperparameter that it brings along, the value alone."""
    words = [
        f"{one.parameter}: {level(one.before)} → {level(one.after)}"
        if None not in (one.before, one.after)
        else f"{one.parameter}={level(one.after)}"
        for one in changes
        if one.after is not None
    ]
    return ", ".join(words)


def settings(values: Mapping[str, Value | None]) -> str:
    """Hyperparameters as code: "`lr=0.001`, `optimizer=Adam`"; without those that have no effect."""
    return ", ".join(code(f"{name}={level(value)}") for name, value in values.items() if value is not None)


def escaped(text: str) -> str:
    """A string as it is, in Markdown: no image, link, HTML, end of a cell, or emphasis by asterisks."""
    return text.translate(MARKDOWN)


def code(text: str) -> str:
    """A string as a code span of Markdown; nothing in it can end the span."""
    return "`" + " ".join(text.split()).replace("`", "'") + "`"


def rows_in_words(numbers: Iterable[int]) -> str:
    """Rows of a table: "row 3", "rows 1-3, 7"."""
    distinct = set(numbers)
    return f"{'row' if len(distinct) == 1 else 'rows'} {ranges(distinct)}"


def ranges(numbers: Iterable[int]) -> str:
    """Numbers, with consecutive ones joined: "1-3, 7"."""
    joined: list[list[int]] = []
    for number in sorted(set(numbers)):
        if joined and number == joined[-1][1] + 1:
            joined[-1][1] = number
        else:
            joined.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in joined)


def conjunction(words: list[str]) -> str:
    """Words as a list: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def equals(p: float) -> str:
    """A probability after "p": "= 0.012" or "< 0.001"."""
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"
