"""The panels of reports and saved workspaces, with the runs that they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from wandb_tl.local.pages import markdown, sweep
from wandb_tl.local.pages.curves import is_cost
from wandb_tl.local.pages.importance import shares
from wandb_tl.local.pages.labels import differing
from wandb_tl.local.pages.media import Media
from wandb_tl.local.pages.media_items import Item
from wandb_tl.local.pages.run_sets import RunSet, column
from wandb_tl.local.pages.values import Run, is_number
from wandb_tl.local.pages.view import PageRequest
from wandb_tl.local.records.json_path import JsonObject

# The runs of a chart, the columns and the rows of a table of configs, and the runs with media.
RUNS, COMPARED, COMPARED_KEYS, WITH_MEDIA = 100, 8, 500, 6
# What W&B calls the axes that a chart can be drawn over.
AXES = {"_step": "step", "_runtime": "relative", "_absolute_runtime": "relative", "_timestamp": "wall"}


@dataclass
class Table:
    """Rows of a panel without a chart, or the values behind one."""

    columns: list[str]
    rows: list[list[Any]]


@dataclass
class Panel:
    """A panel: a chart (its kind and where its data are), a table, media, or a text.

    source: the address of a chart's data. data: the data themselves. note: what a reader should know.
    """

    title: str
    chart: str = ""
    source: str = ""
    data: Mapping[str, Any] | None = None
    table: Table | None = None
    media: list[tuple[Run, list[Item]]] = field(default_factory=list)
    html: Markup | None = None
    note: str = ""
    wide: bool = False


def read(request: PageRequest, node: JsonObject, run_sets: list[RunSet]) -> list[Panel]:
    """The panels that stand for one of a report's: of several metrics, one chart each."""
    kind = str(node.get("viewType") or "Panel")
    config = node.get("config") if isinstance(node.get("config"), dict) else {}
    config = dict(config or {})
    title = str(config.get("chartTitle") or "")
    runs = [run for run_set in run_sets for run in run_set.runs]
    unknown = [words for run_set in run_sets for words in run_set.unknown]
    if kind == "Markdown Panel":
        return [Panel(title, html=markdown.render(str(config.get("value") or "")))]
    if kind == "Run History Line Plot":
        return [_curves(request, key, title, config, run_sets) for key in _keys(config.get("metrics"))]
    if not runs:
        return [Panel(title or kind, note="No run of this server matches.")]
    drawing = DRAWINGS.get(kind)
    if kind == "Media Browser":
        panels = [_media(request, key, runs) for key in _keys(config.get("mediaKeys"))]
    elif drawing is None:
        keys = [key for name in KEYS for key in _keys(config.get(name))]
        about = f": {', '.join(dict.fromkeys(keys))}" if keys else ""
        panels = [Panel(title or kind, note=f"W&B's own pages draw this panel, a {kind}{about}.")]
    else:
        panels = drawing(title, config, runs[:RUNS])
    for panel in panels:
        left_out = [f"the first {RUNS} of {len(runs)} runs"] if len(runs) > RUNS else []
        left_out += [f"without the condition {words}" for words in unknown]
        panel.note = ". ".join(filter(None, (panel.note, *left_out)))
    return panels


# The fields of W&B's panels that hold the keys they show.
KEYS = ("metrics", "columns", "xAxis", "yAxis", "zAxis", "targetKey", "mediaKeys")


def _keys(value: Any) -> list[str]:
    """The keys in a field of a panel: a string, an accessor, or a list of either."""
    values = value if isinstance(value, list) else [value]
    names = [each.get("accessor") if isinstance(each, dict) else each for each in values]
    return [name for name in names if isinstance(name, str) and name]


def _curves(request: PageRequest, key: str, title: str, config: JsonObject, run_sets: list[RunSet]) -> Panel:
    run_sets = [each for each in run_sets if each.runs]
    if not run_sets:
        return Panel(title or key, note="No run of this server matches.")
    # The data of a chart are those of one project.
    project = run_sets[0].project
    own = [each for each in run_sets if each.project["id"] == project["id"]]
    ids = list(dict.fromkeys(run.id for run_set in own for run in run_set.runs))
    axis = AXES.get(str(config.get("xAxis")), "")
    query = [("curves", key), *(("run", id) for id in ids[:RUNS])]
    query += [("group", "recipe" if own[0].grouped else "none")] + ([("x", axis)] if axis else [])
    address = request.path(project["entity"], project["name"])
    notes = [f"the first {RUNS} of {len(ids)} runs"] if len(ids) > RUNS else []
    notes += [f"without the condition {words}" for run_set in own for words in run_set.unknown]
    others = [each.project for each in run_sets if each.project["id"] != project["id"]]
    names = dict.fromkeys(f"{other['entity']}/{other['name']}" for other in others)
    notes += [f"without the runs of {', '.join(names)}"] if names else []
    note = ". ".join(notes)
    name = f"{title}: {key}" if title and title != key else key
    return Panel(name, "curves", f"{address}?{urlencode(query)}", note=note)


def _name(key: str) -> str:
    part, _, name = key.partition(".")
    return name if name and part in ("config", "summary") else key


def _points(title: str, kind: str, axis: str, series: list[dict[str, Any]]) -> Panel:
    return Panel(title, "plot", data={"kind": kind, "key": title, "axis": axis, "series": series})


