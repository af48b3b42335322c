"""What a page shows of a Table: the rows that match, in order, one page of them, and summaries of columns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wandb_tl.local.pages.logged_tables import LoggedTable
from wandb_tl.local.pages.run_filter import (
    LONGEST,
    MOST_TERMS,
    FilterError,
    meets,
    tokens_of,
    value_is_missing,
)
from wandb_tl.local.pages.values import bins, is_number, show

ROWS, COLUMNS = 50, 300
BINS = 24
# The most frequent strings that a summary names.
FREQUENT = 3

Row = list[Any]


class Bin(NamedTuple):
    """A bar of a column's histogram: its height as a share of the largest, and what it stands for."""

    share: float
    text: str


@dataclass
class Column:
    """A column. kind: number, text or media; `words` and `bins` sum up the rows that match."""

    name: str
    kind: str
    words: list[str] = field(default_factory=list)
    bins: list[Bin] = field(default_factory=list)


@dataclass
class TableRows:
    """One page of the rows of a Table that match a filter.

    page: from 1. problem: of the filter. left_out: the number of columns beyond COLUMNS.
    """

    columns: list[Column]
    rows: list[Row]
    count: int
    total: int
    page: int
    pages: int
    sort: str
    filter: str
    problem: str
    left_out: int


def select(table: LoggedTable, filter: str = "", sort: str = "", page: int = 1) -> TableRows:
    """The page of a Table that a reader asks for. sort: "+NAME" or "-NAME" of a column."""
    problem = ""
    try:
        rows = matching(table, filter)
    except FilterError as error:
        rows, problem = table.rows, str(error)
    # The page shows no more, whatever a file holds.
    names = table.columns[:COLUMNS]
    columns = [summary(name, [row[i] for row in rows]) for i, name in enumerate(names)]
    direction, name = sort[:1], sort[1:]
    if direction in ("+", "-") and name in table.columns:
        place = table.columns.index(name)
        rows = ordered(rows, place, descending=direction == "-")
    pages = max(math.ceil(len(rows) / ROWS), 1)
    page = min(max(page, 1), pages)
    page_rows = [row[:COLUMNS] for row in rows[(page - 1) * ROWS : page * ROWS]]
    left_out = len(table.columns) - len(names)
    return TableRows(
        columns, page_rows, len(rows), len(table.rows), page, pages, sort, filter, problem, left_out
    )


def is_media_cell(value: Any) -> bool:
    return isinstance(value, dict) and "_type" in value


def ordered(rows: list[Row], place: int, descending: bool) -> list[Row]:
    """The rows by one column: numbers, then strings, and rows without a value at the end in either order."""

    def key(row: Row) -> tuple[int, float, str]:
        value = row[place]
        return (0, float(value), "") if is_number(value) else (1, 0.0, str(value))

    valued = [row for row in rows if _has_value(row[place])]
    rest = [row for row in rows if not _has_value(row[place])]
    return sorted(valued, key=key, reverse=descending) + rest


def _has_value(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def matching(table: LoggedTable, filter: str) -> list[Row]:
    """The rows that meet a filter such as `actual=shirt confidence>0.9 word`. Raises FilterError."""
    if len(filter) > LONGEST:
        raise FilterError(f"a filter can have {LONGEST:,} characters, not {len(filter):,}")
    tokens = tokens_of(filter)
    tests: list[Callable[[Row], bool]] = []
    while tokens:
        token = tokens.pop(0)
        if token.is_operator:
            raise FilterError(f"the name of a column is missing before {token.text}")
        if tokens and tokens[0].is_operator:
            operator = tokens.pop(0).text
            if not tokens or tokens[0].is_operator:
                raise FilterError(value_is_missing(token.text, [operator, *(one.text for one in tokens[:1])]))
            tests.append(_condition(table.columns, token.text, operator, tokens.pop(0).text))
        else:
            tests.append(_contains(token.text.lower()))
    if len(tests) > MOST_TERMS:
        raise FilterError(f"a filter can have {MOST_TERMS} conditions")
    return [row for row in table.rows if all(test(row) for test in tests)] if tests else table.rows


def _condition(columns: list[str], name: str, operator: str, operand: str) -> Callable[[Row], bool]:
    if name not in columns:
        raise FilterError(f"this Table has no column {name}")
    place = columns.index(name)
    try:
        number: float | None = float(operand)
    except ValueError:
        number = None
    if number is None and operator not in ("=", "!="):
        raise FilterError(f"{operator} takes a number, not {operand}")

    def test(row: Row) -> bool:
        return meets(row[place], operator, operand, number)

    return test


def _contains(word: str) -> Callable[[Row], bool]:
    return lambda row: any(word in str(value).lower() for value in row if not is_media_cell(value))


def summary(name: str, values: list[Any]) -> Column:
    """What a column's values are: the range, mean and histogram of numbers; the most frequent strings."""
    present = [value for value in values if _has_value(value)]
    missing = [f"{len(values) - len(present):,} missing"] if len(present) < len(values) else []
    if any(is_media_cell(value) for value in present):
        return Column(name, "media", missing)
    numbers = [float(value) for value in present if is_number(value)]
    if numbers and len(numbers) == len(present):
        low, high = min(numbers), max(numbers)
        # Divided first: the sum of large floats may overflow.
        mean = math.fsum(number / len(numbers) for number in numbers)
        words = [f"{show(low)} to {show(high)}, mean {show(mean)}", *missing]
        return Column(name, "number", words, _bins(numbers))
    counts = Counter(map(str, present))
    frequent = [
        f"{_shortened(text)} ({count:,})"
        for text, count in counts.most_common(FREQUENT)
        if len(counts) < len(present)
    ]
    return Column(name, "text", [f"{len(counts):,} different", *frequent, *missing])


def _shortened(text: str) -> str:
    return text if len(text) <= 24 else text[:23] + "…"


def _bins(numbers: list[float]) -> list[Bin]:
    low, half, counts = bins(numbers, BINS)
    if not half:
        return []
    largest = max(counts)
    edges = [low + 2 * i * half for i in range(BINS + 1)]
    return [
        Bin(count / largest, f"{show(edges[i])} to {show(edges[i + 1])}: {count:,}")
        for i, count in enumerate(counts)
    ]
