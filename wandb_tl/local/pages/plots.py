"""The charts of wandb.plot: a Table and the name of a way to draw it."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import logged_tables
from wandb_tl.local.pages.logged_tables import TableError
from wandb_tl.local.pages.media import Media
from wandb_tl.local.pages.values import Run, bins, client_records, color, dash, is_number, parsed
from wandb_tl.local.records.json_path import JsonObject, find


class Panel(NamedTuple):
    """How a panel of the client is drawn, and the fields that are x, y and the name of the line."""

    kind: str
    x: str
    y: str | None = None
    line: str | None = None


PANELS = {
    "wandb/line/": Panel("line", "x", "y", "stroke"),
    "wandb/lineseries/": Panel("line", "step", "lineVal", "lineKey"),
    "wandb/area-under-curve/": Panel("line", "x", "y", "class"),
    "wandb/scatter/": Panel("scatter", "x", "y"),
    "wandb/bar/": Panel("bar", "label", "value"),
    "wandb/histogram/": Panel("histogram", "value"),
}
BINS = 30
# Of a chart, as many as W&B draws.
ROWS = 10_000


class Line(TypedDict):
    name: str
    label: str
    color: str
    dash: str
    points: list[list[Any]]


class Plot(TypedDict):
    """A chart as charts.js draws it."""

    kind: str
    key: str
    axis: str
    series: list[Line]


def panel_configs(run: Run) -> dict[str, JsonObject]:
    """{key: config of its panel} of the charts that a run logged."""
    panels = client_records(run.row, "visualize", dict)
    configs = {key: panel.get("panel_config") for key, panel in panels.items() if isinstance(panel, dict)}
    return {key: config for key, config in configs.items() if isinstance(config, dict)}


def _panel(config: JsonObject) -> Panel | None:
    name = str(config.get("panelDefId"))
    return next((panel for prefix, panel in PANELS.items() if name.startswith(prefix)), None)


def keys(run: Run) -> list[str]:
    """The keys of the charts that can be drawn here; confusion matrices are shown as Tables."""
    return [key for key, config in panel_configs(run).items() if _panel(config)]


def notes(run: Run) -> dict[str, str]:
    """{key of the Table: a line} of the charts that only W&B's own pages draw, with Vega."""
    others = {key: config for key, config in panel_configs(run).items() if not _panel(config)}
    return {
        f"{key}_table": f"The data of the chart {key}, which W&B draws with Vega: {config.get('panelDefId')}"
        for key, config in others.items()
        if not str(config.get("panelDefId")).startswith("wandb/confusion_matrix/")
    }


def read(media: Media, key: str) -> Plot:
    """The data of a chart. Raises RequestError (404) if its Table was not uploaded."""
    config = panel_configs(media.run).get(key) or {}
    panel = _panel(config)
    path = find(parsed(media.run.row["summary"]).get(f"{key}_table"), "path")
    blob_id = media.files.get(str(path))
    if panel is None or blob_id is None:
        raise RequestError(f"There is no chart {key} in this run.", 404)
    try:
        columns, data = logged_tables.read(media.blobs, blob_id)
    except TableError as error:
        raise RequestError(f"{error}.", 404) from error
    settings = config.get("fieldSettings")
    own = settings if isinstance(settings, dict) else {}
    names = [own.get(field, field) if field else None for field in (panel.x, panel.y, panel.line)]
    places = [columns.index(name) if name in columns else None for name in names]
    rows = [[row[place] if place is not None else None for place in places] for row in data[:ROWS]]
    title = str(find(config, "stringSettings.title") or key)
    return {
        "kind": panel.kind,
        "key": title if len(data) <= ROWS else f"{title} (the first {ROWS:,} of {len(data):,} rows)",
        "axis": str(names[0]),
        "series": _series(media.run, panel.kind, rows),
    }


def _series(run: Run, kind: str, rows: list[list[Any]]) -> list[Line]:
    if kind == "histogram":
        return [_line(run.color, "solid", "count", histogram([row[0] for row in rows]))]
    lines: dict[str, list[list[Any]]] = {}
    for x, y, name in rows:
        if is_number(y):
            at = str(x) if isinstance(x, (dict, list)) else x
            lines.setdefault("" if name is None else str(name), []).append([at, y])
    if len(lines) == 1:
        # It shows the run alone, in the colour that the run has everywhere.
        return [_line(run.color, run.dash, name, points) for name, points in lines.items()]
    return [_line(color(i), dash(i), name, points) for i, (name, points) in enumerate(lines.items())]


def _line(color: str, dash: str, name: str, points: list[list[Any]]) -> Line:
    return {"name": name, "label": name, "color": color, "dash": dash, "points": points}


def histogram(values: list[Any]) -> list[list[float]]:
    """[middle of the bin, count] of BINS bins, over the finite numbers among the values."""
    low, half, counts = bins([value for value in values if is_number(value)], BINS)
    half = half or 0.5
    return [[low + (2 * i + 1) * half, count] for i, count in enumerate(counts)]
