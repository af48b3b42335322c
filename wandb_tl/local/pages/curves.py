"""Curves: the values that runs logged of one metric, over the step metric that they declared for it."""

from __future__ import annotations

import fnmatch
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

from wandb_tl.local.pages.recipes import Recipe, mean_curve
from wandb_tl.local.pages.thinning import CurveReader, Source, sample
from wandb_tl.local.pages.values import Run, client_records, is_number, read_line
from wandb_tl.local.records.json_path import JsonObject
from wandb_tl.local.records.rows import RunRow
from wandb_tl.local.records.streams import EVENTS, HISTORY
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import history, history_keys

if TYPE_CHECKING:
    from wandb_tl.local.pages.thinned import CurvePoint, Thinned

# Points of a curve at most, and at least where there are many curves; and of all curves of a chart.
POINTS, LEAST_POINTS, ALL_POINTS = 800, 100, 40_000
RUNS = 200
# After this time, what has not been read of long histories is left for the next request.
READING_SECONDS = 0.6
# What the reader can choose to draw over, and the keys under which the client logs it.
AXES = {"step": "_step", "relative": "_runtime", "wall": "_timestamp"}
NAMES = {"_step": "step", "_runtime": "seconds", "_timestamp": ""}
# A family with more members, such as test/accuracy_by_class/…, is kept apart from the common metrics.
FAMILY = 6
# The charts of a page; others can be sought by name. And the keys of runs among which they are chosen.
CHARTS, MOST_KEYS = 500, 20_000
# The parts of a declaration that pages read, and their types: name, glob, number of the step metric, options.
DECLARED = {"1": str, "2": str, "5": int, "6": list}


class Series(TypedDict):
    """The curve of one run: its whole name, and the label that tells it apart from the others."""

    id: str
    name: str
    label: str
    color: str
    dash: str
    points: list[CurvePoint]
    # Of a recipe: how many runs its mean is of, and the interval of the mean as [x, low, high].
    runs: NotRequired[int]
    # The means of buckets, which stand for the points of a long curve where it is smoothed.
    means: NotRequired[list[CurvePoint]]
    band: NotRequired[list[tuple[float, float, float]]]


class Curves(TypedDict):
    """The curves of one metric, as charts.js draws them. lowest_first: whether low values are good.

    axis_type: linear or date; lacking: runs that have the metric and not the axis; partial: whether curves
    lack points that the next request will have.
    """

    key: str
    axis: str
    axis_type: str
    lowest_first: bool
    lacking: int
    partial: bool
    series: list[Series]


def metric_keys(db: Transaction, run: RunRow) -> list[str]:
    """The keys of a run's history that hold numbers, without the client's own."""
    keys = history_keys.keys_of(db, run)
    return [
        key
        for key, statistics in (keys["keys"] if keys else {}).items()
        if not key.startswith("_") and any(count["type"] == "number" for count in statistics["typeCounts"])
    ]


@dataclass
class Metrics:
    """The metrics of a page: those of small families, the large families, and how many more there are."""

    common: list[str]
    families: dict[str, list[str]]
    left_out: int


def by_family(db: Transaction, runs: list[Run], sought: str = "") -> Metrics:
    """The metrics of some runs: those of small families together, and {family: keys} of the large ones.

    sought: only metrics with this in their names, in upper or lower case; these together.
    """
    found: set[str] = set()
    for run in runs:
        # Of so many keys no page shows more.
        if len(found) > MOST_KEYS:
            break
        found |= set(metric_keys(db, run.row)) - step_metrics(run.row)
    if sought:
        matches = sorted(key for key in found if sought.lower() in key.lower())
        return Metrics(matches[:CHARTS], {}, len(matches[CHARTS:]))
    members: dict[str, list[str]] = {}
    for key in sorted(found):
        members.setdefault(family(key), []).append(key)
    large = {name: keys for name, keys in sorted(members.items()) if name and len(keys) > FAMILY}
    common = sorted(key for name, keys in members.items() if name not in large for key in keys)
    families = {}
    left = CHARTS - len(common[:CHARTS])
    for name, keys in large.items():
        if left:
            families[name] = keys[:left]
            left -= len(families[name])
    shown = len(common[:CHARTS]) + sum(map(len, families.values()))
    return Metrics(common[:CHARTS], families, len(found) - shown)


def family(key: str) -> str:
    """The first two parts of a key at most, without the last: metrics of one family belong together."""
    return "/".join(key.split("/")[:-1][:2])


def declared_metrics(run: RunRow) -> list[JsonObject]:
    """The declarations of run.define_metric, as wandb-core sends them, without values of other types."""
    entries = client_records(run, "m", list)
    return [
        {number: entry[number] for number, kind in DECLARED.items() if isinstance(entry.get(number), kind)}
        if isinstance(entry, dict)
        else {}
        for entry in entries
    ]