def _series(run: Run, points: list[list[Any]]) -> dict[str, Any]:
    return {"name": run.name, "label": run.label, "color": run.color, "dash": "solid", "points": points}


def _place(value: Any) -> Any:
    """A value as a place on an axis; None if it has none, such as NaN, which JSON cannot hold."""
    if isinstance(value, (bool, list, dict)):
        return str(value)
    return value if isinstance(value, str) or is_number(value) else None


def _scatter(title: str, config: JsonObject, runs: list[Run]) -> list[Panel]:
    x, y = (column(next(iter(_keys(config.get(name))), "")) for name in ("xAxis", "yAxis"))
    series = [
        _series(run, [[at, run.value(y)]])
        for run in runs
        if is_number(run.value(y)) and (at := _place(run.value(x))) is not None
    ]
    panel = _points(title or f"{_name(y)} by {_name(x)}", "scatter", _name(x), series)
    panel.table = Table(["run", _name(x), _name(y)], [[one["label"], *one["points"][0]] for one in series])
    return [panel]


def _bars(title: str, config: JsonObject, runs: list[Run]) -> list[Panel]:
    panels = []
    for key in map(column, _keys(config.get("metrics"))):
        series = [_series(run, [[run.label, run.value(key)]]) for run in runs if is_number(run.value(key))]
        panel = _points(f"{title}: {_name(key)}" if title else _name(key), "bar", "", series)
        panel.table = Table(["run", _name(key)], [one["points"][0] for one in series])
        panels.append(panel)
    return panels


def _parallel(title: str, config: JsonObject, runs: list[Run]) -> list[Panel]:
    keys = [column(key) for key in _keys(config.get("columns"))]
    runs = [run for run in runs if keys and is_number(run.value(keys[-1]))]
    axes, columns = [], []
    for key in keys:
        axis, values = sweep.scale([run.value(key) for run in runs])
        axes.append({**axis, "name": _name(key)})
        columns.append(values)
    lines = [
        {"id": run.id, "name": run.name, "label": run.label, "values": [values[i] for values in columns]}
        for i, run in enumerate(runs)
    ]
    if len(keys) < 2 or not runs:
        return [Panel(title or "Parallel coordinates", note="No run has these values.")]
    table = Table(
        ["run", *map(_name, keys)], [[run.label, *(run.value(key) for key in keys)] for run in runs]
    )
    name = title or f"{_name(keys[-1])} over the parameters"
    lowest_first = is_cost(keys[-1])
    data = {"axes": axes, "lines": lines, "lowest_first": lowest_first}
    note = f"Coloured by {_name(keys[-1])}: blue is the {'lowest' if lowest_first else 'highest'}"
    return [Panel(name, "parallel", data=data, table=table, note=note, wide=True)]


def _importance(title: str, config: JsonObject, runs: list[Run]) -> list[Panel]:
    key = column(next(iter(_keys(config.get("targetKey"))), ""))
    rows = shares(runs, key)
    name = title or f"What {_name(key)} varies with"
    if not rows:
        return [Panel(name, note=f"Fewer than three runs have {_name(key)}, or no parameter varies.")]
    table = Table(["parameter", "share of the variance"], [[parameter, share] for parameter, share in rows])
    count = sum(is_number(run.value(key)) for run in runs)
    note = f"The share of the variance of {_name(key)} that each parameter alone explains, n = {count} runs"
    series = [{"name": "share", "label": "", "color": runs[0].color, "dash": "solid", "points": table.rows}]
    panel = _points(name, "bar", "", series)
    panel.table, panel.note = table, note
    return [panel]


def _comparer(title: str, config: JsonObject, runs: list[Run]) -> list[Panel]:
    compared = runs[:COMPARED]
    keys = (
        differing(compared)
        if config.get("diffOnly")
        else list(dict.fromkeys(k for r in compared for k in r.config))
    )
    rows = [[key, *(run.config.get(key) for run in compared)] for key in keys]
    numbers = dict.fromkeys(key for run in compared for key in run.summary)
    rows += [[key, *(run.summary.get(key) for run in compared)] for key in numbers]
    note = f"the first {COMPARED} of {len(runs)} runs" if len(runs) > COMPARED else ""
    table = Table(["key", *(run.label for run in compared)], rows[:COMPARED_KEYS])
    return [Panel(title or "Runs compared", table=table, note=note, wide=True)]


def _scalar(title: str, config: JsonObject, runs: list[Run]) -> list[Panel]:
    panels = []
    for key in map(column, _keys(config.get("metrics"))):
        rows = [[run.label, run.value(key)] for run in runs if run.value(key) is not None]
        name = f"{title}: {_name(key)}" if title else _name(key)
        panels.append(Panel(name, table=Table(["run", _name(key)], rows)))
    return panels


def _media(request: PageRequest, key: str, runs: list[Run]) -> Panel:
    strips = [(run, Media(request, run).strip(key)) for run in runs[:WITH_MEDIA]]
    media = [(run, strip.moments[-1].items) for run, strip in strips if strip]
    note = f"of the first {WITH_MEDIA} of {len(runs)} runs" if len(runs) > WITH_MEDIA else ""
    return Panel(key, media=media, note=note if media else "No run has logged it.", wide=True)


DRAWINGS = {
    "Scatter Plot": _scatter,
    "Bar Chart": _bars,
    "Parallel Coordinates Plot": _parallel,
    "Parameter Importance": _importance,
    "Run Comparer": _comparer,
    "Scalar Chart": _scalar,
}
