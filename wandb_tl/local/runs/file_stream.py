"""The file stream: the lines that a running script has logged since the last request.

wandb-core posts a StreamBody every transmit interval, and {} every 30 s when there is nothing to send. A
request that is sent twice changes nothing. The answer is {} or {"stopped": true}.

A malformed body is not refused: a 4xx answer ends the run's uploads for good. Nor may it raise an error: the
client would send it again for ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import run_states
from wandb_tl.local.records.json_path import whole
from wandb_tl.local.records.names import project_named, run_named
from wandb_tl.local.records.rows import Columns, RunRow
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.records.transaction import Transaction, existing
from wandb_tl.local.runs import history, history_keys
from wandb_tl.local.runs.lines import Line, parse
from wandb_tl.local.sweeps import observations

# What is stored in one transaction, for which other clients wait: lines, and characters of them.
PART_LINES, PART_CHARACTERS = 1000, 500_000


class StreamBody(TypedDict, total=False):
    """The body of a request. The comments say what clients send; each value is checked where it is used."""

    files: Any  # {stream: {"offset": number of the first line, "content": [line, ...]}}
    complete: Any  # bool: the process has ended
    exitcode: Any  # int, with complete
    preempting: Any  # bool: the script has called mark_preempting()


class Part(NamedTuple):
    """What one transaction stores of a request.

    lines: (stream, number of the first line, lines). body: what it says of the process; {} in all parts but
    the last.
    """

    lines: list[tuple[str, int, list[Line]]]
    body: StreamBody


class StreamAnswer(TypedDict, total=False):
    stopped: bool


def parts(body: StreamBody) -> Iterator[Part]:
    """The body in parts, each for a transaction of its own. Their lines are parsed between two of them."""
    chunks: list[tuple[str, int, list[Line]]] = []
    count = characters = 0
    for stream, offset, texts in _chunks(body):
        chunks.append((stream, offset, []))
        for number, text in enumerate(texts, start=offset):
            chunks[-1][2].append(parse(stream, text))
            count, characters = count + 1, characters + len(text)
            if count >= PART_LINES or characters >= PART_CHARACTERS:
                yield Part(chunks, {})
                chunks, count, characters = [(stream, number + 1, [])], 0, 0
    yield Part(chunks, body)


def receive(
    db: Transaction, entity: str, project: str, name: str, part: Part, writer: str | None = None
) -> StreamAnswer:
    """Store a part of a request and update the run's state; returns the answer.

    `writer` names one of several processes that write the run together (mode="shared"), None for the only
    one. Raises RequestError (404) for a run that does not exist, because it was deleted.
    """
    run = run_named(db, project_named(db, entity, project), name)
    if run is None:
        raise RequestError(f"there is no run {entity}/{project}/{name}", 404)
    logged: list[history.Chunk] = []
    for stream, offset, lines in part.lines:
        if writer is None:
            history.write_lines(db, run, stream, offset, lines)
            placed = [(offset, lines)]
        else:
            placed = history.write_shared(db, run, stream, writer, offset, lines)
        if stream == HISTORY:
            logged += placed
    db.update("run", run["id"], heartbeat_at=db.now, **_state_after(run, part.body))
    if logged:
        arrived = {number: line for offset, lines in logged for number, line in enumerate(lines, offset)}
        history_keys.note(db, run["id"], arrived)
    if logged and run["sweep_id"] is not None:
        for offset, lines in logged:
            observations.note(db, run, offset, [line.row for line in lines])
        run = existing(db.get("run", run["id"]))
    return {"stopped": True} if run["stop_requested"] and not part.body.get("complete") else {}


def _chunks(body: StreamBody) -> Iterator[tuple[str, int, list[str]]]:
    """(stream, offset, lines) of the body, without malformed chunks."""
    files = body.get("files")
    for stream, chunk in files.items() if isinstance(files, dict) else ():
        content = chunk.get("content") if isinstance(chunk, dict) else None
        if not isinstance(content, list):
            continue
        offset = whole(chunk.get("offset") or 0)
        if offset is not None and 0 <= offset < 1 << 62:
            yield _text(stream), offset, [_text(line) for line in content]


def _text(line: Any) -> str:
    """A line as a string that SQLite can store, without the lone surrogates that JSON can hold."""
    text = line if isinstance(line, str) else json.dumps(line)
    return text.encode(errors="replace").decode()


def _state_after(run: RunRow, body: StreamBody) -> Columns:
    preempting = bool(body.get("preempting") or run["preempting"])
    if body.get("complete"):
        code = whole(body.get("exitcode") or 0)
        # GraphQL's integers have 32 bits, as exit codes do.
        is_code = code is not None and -(1 << 31) <= code < 1 << 31
        return run_states.ended(run, code if code is not None and is_code else 1, preempting)
    return run_states.heard(run, preempting)
