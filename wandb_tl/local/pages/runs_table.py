"""The table of runs: what the reader chose, its columns, its rows and their order."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from starlette.datastructures import QueryParams

from wandb_tl.local.pages.curves import FAMILY, family
from wandb_tl.local.pages.labels import differing
from wandb_tl.local.pages.run_filter import matching
from wandb_tl.local.pages.values import Run, is_number

ROWS = 100
# The number of summary columns that fit on a screen, and of config columns; the page has a link to more.
SUMMARY_COLUMNS, CONFIG_COLUMNS = 12, 50
# Those in the table of recipes, where each has an interval.
RECIPE_COLUMNS = 5
# Of keys that can be chosen one by one, and of columns at most, of configs and of summaries each.
CHOICES = 300
# The number of runs whose configs are compared side by side, and of keys.
COMPARED_CONFIGS, COMPARED_KEYS = 20, 500

# A run's own fields: those that are columns without a choice, and those that can be chosen. The name is
# always a column.
OWN_COLUMNS = ("state", "created", "duration")
OWN_CHOICES = (*OWN_COLUMNS, "id", "group", "job_type", "sweep")
# Numbers that say how far a run came, not how good it is.
COUNTERS = ("epoch", "step", "global_step", "iteration", "batch", "runtime", "timestamp")


@dataclass(frozen=True)
class Choice:
    """What the reader chose, as the address of the page keeps it.

    sort: "+key" or "-key", "" for the newest first. columns: keys of chosen columns, empty for those that the
    server chooses. ticked, pinned: ids of runs. baseline: the id of the run that others are compared with.
    """

    sort: str = ""
    filter: str = ""
    page: int = 1
    columns: tuple[str, ...] = ()
    all_columns: bool = False
    ticked: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    baseline: str = ""
    all_config: bool = False

    def sorted_by_default(self, sort: str) -> Choice:
        """This choice, with another order than newest first if the reader chose none."""
        return self if self.sort else replace(self, sort=sort)


def choice(query: QueryParams, page: int) -> Choice:
    """The reader's choice in the query of an address."""
    return Choice(
        sort=query.get("sort", ""),
        filter=query.get("filter", ""),
        page=page,
        columns=tuple(query.getlist("column")),
        all_columns=query.get("columns") == "all",
        ticked=tuple(query.getlist("run")),
        pinned=tuple(query.getlist("pin")),
        baseline=query.get("baseline", ""),
        all_config=query.get("config") == "all",
    )


class Columns(NamedTuple):
    """The keys of the columns, for Run.value; of the metric's one, None without a metric; all that there are.

    hidden: how many keys that could be columns are left out.
    """

    keys: list[str]
    metric: str | None
    choices: dict[str, list[str]]
    hidden: int


class Differences(NamedTuple):
    """The configs of some runs side by side: (key, one value per run) for each row."""

    runs: list[Run]
    rows: list[tuple[str, list[Any]]]
    all_keys: bool


@dataclass
class Table:
    """The runs that match a filter, and one page of them.

    `top`: the baseline, the pinned runs, and ticked runs of other pages, which stay in sight. `problem` says
    what is wrong with the filter, None for a valid one.
    """

    runs: list[Run]
    page_runs: list[Run]
    top: list[Run]
    columns: Columns
    choice: Choice
    page: int
    pages: int
    problem: str | None
    ticked: list[Run]
    baseline: Run | None

    @property
    def rest(self) -> list[Run]:
        """The runs of the page below `top`."""
        top = {run.id for run in self.top}
        return [run for run in self.page_runs if run.id not in top]

    @cached_property
    def classes(self) -> dict[str, str]:
        """The CSS classes of each column's cells. Phones do not show those that are extra."""
        runs = [*self.top, *self.page_runs]
        in_sight = ("name", "state", self.columns.metric)
        return {
            key: " ".join(
                name
                for name, holds in (
                    ("number", key == "duration" or ("." in key and _holds_numbers(runs, key))),
                    ("extra", key not in in_sight),
                )
                if holds
            )
            for key in self.columns.keys
        }

    @cached_property
    def differences(self) -> Differences | None:
        """Of the configs of the ticked runs, None for fewer than two."""
        runs = self.ticked[:COMPARED_CONFIGS]
        if len(runs) < 2:
            return None
        all_keys = dict.fromkeys(key for run in runs for key in run.config)
        keys = all_keys if self.choice.all_config else differing(runs)
        rows = [(key, [run.config.get(key) for run in runs]) for key in list(keys)[:COMPARED_KEYS]]
        return Differences(runs, rows, self.choice.all_config)

    def difference(self, run: Run, key: str) -> float | None:
        """The run's value of a metric minus the baseline's; None for a value that is not a number."""
        if self.baseline is None or run.id == self.baseline.id or not key.startswith("summary."):
            return None
        value, base = run.value(key), self.baseline.value(key)
        return float(value) - float(base) if is_number(value) and is_number(base) else None


