"""Long curves: what buckets keep, and what is read again."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
from stream_lab import chunk, post, run

from wandb_tl.local.pages import thinning
from wandb_tl.local.pages.thinned import BUCKETS, SUM_Y, TOTAL, Thinned
from wandb_tl.local.pages.thinning import SAMPLES, CurveReader, Source, sample
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.records.transaction import Transaction


def thinned(count: int) -> Thinned:
    curve = Thinned()
    for x in range(count):
        curve.extend([x], [float(x % 7)])
    return curve


def test_short_curves_are_exact() -> None:
    curve = thinned(100)
    curve.extend([100], [math.nan])
    assert curve.points(800) == curve.means(800) == [*((x, x % 7) for x in range(100)), (100, None)]


@pytest.mark.parametrize("count", [BUCKETS, BUCKETS + 1, 3 * BUCKETS, 10_000])
def test_buckets_keep_extremes_means_and_the_last_point(count: int) -> None:
    curve = thinned(count)
    points = curve.points(400)
    assert len(points) <= 401 and points[-1] == (count - 1, (count - 1) % 7)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert {y for _, y in points} >= {0, 6} and all(y == x % 7 for x, y in points)
    assert curve.buckets[:, TOTAL].sum() == count
    assert curve.buckets[:, SUM_Y].sum() == sum(x % 7 for x in range(count))


@pytest.fixture
def db(tmp_path: Path):
    database = Database(tmp_path / "wandb.sqlite")
    with database.transaction() as db:
        project = ensure_project(db, "local", "p")
        db.insert("run", project_id=project["id"], name="r", display_name="r", state="running", created_at=0)
        yield db
    database.close()


def source(db: Transaction, key: str) -> Source:
    return Source(run(db)["id"], HISTORY, key, "_step")


def test_a_growing_run_is_read_on_and_a_rewound_one_again(db: Transaction) -> None:
    reader = CurveReader()
    lines = [json.dumps({"_step": i, "loss": i, "a.b": {"c": i}, 'q"': i}) for i in range(5)]
    lines.append('{"_step": 5, "loss": NaN, "a.b": {"c": 5}}')
    lines.append('{"loss": 6}')
    post(db, files=chunk(HISTORY, 0, *lines[:3]))
    curve, is_complete = reader.read(db, source(db, "loss"))
    assert is_complete and curve.points(10) == [(0, 0), (1, 1), (2, 2)]
    post(db, files=chunk(HISTORY, 3, *lines[3:]))
    curve, _ = reader.read(db, source(db, "loss"))
    assert curve.points(10) == [*((i, i) for i in range(5)), (5, None)] and curve.lacking == 1
    assert len(reader.read(db, source(db, "a.b.c"))[0].points(10)) == 6
    assert len(reader.read(db, source(db, 'q"'))[0].points(10)) == 5
    post(db, files=chunk(HISTORY, 6, '{"_step": 0, "loss": 9}'))
    assert reader.read(db, source(db, "loss"))[0].points(10)[-1] == (0, 9)


def test_reading_stops_in_time_and_goes_on_later(db: Transaction, monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that moves when it is looked at, which happens once for each part of 2,000 lines.
    looks = itertools.count()
    monkeypatch.setattr(thinning.time, "monotonic", lambda: next(looks))
    reader = CurveReader()
    post(db, files=chunk(HISTORY, 0, *(json.dumps({"_step": i, "loss": i}) for i in range(3000))))
    part, is_complete = reader.read(db, source(db, "loss"), until=0)
    assert part.last == (1999, 1999) and not is_complete
    answer = reader.read(db, source(db, "loss"), until=2)
    assert answer[1] and answer[0].last == (2999, 2999)
    # What has been read is complete after the deadline too, with a few lines that came since.
    post(db, files=chunk(HISTORY, 3000, json.dumps({"_step": 3000, "loss": 3000})))
    answer = reader.read(db, source(db, "loss"), until=0)
    assert answer[1] and answer[0].last == (3000, 3000)
    few = sample(db, source(db, "loss")).points(800)
    assert len(few) == SAMPLES and few[0] == (0, 0) and few[-1] == (3000, 3000)


def test_curves_are_kept_by_the_memory_that_they_take(
    db: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = CurveReader()
    post(db, files=chunk(HISTORY, 0, *(json.dumps({"_step": i, "a": i, "b": i, "c": i}) for i in range(300))))
    size = reader.read(db, source(db, "a"))[0].bytes
    monkeypatch.setattr(thinning, "KEPT_BYTES", 2 * size)
    for key in ("b", "c", "b"):
        assert reader.read(db, source(db, key))[1]
    assert [one.key for one in reader.curves] == ["c", "b"] and reader.bytes == 2 * size
    # One that was dropped is not complete without time to read it; one that was kept is.
    assert [reader.read(db, source(db, key), until=0)[1] for key in ("a", "b")] == [False, True]


def test_means_of_very_large_numbers_are_finite() -> None:
    curve = Thinned()
    for x in range(BUCKETS + 1):
        curve.extend([x], [1.7e308])
    assert {y for _, y in curve.means(100)} == {1.7e308}


def test_a_curve_that_was_read_stays_while_another_page_reads_on(db: Transaction) -> None:
    reader = CurveReader()
    lines = [json.dumps({"_step": i, "loss": i}) for i in range(2 * BUCKETS + 2)]
    post(db, files=chunk(HISTORY, 0, *lines[: 2 * BUCKETS + 1]))
    curve, _ = reader.read(db, source(db, "loss"))
    before = curve.buckets.copy()
    post(db, files=chunk(HISTORY, 2 * BUCKETS + 1, *lines[2 * BUCKETS + 1 :]))
    longer, _ = reader.read(db, source(db, "loss"))
    assert (curve.buckets == before).all() and (longer.count, curve.count) == (
        2 * BUCKETS + 2,
        2 * BUCKETS + 1,
    )
    assert curve.points(800)[-1][0] < longer.points(800)[-1][0] and reader.bytes == longer.bytes
