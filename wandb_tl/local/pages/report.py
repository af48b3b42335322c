"""Reports and saved workspaces: their texts, and the names of their panels, whose charts W&B draws."""

from __future__ import annotations

import re
from typing import Any, TypedDict

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.view import Answer, Page, PageRequest, path
from wandb_tl.local.records.json_path import JsonObject, find, json_object
from wandb_tl.local.records.names import decode_id, encode_id
from wandb_tl.local.records.rows import ProjectRow, Row, SweepRow, ViewRow

# The fields of W&B's panels that hold the keys they show.
KEYS = ("metrics", "columns", "xAxis", "yAxis", "zAxis", "targetKey", "mediaKeys")
# The number of a sweep's runs with links; the sweep's own page has all of them.
RUNS = 50


class ListedReport(ViewRow):
    """A report and the address of its page."""

    address: str


class SweepWithRuns(SweepRow):
    """A sweep and the names of its runs."""

    runs: list[Row]


class Panel(TypedDict):
    type: str
    title: str
    keys: list[str]


class Block(TypedDict, total=False):
    """A block of a report: its kind, and its text, its lines, the parts of a text, or its panels."""

    kind: str
    text: str
    lines: list[str]
    parts: list[str]
    panels: list[Panel]


class Section(TypedDict):
    name: str
    panels: list[Panel]


class Workspace(TypedDict):
    name: str
    sections: list[Section]
    sweeps: list[SweepWithRuns]


def report(request: PageRequest) -> Answer:
    """ENTITY/PROJECT/reports/TITLE--ID. Only the id counts, which may have lost the = at its end."""
    project, view_id = request.project(), request.names[-1].rpartition("--")[2]
    view = request.db.get("saved_view", decode_id("View", view_id + "=" * (-len(view_id) % 4)))
    if view is None or view["project_id"] != project["id"] or not view["type"].startswith("runs"):
        raise RequestError("There is no such report in this project; it may have been deleted.", 404)
    nodes = objects_at(json_object(view["spec"]), "blocks")
    blocks: list[Block] = []
    runsets: list[JsonObject] = []
    while nodes:
        node = nodes.pop(0)
        blocks.append(block(node))
        runsets += objects_at(node, "metadata.runSets")
        nodes[:0] = objects_at(node, "collapsedChildren")
    context = {"project": project, "report": view, "blocks": blocks, "live": False}
    return Page("report.html", context | {"sweeps": sweeps_of(request, project, runsets)})


def reports(request: PageRequest, project: ProjectRow) -> list[ListedReport]:
    """The project's reports without the drafts, newest first."""
    query = "SELECT * FROM saved_view WHERE project_id = ? AND type = 'runs' ORDER BY updated_at DESC"
    listed: list[ListedReport] = []
    for row in request.db.all(query, project["id"], row=ViewRow):
        # As the client makes it of a title.
        slug = re.sub(r"\W+", "-", row["display_name"]).strip("-")
        name = f"{slug}--{encode_id('View', row['id']).rstrip('=')}"
        listed.append({**row, "address": path(project["entity"], project["name"], "reports", name)})
    return listed


def workspace(request: PageRequest, project: ProjectRow) -> Workspace | None:
    """The saved workspace that ?nw= names, with the panels of its sections; None if there is none."""
    query = "SELECT * FROM saved_view WHERE project_id = ? AND type = 'project-view' AND name = ?"
    name = f"nw-{request.query.get('nw', '')}-v"
    view = request.db.one(query, project["id"], name, row=ViewRow)
    if view is None:
        return None
    section = find(json_object(view["spec"]), "section")
    sections: list[Section] = [
        {"name": string(each.get("name")), "panels": [panel(node) for node in objects_at(each, "panels")]}
        for each in objects_at(section, "panelBankConfig.sections")
    ]
    sweeps = sweeps_of(request, project, objects_at(section, "runSets"))
    return {"name": view["display_name"], "sections": sections, "sweeps": sweeps}


def block(node: JsonObject) -> Block:
    """A block of a report's spec."""
    match node.get("type"):
        case "heading":
            return {"kind": "heading", "text": text_of(node)}
        case "list":
            return {"kind": "list", "lines": [text_of(item) for item in objects_at(node, "children")]}
        case "code-block" | "callout-block":
            lines = [text_of(line) for line in objects_at(node, "children")]
            return {"kind": "verbatim", "text": "\n".join(lines)}
        case "markdown-block" | "latex":
            return {"kind": "markdown", "parts": string(node.get("content")).split("\n\n")}
        case "panel-grid":
            panels = objects_at(node, "metadata.panelBankSectionConfig.panels")
            return {"kind": "panels", "panels": [panel(each) for each in panels]}
    return {"kind": "paragraph", "text": text_of(node)}


def panel(node: JsonObject) -> Panel:
    """A panel of a report's spec."""
    config = node.get("config")
    if not isinstance(config, dict):
        config = {}
    keys = []
    for field in KEYS:
        value = config.get(field)
        for key in value if isinstance(value, list) else [value]:
            name = string(key.get("accessor") if isinstance(key, dict) else key)
            keys.append(name.rpartition(":")[2].removesuffix(".value"))
    return {
        "type": string(node.get("viewType")) or "Panel",
        "title": string(config.get("chartTitle")),
        "keys": [key for key in dict.fromkeys(keys) if key],
    }


def sweeps_of(request: PageRequest, project: ProjectRow, runsets: list[JsonObject]) -> list[SweepWithRuns]:
    """The sweeps of the project that the filters of some run sets name."""
    tests = [test for runset in runsets for test in objects_at(runset, "filters.filters")]
    equal = [test for test in tests if find(test, "key.name") == "sweep" and test.get("op") == "="]
    sweeps: list[SweepWithRuns] = []
    for name in dict.fromkeys(string(test.get("value")) for test in equal):
        query = "SELECT * FROM sweep WHERE project_id = ? AND name = ?"
        if sweep := request.db.one(query, project["id"], name, row=SweepRow):
            query = "SELECT name, display_name FROM run WHERE sweep_id = ? ORDER BY id LIMIT ?"
            sweeps.append({**sweep, "runs": request.db.all(query, sweep["id"], RUNS)})
    return sweeps


def text_of(node: JsonObject) -> str:
    """The text of a node and of all nodes below it."""
    nodes, texts = [node], []
    while nodes:
        node = nodes.pop()
        texts.append(string(node.get("text")))
        nodes += reversed(objects_at(node, "children"))
    return "".join(texts)


def string(value: Any) -> str:
    """The value if it is a string, else an empty one: a client may send anything in its place."""
    return value if isinstance(value, str) else ""


def objects_at(value: Any, place: str) -> list[JsonObject]:
    """The objects in the list at a place of a spec."""
    items = find(value, place)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
