"""Reports and saved workspaces: their texts, and the names of their panels, whose charts W&B draws."""

from __future__ import annotations

import re
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.view import Answer, Asked, Page, path
from wandb_tl.local.records.database import Row
from wandb_tl.local.records.json_path import find, json_object
from wandb_tl.local.records.names import decode_id, encode_id

# Where the panels of W&B hold the keys that they show.
KEYS = ("metrics", "columns", "xAxis", "yAxis", "zAxis", "targetKey", "mediaKeys")
# So many runs of a sweep are linked to; the sweep's own page has them all.
RUNS = 50


def report(asked: Asked) -> Answer:
    """ENTITY/PROJECT/reports/TITLE--ID. Only the id counts, which may have lost the = at its end."""
    project, view_id = asked.project(), asked.names[-1].rpartition("--")[2]
    found = asked.db.get("saved_view", decode_id("View", view_id + "=" * (-len(view_id) % 4)))
    if found is None or found["project_id"] != project["id"] or not found["type"].startswith("runs"):
        raise RequestError("There is no such report in this project; it may have been deleted.", 404)
    nodes, blocks, runsets = listed(json_object(found["spec"]), "blocks"), [], []
    while nodes:
        node = nodes.pop(0)
        blocks.append(block(node))
        runsets += listed(node, "metadata.runSets")
        nodes[:0] = listed(node, "collapsedChildren")
    shown = {"project": project, "report": found, "blocks": blocks, "live": False}
    return Page("report.html", shown | {"sweeps": sweeps_of(asked, project, runsets)})


def reports(asked: Asked, project: Row) -> list[Row]:
    """The project's reports that are no drafts, newest first, each with its address."""
    query = "SELECT * FROM saved_view WHERE project_id = ? AND type = 'runs' ORDER BY updated_at DESC"
    rows = asked.db.all(query, project["id"])
    for row in rows:
        # As the client makes it of a title.
        slug = re.sub(r"\W+", "-", row["display_name"]).strip("-")
        name = f"{slug}--{encode_id('View', row['id']).rstrip('=')}"
        row["address"] = path(project["entity"], project["name"], "reports", name)
    return rows


def workspace(asked: Asked, project: Row) -> Row | None:
    """The saved workspace that ?nw= names, with the panels of its sections; None where there is none."""
    query = "SELECT * FROM saved_view WHERE project_id = ? AND type = 'project-view' AND name = ?"
    found = asked.db.one(query, project["id"], f"nw-{asked.query.get('nw', '')}-v")
    if found is None:
        return None
    section = find(json_object(found["spec"]), "section")
    sections = [
        {"name": text(each.get("name")), "panels": [panel(p) for p in listed(each, "panels")]}
        for each in listed(section, "panelBankConfig.sections")
    ]
    sweeps = sweeps_of(asked, project, listed(section, "runSets"))
    return {"name": found["display_name"], "sections": sections, "sweeps": sweeps}


def block(node: Row) -> Row:
    """One block: its kind, and its text, lines, parts of a text, or panels."""
    match node.get("type"):
        case "heading":
            return {"kind": "heading", "text": text_of(node)}
        case "list":
            return {"kind": "list", "lines": [text_of(item) for item in listed(node, "children")]}
        case "code-block" | "callout-block":
            return {"kind": "verbatim", "text": "\n".join(text_of(line) for line in listed(node, "children"))}
        case "markdown-block" | "latex":
            return {"kind": "markdown", "parts": text(node.get("content")).split("\n\n")}
        case "panel-grid":
            panels = listed(node, "metadata.panelBankSectionConfig.panels")
            return {"kind": "panels", "panels": [panel(each) for each in panels]}
    return {"kind": "paragraph", "text": text_of(node)}


def panel(node: Row) -> Row:
    """A panel's type, title and keys."""
    config = node.get("config") if isinstance(node.get("config"), dict) else {}
    keys = []
    for field in KEYS:
        value = config.get(field)
        for key in value if isinstance(value, list) else [value]:
            name = text(key.get("accessor") if isinstance(key, dict) else key)
            keys.append(name.rpartition(":")[2].removesuffix(".value"))
    return {
        "type": text(node.get("viewType")) or "Panel",
        "title": text(config.get("chartTitle")),
        "keys": [key for key in dict.fromkeys(keys) if key],
    }


def sweeps_of(asked: Asked, project: Row, runsets: list[Row]) -> list[Row]:
    """The sweeps of the project that the filters of some sets of runs name, each with its runs."""
    tests = [test for runset in runsets for test in listed(runset, "filters.filters")]
    equal = [test for test in tests if find(test, "key.name") == "sweep" and test.get("op") == "="]
    sweeps = []
    for name in dict.fromkeys(text(test.get("value")) for test in equal):
        query = "SELECT * FROM sweep WHERE project_id = ? AND name = ?"
        if sweep := asked.db.one(query, project["id"], name):
            query = "SELECT name, display_name FROM run WHERE sweep_id = ? ORDER BY id LIMIT ?"
            sweeps.append(sweep | {"runs": asked.db.all(query, sweep["id"], RUNS)})
    return sweeps


def text_of(node: Row) -> str:
    """The text of a node and of all below it."""
    nodes, texts = [node], []
    while nodes:
        node = nodes.pop()
        texts.append(text(node.get("text")))
        nodes += reversed(listed(node, "children"))
    return "".join(texts)


def text(value: Any) -> str:
    """The value if it is a text: a client may have put anything in its place."""
    return value if isinstance(value, str) else ""


def listed(value: Any, place: str) -> list[Row]:
    """The objects in the list at a place of a spec."""
    found = find(value, place)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
