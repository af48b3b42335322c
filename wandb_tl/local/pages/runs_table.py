"""The table of runs: its columns, its rows and their order."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wandb_tl.local.pages.curves import FAMILY, family
from wandb_tl.local.pages.values import Run, is_number

ROWS = 100
# The number of summary columns that fit on a screen; the page has a link to all of them.
SUMMARY_COLUMNS = 12

OWN_COLUMNS = ("name", "state", "created", "duration")
TERM = re.compile(r"(.+?)(!=|>=|<=|=|>|<)(.*)")
BLANKS = re.compile(r"\s*(!=|>=|<=|=|>|<)\s*")


@dataclass
class Table:
    """The runs that match a filter, and one page of them.

    `columns` are keys for Run.value; `problem` says what is wrong with the filter, None for a valid one.
    """

    runs: list[Run]
    page_runs: list[Run]
    columns: list[str]
    hidden_columns: int
    sort: str
    filter: str
    page: int
    pages: int
    problem: str | None

    @property
    def numeric(self) -> set[str]:
        """The columns that hold numbers only."""
        values = {key: [run.value(key) for run in self.page_runs] for key in self.columns[len(OWN_COLUMNS) :]}
        return {key for key, column in values.items() if all(v is None or is_number(v) for v in column)}


def make(
    runs: list[Run],
    sort: str = "",
    filter: str = "",
    page: int = 1,
    metric: str | None = None,
    all_columns: bool = False,
) -> Table:
    """Filter and sort runs, and take a page of them. `metric` is the summary column to put first."""
    matches, problem = matching(runs, filter)
    columns, hidden = columns_of(matches or runs, metric, all_columns)
    ordered = ordered_by(matches, sort)
    pages = max(1, math.ceil(len(ordered) / ROWS))
    page = min(max(page, 1), pages)
    page_runs = ordered[(page - 1) * ROWS : page * ROWS]
    return Table(ordered, page_runs, columns, hidden, sort, filter, page, pages, problem)


def differing(runs: list[Run]) -> list[str]:
    """The config keys in which the runs differ, in the order of the configs."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [key for key in keys if len({repr(run.config.get(key)) for run in runs}) > 1]


def columns_of(runs: list[Run], metric: str | None, all_columns: bool) -> tuple[list[str], int]:
    """Column keys: own fields, config that differs, summary; and the number of summary keys left out.

    The metric comes first; keys with one value in all runs, and large families, come last.
    """
    keys = sorted({key for run in runs for key in run.summary})
    sizes = Counter(map(family, keys))
    alike = {key for key in keys if len(runs) > 1 and len({repr(run.summary.get(key)) for run in runs}) == 1}
    keys.sort(key=lambda key: (key != metric, key in alike, "/" in key and sizes[family(key)] > FAMILY))
    summary = keys
    if not all_columns:
        summary = [key for key in keys if key not in alike or key == metric][:SUMMARY_COLUMNS]
    config = differing(runs) if len(runs) > 1 else []
    columns = [*OWN_COLUMNS, *(f"config.{key}" for key in config), *(f"summary.{key}" for key in summary)]
    return columns, len(keys) - len(summary)


def ordered_by(runs: list[Run], sort: str) -> list[Run]:
    """The runs ordered by "+key" or "-key", by default newest first. Runs without the key come last."""
    if not sort:
        return sorted(runs, key=lambda run: run.row["id"], reverse=True)
    key, down = sort.lstrip("+- "), sort.startswith("-")
    have: list[Run] = []
    lacking: list[Run] = []
    for run in runs:
        value = run.value(key)
        # A number cannot be compared with NaN, nor with an integer beyond the range of floats.
        lacks = value in (None, "") or (isinstance(value, (int, float)) and not _orderable(value))
        (lacking if lacks else have).append(run)
    return [*sorted(have, key=lambda run: _rank(run.value(key)), reverse=down), *lacking]


def _orderable(value: float) -> bool:
    return is_number(value) or isinstance(value, bool) or (isinstance(value, float) and math.isinf(value))


def _rank(value: Any) -> tuple[bool, float, str]:
    """A key that sorts numbers before strings, for columns with both."""
    if isinstance(value, (bool, int, float)):
        return False, float(value), ""
    return True, 0.0, str(value).lower()


def matching(runs: list[Run], text: str) -> tuple[list[Run], str | None]:
    """The runs that meet every term: `lr>0.01`, `optimizer=Adam`, `state!=failed`, or a string in a value.

    Also returns a line about what is wrong with the filter, or None.
    """
    try:
        terms = shlex.split(BLANKS.sub(r"\1", text))
    except ValueError:
        return runs, "a quote in the filter is not closed"
    for term in terms:
        parts = TERM.fullmatch(term)
        if parts is None:
            runs = [run for run in runs if _contains(run, term.lower())]
            continue
        name, operator, operand = parts.groups()
        if runs and not any(_value(run, name) is not None for run in runs):
            return [], f"no run has {name}"
        runs = [run for run in runs if _holds(_value(run, name), operator, operand)]
    return runs, None


def _value(run: Run, name: str) -> Any:
    if name == "tag":
        return run.tags or None
    for key in (name, f"config.{name}", f"summary.{name}"):
        if (value := run.value(key)) is not None:
            return value
    return None


def _contains(run: Run, term: str) -> bool:
    own = (run.name, run.id, run.state, run.group or "", run.sweep or "", *run.tags)
    return any(term in str(value).lower() for value in (*own, *run.config.values()))


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}


def _holds(value: Any, operator: str, operand: str) -> bool:
    if isinstance(value, list):
        return (operand in value) == (operator == "=")
    if value is None:
        return operator == "!="
    try:
        if isinstance(value, float) or is_number(value):
            return COMPARE[operator](value, float(operand))
    except ValueError:
        pass
    return COMPARE[operator](str(value).lower(), operand.lower())
