"""The numbers of histories, stored once more by key: charts read them without parsing the lines again.

A column is stored in blocks of BLOCK lines, once all lines of a block have arrived. `run.column_lines` is the
number of lines that are stored in columns. The server writes blocks in the background, so that runs do not
wait for it. If lines change that were counted before, a trigger in tables.sql deletes the blocks of the run,
and they are written again.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Container
from typing import NamedTuple

from wandb_tl.local.records.json_path import finite, json_object
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs.lines import flat

# Lines of a block: two blocks without gaps fit on one page of the database, and a line's place into one byte.
BLOCK = 240
# Other clients wait while lines are read and while their columns are written: blocks are taken until they
# have this many characters.
CHARACTERS = 500_000
# Numbers that JSON cannot hold, as some clients send them.
NOT_FINITE = ("NaN", "Infinity", "-Infinity")


class Column(NamedTuple):
    """The values of a key in a block, without those of lines that lack it; NaN stands for what is not finite.

    places: of the lines in the block, empty if all lines have the key.
    """

    places: bytes
    numbers: array[float]


class Rows(NamedTuple):
    """Rows of a curve: the numbers of two keys; `y` is NaN where it is not finite.

    lacking: rows without an x, which are left out; end: the number of the line after the last one read.
    """

    x: array[float]
    y: array[float]
    lacking: int
    end: int


class Unstored(NamedTuple):
    """Lines of a run that are not in columns yet, in whole blocks. first: the number of the first line."""

    run_id: int
    first: int
    blocks: list[list[str]]


def unstored(db: Transaction, skipped: Container[int] = ()) -> Unstored | None:
    """The next lines of one run; None if all blocks of all runs are stored. skipped: ids of runs."""
    # The expression is that of the index run_behind.
    behind = f"SELECT id, column_lines FROM run WHERE history_keys_lines - column_lines >= {BLOCK}"
    rows = db.connection.execute(behind)
    run = next((row for row in rows if row["id"] not in skipped), None)
    rows.close()
    return _lines(db, run["id"], run["column_lines"]) if run else None


def _lines(db: Transaction, run_id: int, first: int) -> Unstored:
    """Whole blocks from the line `first` until they have CHARACTERS; none if a whole one is not there.

    Blocks without a single line are skipped: a client may have left out any number of lines.
    """
    end = db.value("SELECT history_keys_lines FROM run WHERE id = ?", run_id) or 0
    query = "SELECT line, text FROM stream_line WHERE run_id = ? AND stream = ? AND line >= ? AND line < ?"
    following = (
        "SELECT line FROM stream_line WHERE run_id = ? AND stream = ? AND line >= ? ORDER BY line LIMIT 1"
    )
    blocks: list[list[str]] = []
    start, size = first, 0
    while start + BLOCK <= end and size < CHARACTERS:
        texts = {row["line"]: row["text"] for row in db.all(query, run_id, HISTORY, start, start + BLOCK)}
        if texts:
            blocks.append([texts.get(line, "") for line in range(start, start + BLOCK)])
            size += sum(map(len, blocks[-1]))
            start += BLOCK
        elif blocks or (line := db.value(following, run_id, HISTORY, start)) is None:
            break
        else:
            first = start = line // BLOCK * BLOCK
    return Unstored(run_id, first, blocks)


def store(db: Transaction, lines: Unstored, columns: list[dict[str, Column]]) -> None:
    """Store the columns of some lines, one dictionary per block, unless the lines have changed since."""
    now = _lines(db, lines.run_id, db.value("SELECT column_lines FROM run WHERE id = ?", lines.run_id))
    # Texts are compared: lines that are sent again leave the counts as they were.
    if now.first != lines.first or now.blocks[: len(columns)] != lines.blocks:
        return
    for block, block_columns in enumerate(columns, lines.first // BLOCK):
        db.many(
            "INSERT INTO history_column (run_id, key, block, places, numbers) VALUES (?, ?, ?, ?, ?)",
            [
                (lines.run_id, key, block, _packed(column.places), column.numbers.tobytes())
                for key, column in block_columns.items()
            ],
        )
    db.update("run", lines.run_id, column_lines=lines.first + len(columns) * BLOCK)


def columns_of(lines: list[str]) -> dict[str, Column]:
    """The columns of a block's lines, of the keys that have a number in one of them."""
    columns: dict[str, tuple[bytearray, array[float]]] = {}
    numeric = set()
    for place, text in enumerate(lines):
        for key, value in flat(json_object(text) or {}):
            places, numbers = columns.setdefault(key, (bytearray(), array("d")))
            # A key can be in a line twice: "a.b", and b in a.
            if value is None or (places and places[-1] == place):
                continue
            number = finite(value)
            places.append(place)
            numbers.append(math.nan if number is None else number)
            if number is not None or isinstance(value, float) or value in NOT_FINITE:
                numeric.add(key)
    return {
        key: Column(bytes(places), numbers) for key, (places, numbers) in columns.items() if key in numeric
    }


def _packed(places: bytes) -> bytes:
    """The places of a column without gaps need not be stored."""
    return b"" if len(places) == BLOCK else places


def read(db: Transaction, run_id: int, key: str, axis: str, first: int) -> Rows | None:
    """The rows of a curve from the line `first` to the last one in columns; None if there are no more."""
    end = db.value("SELECT column_lines FROM run WHERE id = ?", run_id) or 0
    if end <= first:
        return None
    up = _blocks(db, run_id, key, first // BLOCK)
    across = up if axis == key else _blocks(db, run_id, axis, first // BLOCK)
    if rows := _without_gaps(up, across, first, end):
        return rows
    x, y, lacking = array("d"), array("d"), 0
    columns_of_axis = {block: _column(*values) for block, *values in across}
    for block, *values in up:
        column = columns_of_axis.get(block)
        places = dict(zip(_places(column), column.numbers, strict=True)) if column else {}
        own = _column(*values)
        for place, number in zip(_places(own), own.numbers, strict=True):
            if block * BLOCK + place < first:
                continue
            at = places.get(place, math.nan)
            if math.isnan(at):
                lacking += 1
            else:
                x.append(at)
                y.append(number)
    return Rows(x, y, lacking, end)


# The number, the places and the numbers of a block.
Block = tuple[int, bytes, bytes]


def _blocks(db: Transaction, run_id: int, key: str, block: int) -> list[Block]:
    """The blocks of a key from the number `block` on."""
    query = "SELECT block, places, numbers FROM history_column WHERE run_id = ? AND key = ? AND block >= ?"
    return db.tuples(f"{query} ORDER BY block", run_id, key, block)


def _without_gaps(up: list[Block], across: list[Block], first: int, end: int) -> Rows | None:
    """The rows of blocks in which all lines have both keys; None if there are others."""
    if first % BLOCK or any(places for _, places, _ in [*up, *across]):
        return None
    if [block for block, *_ in up] != [block for block, *_ in across]:
        return None
    x, y = (array("d", b"".join(numbers for *_, numbers in blocks)) for blocks in (across, up))
    return None if math.isnan(sum(x)) else Rows(x, y, 0, end)


def _column(places: bytes, numbers: bytes) -> Column:
    return Column(places, array("d", numbers))


def _places(column: Column) -> bytes | range:
    return column.places or range(BLOCK)
