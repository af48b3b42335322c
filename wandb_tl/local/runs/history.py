"""History rows and the lines of the other streams: stored, and read as tails, pages by step and samples."""

from __future__ import annotations

import json
from typing import Any, TypedDict

from wandb_tl.local.records.json_path import JsonObject, find, json_object, whole
from wandb_tl.local.records.rows import RunRow
from wandb_tl.local.records.streams import HISTORY, SUMMARY, line_count
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs.lines import Line, strict

SAMPLES = 500
# No step is beyond it.
LAST_STEP = (1 << 63) - 1

# The number of the first line, and the lines.
Chunk = tuple[int, list[Line]]


class SampleSpec(TypedDict, total=False):
    """A client's request for rows of the history. The comments say what clients send."""

    keys: Any  # [str, ...]: rows that have all of them, reduced to them
    samples: Any  # int: how many
    minStep: Any  # a number: the first step, inclusive
    maxStep: Any  # a number: the last step, inclusive


def write_lines(db: Transaction, run: RunRow, stream: str, offset: int, lines: list[Line]) -> None:
    """Write lines into a stream from `offset` on. Later lines stay: progress bars rewrite earlier ones."""
    if not lines:
        return
    if stream == SUMMARY:
        if lines[-1].row is not None:
            db.update("run", run["id"], summary=lines[-1].text)
        return
    is_change = stream == HISTORY and offset < run["history_keys_lines"]
    if is_change and not _are_there(db, run["id"], offset, lines):
        db.update("run", run["id"], history_keys=None, history_keys_lines=0)
    rows = (
        (run["id"], stream, number, line.step, line.text) for number, line in enumerate(lines, start=offset)
    )
    db.many(
        "INSERT OR REPLACE INTO stream_line (run_id, stream, line, step, text) VALUES (?, ?, ?, ?, ?)", rows
    )


def _are_there(db: Transaction, run_id: int, offset: int, lines: list[Line]) -> bool:
    """Whether these lines of the history were stored before: all of it would be counted again."""
    query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND line >= ? AND line < ?"
    stored = db.all(f"{query} ORDER BY line", run_id, HISTORY, offset, offset + len(lines))
    return [row["text"] for row in stored] == [line.text for line in lines]


def write_shared(
    db: Transaction, run: RunRow, stream: str, writer: str, offset: int, lines: list[Line]
) -> list[Chunk]:
    """Append one writer's lines to those of the others; lines that were sent before keep their places.

    Returns the lines in chunks of consecutive places.
    """
    placed: list[Chunk] = []
    if stream == SUMMARY:
        if lines and lines[-1].row is not None:
            summary = json_object(db.value("SELECT summary FROM run WHERE id = ?", run["id"])) or {}
            db.update("run", run["id"], summary=json.dumps(summary | lines[-1].row))
        return placed
    place, end = (run["id"], stream, writer), line_count(db, run["id"], stream)
    for number, line in enumerate(lines, start=offset):
        query = "SELECT line FROM shared_line WHERE run_id = ? AND stream = ? AND writer = ? AND number = ?"
        at = db.value(query, *place, number)
        if at is None:
            at, end = end, end + 1
            db.run("INSERT INTO shared_line VALUES (?, ?, ?, ?, ?)", *place, number, at)
        if placed and at == placed[-1][0] + len(placed[-1][1]):
            placed[-1][1].append(line)
        else:
            placed.append((at, [line]))
    for at, part in placed:
        write_lines(db, run, stream, at, part)
    return placed


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
    place = "FROM stream_line WHERE run_id = ? AND stream = ?"
    count = db.value(f"SELECT count(*) {place}", run_id, stream)
    if count <= samples:
        return [row["text"] for row in db.all(f"SELECT text {place} ORDER BY line", run_id, stream)]
    numbers = json.dumps(_spread(line_count(db, run_id, stream), samples))
    query = f"SELECT text {place} AND line IN (SELECT value FROM json_each(?)) ORDER BY line"
    return [row["text"] for row in db.all(query, run_id, stream, numbers)]


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
    listed = spec.get("keys")
    keys = list(
        dict.fromkeys(key for key in (listed if isinstance(listed, list) else []) if isinstance(key, str))
    )
    if not keys:
        return []
    low, high = whole(spec.get("minStep")), whole(spec.get("maxStep"))
    is_page = low is not None or high is not None
    lines = between(db, run_id, low or 0, LAST_STEP if high is None else min(high + 1, LAST_STEP))
    rows: list[JsonObject] = []
    for line in map(json_object, lines):
        row = {key: find(line, key) for key in keys}
        if all(value is not None for value in row.values()):
            rows.append(strict(row))
    samples = max(whole(spec.get("samples")) or SAMPLES, 1)
    if is_page or len(rows) <= samples:
        return rows
    return [rows[i] for i in _spread(len(rows), samples)]


def ends(db: Transaction, run_id: int, keys: list[str] | None) -> list[JsonObject]:
    """The rows of the first and the last step, reduced to `keys`: the limits of a scan."""
    bounds = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND step IS NOT NULL ORDER BY step"
    texts = [db.value(f"{bounds} {way} LIMIT 1", run_id, HISTORY) for way in ("", "DESC")]
    rows = [json_object(text) or {} for text in dict.fromkeys(texts) if text is not None]
    return [strict({key: row[key] for key in keys or row if key in row}) for row in rows]
