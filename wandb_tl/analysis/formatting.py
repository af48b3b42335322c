"""How tables, charts and sentences print accuracies, intervals, p-values, hyperparameters and row numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from wandb_tl.analysis.effects import Comparison
from wandb_tl.analysis.intervals import Mean


def points(mean: Mean, signed: bool = True) -> str:
    """Points of accuracy with their 95 % interval: "+13.10 ± 0.60"."""
    value = f"{mean.mean:+.2f}" if signed else f"{abs(mean.mean):.2f}"
    # Zero has no sign, nor has what rounds to it.
    value = value.lstrip("+-") if float(value) == 0 else value.replace("-", "\N{MINUS SIGN}")
    return with_interval(value, mean.half_width)


def accuracy(mean: float, half_width: float) -> str:
    """An accuracy in per cent with its 95 % interval: "86.60 ± 0.59"; without one for a single run."""
    return with_interval(f"{mean:.2f}", half_width)


def with_interval(value: str, half_width: float) -> str:
    return value if math.isnan(half_width) else f"{value} ± {half_width:.2f}"


def probability(p: float) -> str:
    """A p-value: "p = 0.032", "p < 0.0001"."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.3g}"


def number(value: float, form: str) -> str:
    """A number in a format such as "{:,.1f}"; empty for NaN."""
    return "" if math.isnan(value) else form.format(value)


def count(number: int, noun: str) -> str:
    """A number of things: "1 run", "40 runs"."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def level(value: Any) -> str:
    """A hyperparameter's value on one line; empty where it has no effect."""
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())


def changes_in_words(comparison: Comparison) -> str:
    """What a comparison compares: "optimizer: Adam → SGD", for an interaction both changes."""
    return " x ".join(f"{one.parameter}: {level(one.low)} → {level(one.high)}" for one in comparison.changes)


def code(text: str) -> str:
    """A string as a code span of Markdown; nothing in it can end the span."""
    return "`" + " ".join(text.split()).replace("`", "'") + "`"


def rows_in_words(numbers: Iterable[int]) -> str:
    """Rows of a table: "row 3", "rows 1-3, 7"."""
    distinct = set(numbers)
    return f"{'row' if len(distinct) == 1 else 'rows'} {ranges(distinct)}"


def rows_of(comparison: Comparison, row_of_each_run: dict[str, int]) -> str:
    """The rows of the table that a comparison rests on: "rows 1-4 against 5-8"."""
    sides = [
        {row_of_each_run[run] for block in comparison.blocks for run in block.runs[side]}
        for side in range(len(comparison.blocks[0].runs))
    ]
    if comparison.kind == "interaction":
        return f"rows {ranges(set().union(*sides))}"
    low, high = sides
    return f"{rows_in_words(high)} against {ranges(low)}"


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
