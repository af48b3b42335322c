"""The charts of wandb.plot: a Table and the name of a way to draw it."""

from __future__ import annotations

import json
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.media import Media
from wandb_tl.local.pages.values import COLORS, Run, is_number, parsed, told
from wandb_tl.local.records.database import Row

# The client's panels -> how it is drawn, and the fields that are x, y and the name of the line.
PANELS = {
    "wandb/line/": ("line", "x", "y", "stroke"),
    "wandb/lineseries/": ("line", "step", "lineVal", "lineKey"),
    "wandb/area-under-curve/": ("line", "x", "y", "class"),
    "wandb/scatter/": ("scatter", "x", "y", None),
    "wandb/bar/": ("bar", "label", "value", None),
    "wandb/histogram/": ("histogram", "value", None, None),
}
BINS = 30


def declared(run: Run) -> dict[str, Row]:
    """{key: panel} of run.config's _wandb.visualize."""
    panels = told(run.row, "visualize", dict)
    configs = {key: panel.get("panel_config") for key, panel in panels.items() if isinstance(panel, dict)}
    return {key: config for key, config in configs.items() if isinstance(config, dict)}


def _panel(config: Row) -> tuple[str, str, str | None, str | None] | None:
    name = str(config.get("panelDefId"))
    return next((panel for prefix, panel in PANELS.items() if name.startswith(prefix)), None)


def keys(run: Run) -> list[str]:
    """The keys of the charts that can be drawn here; confusion matrices are shown as Tables."""
    return [key for key, config in declared(run).items() if _panel(config)]


def read(media: Media, key: str) -> dict[str, Any]:
    """A chart's data as charts.js draws it. Raises RequestError (404) where its Table is not there."""
    config = declared(media.run).get(key) or {}
    panel = _panel(config)
    value = parsed(media.run.row["summary"]).get(f"{key}_table") or {}
    blob_id = media.files.get(str(value.get("path")))
    if panel is None or blob_id is None:
        raise RequestError(f"There is no chart {key} in this run.", 404)
    content = json.loads(media.blobs.read(blob_id))
    kind, *fields = panel
    names = [config.get("fieldSettings", {}).get(field, field) if field else None for field in fields]
    columns = [str(column) for column in content["columns"]]
    places = [columns.index(name) if name in columns else None for name in names]
    rows = [[row[place] if place is not None else None for place in places] for row in content["data"]]
    title = config.get("stringSettings", {}).get("title") or key
    return {"kind": kind, "key": title, "axis": names[0], "series": _series(kind, rows)}


def _series(kind: str, rows: list[list[Any]]) -> list[Row]:
    if kind == "histogram":
        return [{"name": "count", "color": COLORS[0], "points": _histogram([row[0] for row in rows])}]
    lines: dict[str, list[list[Any]]] = {}
    for x, y, name in rows:
        if not is_number(y):
            continue
        lines.setdefault("" if name is None else str(name), []).append([x, y])
    return [
        {"name": name, "color": COLORS[i % len(COLORS)], "points": points}
        for i, (name, points) in enumerate(lines.items())
    ]


def _histogram(values: list[Any]) -> list[list[float]]:
    """[middle of the bin, count] of BINS bins."""
    numbers = [value for value in values if is_number(value)]
    low, high = float(min(numbers, default=0.0)), float(max(numbers, default=1.0))
    # Halved first: the difference of two floats may be more than one holds.
    half = (high / 2 - low / 2) / BINS or 0.5
    counts = [0] * BINS
    for value in numbers:
        counts[min(int((value / 2 - low / 2) / half), BINS - 1)] += 1
    return [[low + (2 * i + 1) * half, count] for i, count in enumerate(counts)]
