"""The console of a run: what its processes printed, line by line."""

from __future__ import annotations

from typing import TypedDict

from wandb_tl.local.records.json_path import json_object
from wandb_tl.local.records.streams import OUTPUT, line_count
from wandb_tl.local.records.transaction import Edge, Page, PageInfo, Transaction, row_number


class LogLine(TypedDict):
    """A line of the console. label names the process that wrote it, for a run that several write together."""

    number: int
    timestamp: str | None
    level: str | None
    label: str | None
    line: str


def log_lines(db: Transaction, run_id: int, first: int | None, after: str | None, last: int | None) -> Page:
    """A page of the console's LogLines. Cursors are line numbers."""
    count = line_count(db, run_id, OUTPUT)
    start = row_number(after) + 1 if after else 0
    if last is not None:
        start, end = max(count - last, 0), count
    else:
        end = count if first is None else min(start + first, count)
    rows = db.all(
        "SELECT line, text FROM stream_line WHERE run_id = ? AND stream = ? AND line >= ? AND line < ?"
        " ORDER BY line",
        run_id,
        OUTPUT,
        start,
        end,
    )
    edges: list[Edge] = [
        {"node": log_line(row["line"], row["text"]), "cursor": str(row["line"])} for row in rows
    ]
    page: PageInfo = {"end_cursor": edges[-1]["cursor"] if edges else after, "has_next_page": end < count}
    return {"edges": edges, "page_info": page}


def log_line(number: int, text: str) -> LogLine:
    """Parse a console line: {"ts", "content", "level"?, "label"?} as JSON, or `[ERROR ]TIMESTAMP CONTENT`."""
    parts = json_object(text) or {}
    content = parts.get("content")
    if not isinstance(content, str):
        level, text = ("error", text[6:]) if text.startswith("ERROR ") else (None, text)
        stamp, _, content = text.partition(" ")
        parts = {"ts": stamp, "level": level}
    return {
        "number": number,
        "timestamp": _text(parts.get("ts")),
        "level": _text(parts.get("level")),
        "label": _text(parts.get("label")),
        "line": content,
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
