"""Long curves, thinned: a bucket of rows keeps its least and its greatest value, so that no spike is lost.

Rows are read from the columns of a history; those of its last lines, which are not in columns yet, from the
lines.
"""

from __future__ import annotations

import functools
import json
import math
import sqlite3
import time
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wandb_tl.local.pages.values import read_line
from wandb_tl.local.records.database import Transaction
from wandb_tl.local.records.json_path import find, finite
from wandb_tl.local.records.streams import HISTORY, line_count
from wandb_tl.local.runs import history_columns
from wandb_tl.local.runs.history_columns import Rows

# Buckets of a curve, each of a power of two rows.
BUCKETS = 512
# The buckets of the curves that are kept between requests: about 2,300 long curves, or many more short ones.
# The points that are made of them take up to as much again.
KEPT_BYTES = 64_000_000
# Lines that are read at a time.
LINES = 2000
# So few new lines are read even after the deadline: a sample of them would take as long.
FEW_LINES = 200
# Lines of a sample.
SAMPLES = 40

# (x, y); y is None if the run logged a value that is not a finite number.
CurvePoint = tuple[float, float | None]


class Source(NamedTuple):
    """Where a curve comes from: a run's row id, a stream of it, the key of its values and the key of x."""

    run_id: int
    stream: str
    key: str
    axis: str


class Bucket(NamedTuple):
    """total: number of finite values; low and high: their least and greatest; sums over them."""

    total: float
    low_x: float
    low: float
    high_x: float
    high: float
    sum_x: float
    sum_y: float

    def joined(self, other: Bucket) -> Bucket:
        if not self.total or not other.total:
            return self if self.total else other
        low = (self.low_x, self.low) if self.low <= other.low else (other.low_x, other.low)
        high = (self.high_x, self.high) if self.high >= other.high else (other.high_x, other.high)
        sums = (self.sum_x + other.sum_x, self.sum_y + other.sum_y)
        return Bucket(self.total + other.total, *low, *high, *sums)

    def mean(self) -> CurvePoint:
        """The mean x and the mean y; where a sum is too large for a number, the middle of the extremes."""
        x, y = self.sum_x / self.total, self.sum_y / self.total
        if not math.isfinite(x):
            x = self.low_x / 2 + self.high_x / 2
        if not math.isfinite(y):
            y = self.low / 2 + self.high / 2
        return x, y


WIDTH = len(Bucket._fields)


def bucket_of(x: Sequence[float], y: Sequence[float]) -> Bucket:
    """The bucket of one row or more."""
    total = sum(y)
    if math.isnan(total):
        rows = [
            Bucket(0, at, math.nan, at, math.nan, 0, 0) if math.isnan(value) else bucket_of([at], [value])
            for at, value in zip(x, y, strict=True)
        ]
        return functools.reduce(Bucket.joined, rows)
    low, high = min(y), max(y)
    return Bucket(len(y), x[y.index(low)], low, x[y.index(high)], high, sum(x), total)


