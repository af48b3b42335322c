"""The table of runs: which columns it has, which rows, and in which order."""

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
# As many summary columns as can be looked over; the page has a link to all of them.
SUMMARY_COLUMNS = 12

OWN_COLUMNS = ("name", "state", "created", "duration")
TERM = re.compile(r"(.+?)(!=|>=|<=|=|>|<)(.*)")
BLANKS = re.compile(r"\s*(!=|>=|<=|=|>|<)\s*")


@dataclass
class Table:
    """One page of a table of runs. `columns` are keys for Run.value; `problem` says what the filter lacks."""

    runs: list[Run]
    shown: list[Run]
    columns: list[str]
    hidden_columns: int
    sort: str
    filter: str
    page: int
    pages: int
    problem: str | None

    @property
    def numeric(self) -> set[str]:
        """The columns that hold nothing but numbers."""
        values = {key: [run.value(key) for run in self.shown] for key in self.columns[len(OWN_COLUMNS) :]}
        return {key for key, column in values.items() if all(v is None or is_number(v) for v in column)}


def make(
    runs: list[Run],
    sort: str = "",
    filter: str = "",
    page: int = 1,
    metric: str | None = None,
    all_columns: bool = False,
) -> Table:
    """Filter, sort and cut; `metric` is the summary column that matters most and stands first."""
    chosen, problem = matching(runs, filter)
    columns, hidden = columns_of(chosen or runs, metric, all_columns)
    ordered = ordered_by(chosen, sort)
    pages = max(1, math.ceil(len(ordered) / ROWS))
    page = min(max(page, 1), pages)
    shown = ordered[(page - 1) * ROWS : page * ROWS]
    return Table(ordered, shown, columns, hidden, sort, filter, page, pages, problem)


def differing(runs: list[Run]) -> list[str]:
    """The config keys in which the runs are not all alike, in the order in which they were given."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [key for key in keys if len({repr(run.config.get(key)) for run in runs}) > 1]


def columns_of(runs: list[Run], metric: str | None, all_columns: bool) -> tuple[list[str], int]:
    """Column keys: own fields, config that differs, summary; and how many of the summary were left out.

    The metric comes first; what is the same in all runs, and large families, come last.
    """
    keys = sorted({key for run in runs for key in run.summary})
    sizes = Counter(map(family, keys))
    alike = {key for key in keys if len(runs) > 1 and len({repr(run.summary.get(key)) for run in runs}) == 1}
    keys.sort(key=lambda key: (key != metric, key in alike, "/" in key and sizes[family(key)] > FAMILY))
    kept = (
        keys if all_columns else [key for key in keys if key not in alike or key == metric][:SUMMARY_COLUMNS]
    )
    config = differing(runs) if len(runs) > 1 else []
    columns = [*OWN_COLUMNS, *(f"config.{key}" for key in config), *(f"summary.{key}" for key in kept)]
    return columns, len(keys) - len(kept)


def ordered_by(runs: list[Run], sort: str) -> list[Run]:
    """By "+key" or "-key"; newest first without one. Runs that lack the key come last either way."""
    if not sort:
        return sorted(runs, key=lambda run: run.row["id"], reverse=True)
    key, down = sort.lstrip("+- "), sort.startswith("-")
    have, lacking = [], []
    for run in runs:
        value = run.value(key)
        # What cannot be ordered among numbers: nothing, NaN, and integers that no float holds.
        lacks = value in (None, "") or (isinstance(value, (int, float)) and not _orderable(value))
        (lacking if lacks else have).append(run)
    return [*sorted(have, key=lambda run: _rank(run.value(key)), reverse=down), *lacking]


def _orderable(value: float) -> bool:
    return is_number(value) or isinstance(value, bool) or (isinstance(value, float) and math.isinf(value))


def _rank(value: Any) -> tuple[bool, float, str]:
    """Numbers before texts, so that a column of both can be sorted."""
    if isinstance(value, (bool, int, float)):
        return False, float(value), ""
    return True, 0.0, str(value).lower()


def matching(runs: list[Run], text: str) -> tuple[list[Run], str | None]:
    """The runs for which every term holds: `lr>0.01`, `optimizer=Adam`, `state!=failed`, or a text in it.

    Also gives what is wrong with the filter, in a line, or None.
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
        name, operator, wanted = parts.groups()
        if runs and not any(_looked_up(run, name) is not None for run in runs):
            return [], f"no run has {name}"
        runs = [run for run in runs if _holds(_looked_up(run, name), operator, wanted)]
    return runs, None


def _looked_up(run: Run, name: str) -> Any:
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


def _holds(value: Any, operator: str, wanted: str) -> bool:
    if isinstance(value, list):
        return (wanted in value) == (operator == "=")
    if value is None:
        return operator == "!="
    try:
        if isinstance(value, float) or is_number(value):
            return COMPARE[operator](value, float(wanted))
    except ValueError:
        pass
    return COMPARE[operator](str(value).lower(), wanted.lower())
