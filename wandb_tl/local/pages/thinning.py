"""The curves of runs, read from the columns of their histories, and thinned where they are long.

Those of the last lines, which are not in columns yet, are read from the lines.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Iterable
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from wandb_tl.local.pages.values import read_line
from wandb_tl.local.records.json_path import find, finite
from wandb_tl.local.records.streams import HISTORY, line_count
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import history_columns
from wandb_tl.local.runs.history_columns import Rows

if TYPE_CHECKING:
    from wandb_tl.local.pages.thinned import Thinned

# The buckets of the curves that are kept between requests: about 2,300 long curves, or many more short ones.
# The points that are made of them take up to as much again.
KEPT_BYTES = 64_000_000
# Lines that are read at a time.
LINES = 2000
# So few new lines are read even after the deadline: a sample of them would take as long.
FEW_LINES = 200
# Lines of a sample.
SAMPLES = 40


class Source(NamedTuple):
    """Where a curve comes from: a run's row id, a stream of it, the key of its values and the key of x."""

    run_id: int
    stream: str
    key: str
    axis: str


class CurveReader:
    """Reads curves, and keeps them: of a growing run only the new lines are read."""

    def __init__(self) -> None:
        self.curves: OrderedDict[Source, Thinned] = OrderedDict()
        self.bytes = 0
        # Several pages read at once. A curve that is kept is not changed any more.
        self.lock = threading.Lock()

    def read(self, db: Transaction, source: Source, until: float = math.inf) -> tuple[Thinned, bool]:
        """The curve, and whether it is complete: reading stops at the time `until` (time.monotonic)."""
        with self.lock:
            kept = self.curves.get(source)
        curve = copy(kept) if kept is not None and _is_prefix(db, source, kept) else _empty()
        is_complete = _read_on(db, source, curve, until)
        with self.lock:
            self._keep(source, curve)
        return curve, is_complete

    def _keep(self, source: Source, curve: Thinned) -> None:
        kept = self.curves.pop(source, None)
        self.curves[source] = curve
        self.bytes += curve.bytes - (kept.bytes if kept is not None else 0)
        while self.bytes > KEPT_BYTES and len(self.curves) > 1:
            _, oldest = self.curves.popitem(last=False)
            self.bytes -= oldest.bytes


def _empty() -> Thinned:
    """A curve without rows."""
    # Imported here: numpy would add a third to the memory of a server whose charts nobody opens.
    from wandb_tl.local.pages.thinned import Thinned

    return Thinned()


def _read_on(db: Transaction, source: Source, curve: Thinned, until: float) -> bool:
    """Add the new lines of a run to its curve; whether all were added before the time `until`."""
    total = line_count(db, source.run_id, source.stream)
    while (unread := total - 1 - curve.line) > 0:
        if unread > FEW_LINES and time.monotonic() > until:
            return False
        rows = _columns(db, source, curve.line + 1) or _lines(db, source, curve.line + 1)
        curve.extend(rows.x, rows.y)
        curve.lacking += rows.lacking
        curve.line = rows.end - 1
        curve.text = _text(db, source, curve.line) or ""
    return True


def _columns(db: Transaction, source: Source, first: int) -> Rows | None:
    """The rows from the line `first` on that are stored in columns, None if there are none."""
    return (
        history_columns.read(db, source.run_id, source.key, source.axis, first)
        if source.stream == HISTORY
        else None
    )


def sample(db: Transaction, source: Source) -> Thinned:
    """The curve of a few lines, evenly spread, for a long history until it has been read."""
    count = line_count(db, source.run_id, source.stream)
    numbers = json.dumps([round(i * (count - 1) / (SAMPLES - 1)) for i in range(SAMPLES)])
    query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND line IN (SELECT value FROM"
    lines = db.all(f"{query} json_each(?)) ORDER BY line", source.run_id, source.stream, numbers)
    values = [read_line(row["text"]) for row in lines]
    curve = _empty()
    rows = _rows(((find(line, source.axis), find(line, source.key)) for line in values), count)
    curve.extend(rows.x, rows.y)
    return curve


def _text(db: Transaction, source: Source, line: int) -> str | None:
    query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND line = ?"
    text: str | None = db.value(query, source.run_id, source.stream, line)
    return text


def _is_prefix(db: Transaction, source: Source, curve: Thinned) -> bool:
    """Whether the lines that were read are still the run's, which may have been rewound or restarted."""
    return curve.line < 0 or _text(db, source, curve.line) == curve.text


def _lines(db: Transaction, source: Source, first: int) -> Rows:
    """The rows of the next lines, read from their texts."""
    condition = "FROM stream_line WHERE run_id = ? AND stream = ? AND line >= ? ORDER BY line LIMIT ?"
    place = (source.run_id, source.stream, first, LINES)
    if not any(mark in key for key in (source.key, source.axis) for mark in '."\\'):
        paths = [f'$."{key}"' for key in (source.axis, source.key)]
        query = f"SELECT line, json_extract(text, ?) AS x, json_extract(text, ?) AS y {condition}"
        try:
            lines = db.tuples(query, *paths, *place)
        except sqlite3.OperationalError:
            # A NaN in a line, which SQLite refuses.
            pass
        else:
            return _rows(((x, y) for _, x, y in lines), lines[-1][0] + 1)
    lines = db.tuples(f"SELECT line, text {condition}", *place)
    values = [read_line(text) for _, text in lines]
    pairs = ((find(value, source.axis), find(value, source.key)) for value in values)
    return _rows(pairs, lines[-1][0] + 1)


def _rows(pairs: Iterable[tuple[object, object]], end: int) -> Rows:
    """Rows of the values (x, y) of lines; None is a value that a line lacks."""
    rows = Rows(array("d"), array("d"), 0, end)
    lacking = 0
    for x, y in pairs:
        if y is None:
            continue
        if (place := finite(x)) is None:
            lacking += 1
            continue
        number = finite(y)
        rows.x.append(place)
        rows.y.append(math.nan if number is None else number)
    return rows._replace(lacking=lacking)
