"""The keys that a run has logged, counted as lines arrive, so that a growing history is not read again."""

from __future__ import annotations

import json
from functools import partial
from itertools import islice
from typing import Any, TypedDict

from wandb_tl.local.records.rows import RunRow
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.records.transaction import Transaction, existing
from wandb_tl.local.runs.lines import Line, Value, parse

# Keys of a run that are counted: each request reads and writes them. W&B advises against more. The lines
# themselves keep all keys.
MOST_KEYS = 10_000
# Lines that are counted at once, more than a request brings (see file_stream), and the characters of those
# that an earlier one has brought.
NOTED_LINES, NOTED_CHARACTERS = 5000, 1_000_000
# Characters of lines and counts: more of them are counted while other clients have their turn.
AT_ONCE = 100_000


class TypeCount(TypedDict):
    """How many values of a key have a type: number, string, list, a media type, ..."""

    type: str
    count: int


class KeyStatistics(TypedDict):
    typeCounts: list[TypeCount]
    previousValue: Any


class HistoryKeys(TypedDict):
    """The answer to the client's `historyKeys`. Nested dictionaries appear under dotted keys."""

    lastStep: int
    keys: dict[str, KeyStatistics]


def keys_of(db: Transaction, run: RunRow) -> HistoryKeys | None:
    """The keys of a run's history, None for a run without history."""
    counted = _loads(run["history_keys"])
    query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND line >= ? ORDER BY line"
    for (text,) in db.tuples(query, run["id"], HISTORY, run["history_keys_lines"]):
        _add(counted, parse(HISTORY, text))
    return counted if counted["keys"] else None


def note(db: Transaction, run_id: int, arrived: dict[int, Line]) -> None:
    """Count lines that are stored and not counted, and store the result with the run.

    arrived: lines that were just stored, by their numbers; they need not be read and parsed again. After a
    change of a long history it takes several calls until all of its lines are counted again.
    """
    run = existing(db.get("run", run_id))
    query = "SELECT line FROM stream_line WHERE run_id = ? AND stream = ? AND line >= ? ORDER BY line LIMIT ?"
    place = (run_id, HISTORY, run["history_keys_lines"], NOTED_LINES)
    numbers = [number for (number,) in db.tuples(query, *place)]
    if not numbers:
        return
    is_next = all(number in arrived for number in numbers)
    texts = tuple(arrived[number].text for number in numbers) if is_next else _texts(db, place)
    stored, parsed = run["history_keys"], {line.text: line for line in arrived.values()}
    add = partial(_with_lines, stored, texts, parsed)
    # With all that it is computed from: other requests may change it meanwhile.
    key = ("history keys", run_id, stored, texts)
    is_long = len(stored or "") + sum(map(len, texts)) > AT_ONCE
    counted = db.outside(key, add) if is_long else add()
    db.update("run", run_id, history_keys=counted, history_keys_lines=numbers[len(texts) - 1] + 1)


def _texts(db: Transaction, place: tuple[int, str, int, int]) -> tuple[str, ...]:
    """The next lines of a history that are not counted, until they have NOTED_CHARACTERS.

    At least two: a run that logs one at a time has all of its lines counted at some time.
    """
    query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND line >= ? ORDER BY line LIMIT ?"
    texts: list[str] = []
    characters = 0
    for row in db.connection.execute(query, place):
        texts.append(row["text"])
        characters += len(row["text"])
        if characters >= NOTED_CHARACTERS and len(texts) > 1:
            break
    return tuple(texts)


def _with_lines(stored: str | None, texts: tuple[str, ...], parsed: dict[str, Line]) -> str:
    """The JSON of counts with those of lines added. parsed: some of the lines, by their texts."""
    counted = _loads(stored)
    for text in texts:
        _add(counted, parsed.get(text) or parse(HISTORY, text))
    return json.dumps(counted)


def _loads(stored: str | None) -> HistoryKeys:
    """The counts that were stored with a run; stored: None for a run without any."""
    if not stored:
        return {"lastStep": -1, "keys": {}}
    counted: HistoryKeys = json.loads(stored)
    return counted


def _add(counted: HistoryKeys, line: Line) -> None:
    """Count the values of a line. It takes no longer for more than MOST_KEYS."""
    if line.step is not None:
        counted["lastStep"] = max(counted["lastStep"], line.step)
    keys, values = counted["keys"], line.values
    new = (key for key in values if key not in keys)
    # Earlier versions have stored more of them for some runs.
    for key in list(islice(new, max(0, MOST_KEYS - len(keys)))):
        keys[key] = {"typeCounts": [], "previousValue": None}
    for key in min(keys, values, key=len):
        if key in keys and key in values:
            _count(keys[key], values[key])


def _count(statistics: KeyStatistics, value: Value) -> None:
    kind, statistics["previousValue"] = value
    for counter in statistics["typeCounts"]:
        if counter["type"] == kind:
            counter["count"] += 1
            return
    statistics["typeCounts"].append({"type": kind, "count": 1})