def axis(run: RunRow, key: str) -> str:
    """The step metric that run.define_metric declared for a key, else _step.

    A declaration is {"1": name or "2": glob, "5": number of the step metric in their list, from 1}.
    """
    declarations = declared_metrics(run)
    # The declaration of a name takes precedence over those of globs.
    named = [entry for entry in declarations if entry.get("1") == key]
    globs = [entry for entry in declarations if "2" in entry]
    matching = [entry for entry in globs if fnmatch.fnmatchcase(key, entry["2"])]
    number = next((entry.get("5", 0) for entry in [*named, *matching]), 0)
    if 0 < number <= len(declarations):
        return declarations[number - 1].get("1") or "_step"
    return "_step"


def step_metrics(run: RunRow) -> set[str]:
    """The metrics over which others are drawn, which have no curves of their own."""
    declarations = declared_metrics(run)
    steps = {entry.get("5") for entry in declarations}
    return {
        entry["1"] for number, entry in enumerate(declarations, start=1) if number in steps and "1" in entry
    }


def of_runs(
    db: Transaction,
    runs: list[Run],
    key: str,
    lowest_first: bool | None = None,
    recipes: list[Recipe] | None = None,
    x: str | None = None,
    reader: CurveReader | None = None,
    only_whole: bool = False,
) -> Curves:
    """The curves of the first RUNS runs, or the means of recipes.

    lowest_first: None guesses from the key. x: one of AXES, otherwise the step metric that the runs declared.
    Where reading takes long, the answer is partial: of runs that have not been read it has a few points, or
    with only_whole it has no curves at all.
    """
    reader = reader or CurveReader()
    shared = AXES.get(x or "") or shared_axis([axis(run.row, key) for run in runs if declares(run)])
    until = time.monotonic() + READING_SECONDS
    groups = [recipe.runs for recipe in recipes] if recipes else [[run] for run in runs]
    groups = groups[:RUNS]
    most = max(LEAST_POINTS, min(POINTS, ALL_POINTS // max(len(groups), 1)))
    series: list[Series] = []
    lacking, unread = 0, 0
    for number, members in enumerate(groups):
        lines: list[Thinned] = []
        for run in members:
            source = Source(run.row["id"], HISTORY, key, shared)
            curve, is_complete = reader.read(db, source, until)
            lines.append(curve if is_complete or only_whole else sample(db, source))
            unread += not is_complete
        if unread and only_whole:
            continue
        lacking += sum(curve.last is None and curve.lacking > 0 for curve in lines)
        if recipes:
            series += of_recipe(recipes[number], [curve.means(most) for curve in lines])
        elif lines[0].last:
            series.append(series_of(members[0], lines[0].points(most)))
            if lines[0].size > 1:
                series[-1]["means"] = lines[0].means(most // 2)
    return {
        "key": key,
        "axis": NAMES.get(shared, shared),
        "axis_type": "date" if shared == AXES["wall"] else "linear",
        "lowest_first": is_cost(key) if lowest_first is None else lowest_first,
        "lacking": lacking,
        "partial": unread > 0,
        "series": [] if unread and only_whole else series,
    }


def declares(run: Run) -> bool:
    """Whether a run has said over what it draws: one at work declares its step metrics after its start."""
    return not run.live or bool(declared_metrics(run.row))


def shared_axis(axes: list[str]) -> str:
    """The step metric over which curves are drawn together: that of more than half of the runs."""
    declared = Counter(name for name in axes if name != "_step")
    name, count = max(declared.items(), key=lambda pair: pair[1], default=("_step", 0))
    return name if 2 * count > len(axes) else "_step"


def is_cost(key: str) -> bool:
    """Whether the name of a metric says that low values are good."""
    return any(word in key.lower() for word in ("loss", "error", "perplexity"))


def series_of(run: Run, points: list[CurvePoint]) -> Series:
    return {
        "id": run.id,
        "name": run.name,
        "label": run.label or run.name,
        "color": run.color,
        "dash": run.dash,
        "points": points,
    }


def of_recipe(recipe: Recipe, curves: list[list[CurvePoint]]) -> list[Series]:
    """The mean of a recipe's curves and its interval; nothing if they are empty."""
    means = mean_curve(curves)
    if not means:
        return []
    n = sum(bool(points) for points in curves)
    return [
        {
            "id": recipe.id,
            "name": recipe.name,
            "label": f"{recipe.label} · n {n}",
            "color": recipe.color,
            "dash": recipe.dash,
            "points": [(x, mean.value) for x, mean in means],
            "runs": n,
            "band": [
                (x, mean.low, mean.high)
                for x, mean in means
                if mean.low is not None and mean.high is not None
            ],
        }
    ]


def system_keys(db: Transaction, run: RunRow) -> list[str]:
    """The keys of the client's measurements of the machine."""
    last = read_line(history.last_line(db, run["id"], EVENTS) or "{}")
    return sorted(key for key, value in last.items() if key.startswith("system.") and is_number(value))


def system(db: Transaction, run: Run, key: str, reader: CurveReader | None = None) -> Curves:
    """The curve of one measurement of the machine, over seconds."""
    source = Source(run.row["id"], EVENTS, key, AXES["relative"])
    curve, _ = (reader or CurveReader()).read(db, source)
    return {
        "key": key.removeprefix("system."),
        "axis": "seconds",
        "axis_type": "linear",
        "lowest_first": False,
        "lacking": 0,
        "partial": False,
        "series": [series_of(run, curve.points(POINTS))],
    }
