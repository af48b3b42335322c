"""Reports and saved workspaces: their texts, and their panels with the runs that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypedDict

from markupsafe import Markup

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import markdown, panels
from wandb_tl.local.pages.panels import Panel
from wandb_tl.local.pages.run_sets import RunSetReader
from wandb_tl.local.pages.view import Answer, Page, PageRequest
from wandb_tl.local.records.json_path import JsonObject, find, json_object
from wandb_tl.local.records.names import decode_id, encode_id
from wandb_tl.local.records.rows import ProjectRow, Row, SweepRow, ViewRow

# The number of a sweep's runs with links; the sweep's own page has all of them.
RUNS = 50
# How deep lists of a report lie in each other, at most.
DEPTH = 6


class ListedReport(ViewRow):
    """A report and the address of its page."""

    address: str


class SweepWithRuns(SweepRow):
    """A sweep and the names of its runs."""

    runs: list[Row]


class Span(TypedDict):
    """A part of a line: its text, the tags that mark it, and the address that it leads to, or ""."""

    text: str
    tags: list[str]
    url: str


@dataclass
class Line:
    """A line of a report's list: its spans, whether it is ticked (None: not a checklist), lists below it."""

    spans: list[Span]
    checked: bool | None = None
    below: list[Block] = field(default_factory=list)


@dataclass
class Block:
    """A block of a report. kind: heading, paragraph, quote, callout, list, code, html, rule, panels, link."""

    kind: str
    spans: list[Span] = field(default_factory=list)
    level: int = 2
    text: str = ""
    url: str = ""
    lines: list[Line] = field(default_factory=list)
    ordered: bool = False
    html: Markup | None = None
    panels: list[Panel] = field(default_factory=list)


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
    nodes = list(_nodes(objects_at(json_object(view["spec"]), "blocks")))
    reader = RunSetReader(request, project)
    blocks = [block for node in nodes if (block := _block(reader, node))]
    runsets = [runset for node in nodes for runset in objects_at(node, "metadata.runSets")]
    context = {"project": project, "report": view, "blocks": blocks, "live": False}
    return Page("report.html", context | {"sweeps": sweeps_of(request, project, runsets)})


def _nodes(nodes: list[JsonObject]) -> Iterator[JsonObject]:
    """The blocks of a report, with those that a heading hides while it is collapsed."""
    stack = nodes[::-1]
    while stack:
        node = stack.pop()
        yield node
        stack += reversed(objects_at(node, "collapsedChildren"))


def reports(request: PageRequest, project: ProjectRow) -> list[ListedReport]:
    """The project's reports without the drafts, newest first."""
    query = "SELECT * FROM saved_view WHERE project_id = ? AND type = 'runs' ORDER BY updated_at DESC"
    listed: list[ListedReport] = []
    for row in request.db.all(query, project["id"], row=ViewRow):
        # As the client makes it of a title.
        slug = re.sub(r"\W+", "-", row["display_name"]).strip("-")
        name = f"{slug}--{encode_id('View', row['id']).rstrip('=')}"
        listed.append({**row, "address": request.path(project["entity"], project["name"], "reports", name)})
    return listed


def workspace(request: PageRequest, project: ProjectRow) -> Workspace | None:
    """The saved workspace that ?nw= names, with the panels of its sections; None if there is none."""
    query = "SELECT * FROM saved_view WHERE project_id = ? AND type = 'project-view' AND name = ?"
    name = f"nw-{request.query.get('nw', '')}-v"
    view = request.db.one(query, project["id"], name, row=ViewRow)
    if view is None:
        return None
    section = find(json_object(view["spec"]), "section")
    runs = RunSetReader(request, project).all(objects_at(section, "runSets"))
    sections: list[Section] = [
        {
            "name": string(each.get("name")),
            "panels": [
                one for node in objects_at(each, "panels") for one in panels.read(request, node, runs)
            ],
        }
        for each in objects_at(section, "panelBankConfig.sections")
        if objects_at(each, "panels")
    ]
    sweeps = sweeps_of(request, project, objects_at(section, "runSets"))
    return {"name": view["display_name"], "sections": sections, "sweeps": sweeps}


def _block(reader: RunSetReader, node: JsonObject) -> Block | None:
    """A block of a report's spec; None for one without content."""
    kind = node.get("type")
    match kind:
        case "heading":
            level = node.get("level")
            # The title of the report is the heading above.
            level = min(level, 3) + 1 if isinstance(level, int) and level > 0 else 2
            return Block("heading", spans_of(node), level=level)
        case "list":
            return _list(node)
        case "code-block":
            return Block("code", text="\n".join(text_of(line) for line in objects_at(node, "children")))
        case "callout-block":
            return Block("callout", text="\n".join(text_of(line) for line in objects_at(node, "children")))
        case "block-quote":
            return Block("quote", spans_of(node))
        case "horizontal-rule":
            return Block("rule")
        case "markdown-block":
            return Block("html", html=markdown.render(string(node.get("content"))))
        case "latex":
            return Block("code", text=string(node.get("content")))
        case "panel-grid":
            runs = reader.all(objects_at(node, "metadata.runSets"))
            nodes = objects_at(node, "metadata.panelBankSectionConfig.panels")
            all_panels = [one for each in nodes for one in panels.read(reader.request, each, runs)]
            return Block("panels", panels=all_panels)
    if url := markdown.web_address(node.get("url")):
        # An image or a page of another host: the pages of this server load nothing from there.
        return Block("link", text=text_of(node) or url, url=url)
    spans = spans_of(node)
    return Block("paragraph", spans) if any(span["text"] for span in spans) else None


def _list(node: JsonObject, depth: int = 0) -> Block:
    lines = []
    for item in objects_at(node, "children"):
        parts = objects_at(item, "children")
        lists = [part for part in parts if part.get("type") == "list"]
        spans = [span for part in parts if part.get("type") != "list" for span in spans_of(part)]
        checked = item.get("checked")
        below = [_list(each, depth + 1) for each in lists] if depth < DEPTH else []
        lines.append(Line(spans, checked if isinstance(checked, bool) else None, below))
    return Block("list", lines=lines, ordered=node.get("ordered") is True)


# The marks of a text, and the tags that they are written with.
TAGS = {"bold": "strong", "italic": "em", "underline": "u", "strikethrough": "s", "inlineCode": "code"}


def spans_of(node: JsonObject, url: str = "") -> list[Span]:
    """The texts of a node and of all nodes below it, with their marks and links."""
    spans: list[Span] = []
    nodes = [(node, url)]
    while nodes:
        node, url = nodes.pop()
        if text := string(node.get("text")):
            tags = [tag for mark, tag in TAGS.items() if node.get(mark) is True]
            spans.append({"text": text, "tags": tags, "url": url})
        own = markdown.web_address(node.get("url")) or url
        nodes += [(child, own) for child in reversed(objects_at(node, "children"))]
    return spans


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