class Thinned:
    """A curve to which rows are added. count: its rows; size: rows of a bucket; lacking: rows without x."""

    def __init__(self) -> None:
        self.numbers = array("d")
        self.size, self.count = 1, 0
        self.last: CurvePoint | None = None
        self.lacking = 0
        # The line up to which the run's lines were read, and its text.
        self.line, self.text = -1, ""
        self._answers: dict[tuple[str, int], list[CurvePoint]] = {}

    @property
    def bytes(self) -> int:
        """The memory of the buckets, in bytes."""
        return self.numbers.itemsize * len(self.numbers) + len(self.text)

    def extend(self, x: Sequence[float], y: Sequence[float]) -> None:
        """Add rows. y is NaN where the run logged a value that is not a finite number."""
        if not x:
            return
        self.last = (x[-1], None if math.isnan(y[-1]) else y[-1])
        self._answers.clear()
        while self.count + len(x) > BUCKETS * self.size:
            self.numbers = array("d", [number for one in self.joined(2) for number in one])
            self.size *= 2
        # The last bucket has room for some rows.
        first = min(-self.count % self.size, len(x))
        if first:
            joined = Bucket(*self.numbers[-WIDTH:]).joined(bucket_of(x[:first], y[:first]))
            self.numbers[-WIDTH:] = array("d", joined)
        for start in range(first, len(x), self.size):
            end = start + self.size
            self.numbers.extend(bucket_of(x[start:end], y[start:end]))
        self.count += len(x)

    def joined(self, count: int) -> list[Bucket]:
        """The buckets, joined by so many."""
        numbers = self.numbers
        buckets = [Bucket(*numbers[i : i + WIDTH]) for i in range(0, len(numbers), WIDTH)]
        for first in range(0, len(buckets), count) if count > 1 else ():
            whole = buckets[first]
            for other in buckets[first + 1 : first + count]:
                whole = whole.joined(other)
            buckets[first] = whole
        return buckets[::count]

    def points(self, most: int) -> list[CurvePoint]:
        """All points, or at most about `most`: the least and the greatest of each bucket, and the last."""
        if ("points", most) not in self._answers:
            self._answers["points", most] = self._points(most)
        return self._answers["points", most]

    def means(self, most: int) -> list[CurvePoint]:
        """All points, or the means of at most `most` buckets."""
        if ("means", most) not in self._answers:
            self._answers["means", most] = self._means(most)
        return self._answers["means", most]

    def _points(self, most: int) -> list[CurvePoint]:
        count = len(self.numbers) // WIDTH
        if self.size == 1 and count <= most:
            return [(one.low_x, one.low if one.total else None) for one in self.joined(1)]
        points: list[CurvePoint] = []
        for one in self.joined(max(1, math.ceil(2 * count / most))):
            ends: list[CurvePoint] = (
                [(one.low_x, one.low), (one.high_x, one.high)] if one.total else [(one.low_x, None)]
            )
            points += sorted(dict.fromkeys(ends), key=lambda point: point[0])
        if self.last and points[-1] != self.last:
            points.append(self.last)
        return points

    def _means(self, most: int) -> list[CurvePoint]:
        count = len(self.numbers) // WIDTH
        if self.size == 1 and count <= most:
            return self.points(most)
        return [one.mean() for one in self.joined(max(1, math.ceil(count / most))) if one.total]


class CurveReader:
    """Reads curves, and keeps them: of a growing run only the new lines are read."""

    def __init__(self) -> None:
        self.curves: OrderedDict[Source, Thinned] = OrderedDict()
        self.bytes = 0

    def read(self, db: Transaction, source: Source, until: float = math.inf) -> tuple[Thinned, bool]:
        """The curve, and whether it is complete: reading stops at the time `until` (time.monotonic)."""
        curve = self.curves.pop(source, None)
        if curve is not None:
            self.bytes -= curve.bytes
        if curve is None or not _is_prefix(db, source, curve):
            curve = Thinned()
        is_complete = _read_on(db, source, curve, until)
        self.curves[source] = curve
        self.bytes += curve.bytes
        while self.bytes > KEPT_BYTES and len(self.curves) > 1:
            _, oldest = self.curves.popitem(last=False)
            self.bytes -= oldest.bytes
        return curve, is_complete


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
    curve = Thinned()
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
            lines = db.all(query, *paths, *place)
        except sqlite3.OperationalError:
            # A NaN in a line, which SQLite refuses.
            pass
        else:
            return _rows(((line["x"], line["y"]) for line in lines), lines[-1]["line"] + 1)
    lines = db.all(f"SELECT line, text {condition}", *place)
    values = [read_line(line["text"]) for line in lines]
    pairs = ((find(value, source.axis), find(value, source.key)) for value in values)
    return _rows(pairs, lines[-1]["line"] + 1)


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
