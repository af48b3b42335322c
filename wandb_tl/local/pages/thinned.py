"""A long curve, thinned: a bucket of rows keeps its least and its greatest value; no spike is lost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Buckets of a curve, each of a power of two rows.
BUCKETS = 512

# (x, y); y is None if the run logged a value that is not a finite number.
CurvePoint = tuple[float, float | None]
# float64 [buckets, columns]. The columns: the number of finite values; x and y of the least one; x and y of
# the greatest one; the sums of x and y. A bucket without a finite value has its first x, and NaN for y.
Buckets = NDArray[np.float64]
TOTAL, LOW_X, LOW, HIGH_X, HIGH, SUM_X, SUM_Y = range(7)


class Thinned:
    """A curve to which rows are added. count: its rows; size: rows of a bucket; lacking: rows without x.

    A copy (copy.copy) does not change with the curve that it is of.
    """

    def __init__(self) -> None:
        self.buckets: Buckets = np.empty((0, 7))
        self.size, self.count = 1, 0
        self.last: CurvePoint | None = None
        self.lacking = 0
        # The line up to which the run's lines were read, and its text.
        self.line, self.text = -1, ""
        self._answers: dict[tuple[str, int], list[CurvePoint]] = {}

    @property
    def bytes(self) -> int:
        """The memory of the buckets, in bytes."""
        return self.buckets.nbytes + len(self.text)

    def extend(self, x: Sequence[float], y: Sequence[float]) -> None:
        """Add rows. y is NaN where the run logged a value that is not a finite number."""
        if not len(x):
            return
        self.last = (x[-1], None if math.isnan(y[-1]) else y[-1])
        self._answers = {}
        while self.count + len(x) > BUCKETS * self.size:
            self.buckets = joined(self.buckets, 2)
            self.size *= 2
        rows = _of_rows(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        # The last bucket has room for some rows.
        room = -self.count % self.size
        whole, last = (self.buckets[:-1], self.buckets[-1:]) if room else (self.buckets, self.buckets[:0])
        if room:
            last = joined(np.concatenate([last, rows[:room]]), room + 1)
        self.buckets = np.concatenate([whole, last, joined(rows[room:], self.size)])
        self.count += len(x)

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
        if self.size == 1 and self.count <= most:
            return _pairs(self.buckets[:, LOW_X], self.buckets[:, LOW])
        buckets = joined(self.buckets, math.ceil(2 * len(self.buckets) / most))
        first, second = buckets[:, [LOW_X, LOW]], buckets[:, [HIGH_X, HIGH]]
        is_turned = first[:, 0] > second[:, 0]
        first[is_turned], second[is_turned] = second[is_turned], first[is_turned]
        ends = np.stack([first, second], axis=1).reshape(-1, 2)
        # One point where the least value is the greatest as well, or where there is none.
        keeps = np.ones(len(ends), dtype=bool)
        keeps[1::2] = ((first != second) & ~np.isnan(second)).any(axis=1) & (buckets[:, TOTAL] > 0)
        points = _pairs(*ends[keeps].T)
        if self.last and points[-1] != self.last:
            points.append(self.last)
        return points

    def _means(self, most: int) -> list[CurvePoint]:
        if self.size == 1 and self.count <= most:
            return self.points(most)
        buckets = joined(self.buckets, math.ceil(len(self.buckets) / most))
        buckets = buckets[buckets[:, TOTAL] > 0]
        x, y = buckets[:, SUM_X] / buckets[:, TOTAL], buckets[:, SUM_Y] / buckets[:, TOTAL]
        # Where a sum is too large for a number, the middle of the extremes.
        x = np.where(np.isfinite(x), x, buckets[:, LOW_X] / 2 + buckets[:, HIGH_X] / 2)
        y = np.where(np.isfinite(y), y, buckets[:, LOW] / 2 + buckets[:, HIGH] / 2)
        return _pairs(x, y)


def _of_rows(x: NDArray[np.float64], y: NDArray[np.float64]) -> Buckets:
    """Buckets of one row each."""
    is_finite = np.isfinite(y)
    y = np.where(is_finite, y, math.nan)
    return np.stack([is_finite, x, y, x, y, np.where(is_finite, x, 0), np.where(is_finite, y, 0)], axis=1)


def joined(buckets: Buckets, count: int) -> Buckets:
    """Each `count` buckets in one; the last one may be of fewer."""
    if count == 1 or not len(buckets):
        return buckets
    lacking = -len(buckets) % count
    empty = np.broadcast_to([0, math.nan, math.nan, math.nan, math.nan, 0, 0], (lacking, 7))
    groups = np.concatenate([buckets, empty]).reshape(-1, count, 7)
    every = np.arange(len(groups))
    low = np.where(groups[:, :, TOTAL] > 0, groups[:, :, LOW], math.inf).argmin(axis=1)
    high = np.where(groups[:, :, TOTAL] > 0, groups[:, :, HIGH], -math.inf).argmax(axis=1)
    with np.errstate(over="ignore"):
        whole: Buckets = groups.sum(axis=1)
    whole[:, [LOW_X, LOW]] = groups[every, low][:, [LOW_X, LOW]]
    whole[:, [HIGH_X, HIGH]] = groups[every, high][:, [HIGH_X, HIGH]]
    return whole


def _pairs(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[CurvePoint]:
    values = [None if math.isnan(value) else value for value in y.tolist()]
    return list(zip(x.tolist(), values, strict=True))