def make(runs: list[Run], choice: Choice, metric: str | None = None) -> Table:
    """Filter and sort runs, and take a page of them. `metric` is the summary key to put first."""
    matches, problem = matching(runs, choice.filter)
    ordered = ordered_by(matches, choice.sort)
    pages = max(1, math.ceil(len(ordered) / ROWS))
    page = min(max(choice.page, 1), pages)
    page_runs = ordered[(page - 1) * ROWS : page * ROWS]
    by_id = {run.id: run for run in runs}
    ticked = [by_id[id] for id in dict.fromkeys(choice.ticked) if id in by_id]
    baseline = by_id.get(choice.baseline)
    on_page = {run.id for run in page_runs}
    elsewhere = [run.id for run in ticked if run.id not in on_page]
    top = [by_id[id] for id in dict.fromkeys((choice.baseline, *choice.pinned, *elsewhere)) if id in by_id]
    columns = columns_of(matches or runs, metric, choice)
    return Table(ordered, page_runs, top, columns, choice, page, pages, problem, ticked, baseline)


def columns_of(runs: list[Run], metric: str | None, choice: Choice) -> Columns:
    """The name, the metric, own fields, config, summary. Without a choice, of the config what differs.

    Summary keys with one value in all runs, and large families, come last.
    """
    summary, alike, metric = _summary_keys(runs, metric)
    config = dict.fromkeys(key for run in runs for key in run.config)
    choices = {
        "own": list(OWN_CHOICES),
        "config": [f"config.{key}" for key in config],
        "summary": [f"summary.{key}" for key in summary],
    }
    first = None if metric is None else f"summary.{metric}"
    if choice.columns:
        chosen = set(choice.columns)
        keys = [key for part in choices.values() for key in [key for key in part if key in chosen][:CHOICES]]
        hidden = 0
    else:
        names = [key for key in summary if choice.all_columns or key not in alike or key == metric]
        names = names[: CHOICES if choice.all_columns else SUMMARY_COLUMNS]
        differences = differing(runs) if len(runs) > 1 else []
        shown = differences[: CHOICES if choice.all_columns else CONFIG_COLUMNS]
        keys = [*OWN_COLUMNS, *(f"config.{key}" for key in shown), *(f"summary.{key}" for key in names)]
        hidden = len(summary) - len(names) + len(differences) - len(shown)
    keys = ["name", *(key for key in keys if key == first), *(key for key in keys if key != first)]
    return Columns(keys, first, {part: all_keys[:CHOICES] for part, all_keys in choices.items()}, hidden)


def _summary_keys(runs: list[Run], metric: str | None) -> tuple[list[str], set[str], str | None]:
    """The summary keys in their order, those with one value in all runs, and the metric or a likely one."""
    keys = sorted({key for run in runs for key in run.summary})
    sizes = Counter(map(family, keys))
    alike = {key for key in keys if len(runs) > 1 and _is_alike(runs, key)}
    keys.sort(key=lambda key: (key in alike, "/" in key and sizes[family(key)] > FAMILY))
    if metric not in keys:
        candidates = (key for key in keys if key not in alike and key.rpartition("/")[2] not in COUNTERS)
        metric = next((key for key in candidates if _has_number(runs, key)), None)
    keys.sort(key=lambda key: key != metric)
    return keys, alike, metric


def _is_alike(runs: list[Run], key: str) -> bool:
    """Whether a summary key has one value in all runs."""
    first = repr(runs[0].summary.get(key))
    return all(repr(run.summary.get(key)) == first for run in runs)


def _has_number(runs: list[Run], key: str) -> bool:
    return any(is_number(run.summary.get(key)) for run in runs)


def _holds_numbers(runs: list[Run], key: str) -> bool:
    """Whether a column has no values but numbers, NaN among them."""
    values = [run.value(key) for run in runs]
    return all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in values)


def summary_columns(runs: list[Run], metric: str | None) -> list[str]:
    """The summary keys that the table of recipes shows: the metric and others that hold numbers."""
    keys, alike, metric = _summary_keys(runs, metric)
    columns = [key for key in keys if key not in alike or key == metric][:SUMMARY_COLUMNS]
    return [key for key in columns if _has_number(runs, key)][:RECIPE_COLUMNS]


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


def show_difference(value: float) -> str:
    """A difference with its sign, in three significant digits."""
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")
