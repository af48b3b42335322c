"""Reading streams: tails, pages by step and samples."""

from __future__ import annotations

import json
from typing import TypedDict

from wandb_tl.local.records.database import Edge, Page, PageInfo, Transaction
from wandb_tl.local.records.json_path import JsonObject, find
from wandb_tl.local.records.streams import HISTORY, OUTPUT, line_count
from wandb_tl.local.runs.history_keys import strict

SAMPLES = 500


class SampleSpec(TypedDict, total=False):
    """A client's request for rows of the history: their keys, how many, and the steps (both inclusive)."""

    keys: list[str] | None
    samples: int | None
    minStep: float | None
    maxStep: float | None


class LogLine(TypedDict):
    """A line of the console. label names the process that wrote it, for a run that several write together."""

    number: int
    timestamp: str | None
    level: str | None
    label: str | None
    line: str


def tail(db: Transaction, run_id: int, stream: str) -> str:
    """JSON of a list with the stream's last line, as the resuming client reads it."""
    return json.dumps([last] if (last := last_line(db, run_id, stream)) is not None else [])


def last_line(db: Transaction, run_id: int, stream: str) -> str | None:
    query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? ORDER BY line DESC LIMIT 1"
    line: str | None = db.value(query, run_id, stream)
    return line


def sampled(db: Transaction, run_id: int, stream: str, samples: int | None) -> list[str]:
    """At most `samples` lines (500 if None), evenly spread from the first to the last."""
    samples = SAMPLES if samples is None else max(samples, 1)
    count = line_count(db, run_id, stream)
    query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ?"
    if count <= samples:
        return [row["text"] for row in db.all(f"{query} ORDER BY line", run_id, stream)]
    texts = (db.value(f"{query} AND line = ?", run_id, stream, line) for line in _spread(count, samples))
    return [text for text in texts if text is not None]


def _spread(count: int, samples: int) -> list[int]:
    if samples == 1:
        return [count - 1]
    return [round(i * (count - 1) / (samples - 1)) for i in range(samples)]


def between(db: Transaction, run_id: int, low: int, high: int) -> list[str]:
    """All history lines with low <= _step < high, in the order of steps."""
    rows = db.all(
        "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND step >= ? AND step < ?"
        " ORDER BY step, line",
        run_id,
        HISTORY,
        low,
        high,
    )
    return [row["text"] for row in rows]


def sampled_keys(db: Transaction, run_id: int, spec: SampleSpec) -> list[JsonObject]:
    """Rows that have all of the spec's keys, reduced to them; none for a spec without keys.

    A range of steps is a page of a scan: it is returned whole. Otherwise at most `samples` rows are returned,
    evenly spread.
    """
    keys = list(dict.fromkeys(spec.get("keys") or []))
    if not keys:
        return []
    low, high = spec.get("minStep"), spec.get("maxStep")
    is_page = low is not None or high is not None
    lines = between(db, run_id, int(low or 0), int(high) + 1 if high is not None else 1 << 62)
    rows: list[JsonObject] = []
    for line in map(json.loads, lines):
        row = {key: find(line, key) for key in keys}
        if all(value is not None for value in row.values()):
            rows.append(strict(row))
    samples = int(spec.get("samples") or SAMPLES)
    if is_page or len(rows) <= samples:
        return rows
    return [rows[i] for i in _spread(len(rows), samples)]


def ends(db: Transaction, run_id: int, keys: list[str] | None) -> list[JsonObject]:
    """The rows of the first and the last step, reduced to `keys`: the limits of a scan."""
    bounds = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND step IS NOT NULL ORDER BY step"
    texts = [db.value(f"{bounds} {way} LIMIT 1", run_id, HISTORY) for way in ("", "DESC")]
    rows = [json.loads(text) for text in dict.fromkeys(texts) if text is not None]
    return [strict({key: row[key] for key in keys or row if key in row}) for row in rows]


def log_lines(db: Transaction, run_id: int, first: int | None, after: str | None, last: int | None) -> Page:
    """A page of the console's LogLines. Cursors are line numbers."""
    count = line_count(db, run_id, OUTPUT)
    start = int(after) + 1 if after else 0
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
    try:
        parts = json.loads(text)
        content = parts["content"]
    except (ValueError, TypeError, KeyError):
        level, text = ("error", text[6:]) if text.startswith("ERROR ") else (None, text)
        stamp, _, content = text.partition(" ")
        parts = {"ts": stamp, "level": level}
    return {
        "number": number,
        "timestamp": parts.get("ts"),
        "level": parts.get("level"),
        "label": parts.get("label"),
        "line": content,
    }
