"""Columns of histories: they give the same curves as the lines, and are dropped where lines change."""

from __future__ import annotations

import json
import math
import random
import sqlite3
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import Server, wait_for
from run_writer import write_run
from stream_lab import chunk, post, rows, run

from wandb_tl.local import watch
from wandb_tl.local.pages.thinned import Thinned
from wandb_tl.local.pages.thinning import CurveReader, Source
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import branches, history_columns
from wandb_tl.local.runs.history_columns import BLOCK, Column, columns_of


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Transaction]:
    database = Database(tmp_path / "wandb.sqlite")
    with database.transaction() as db:
        project = ensure_project(db, "local", "p")
        db.insert("run", project_id=project["id"], name="r", display_name="r", state="running", created_at=0)
        yield db
    database.close()


def write_all(db: Transaction) -> None:
    while lines := history_columns.unstored(db):
        history_columns.store(db, lines, [columns_of(block) for block in lines.blocks])


def curve(db: Transaction, key: str, axis: str) -> tuple:
    read, is_complete = CurveReader().read(db, Source(run(db)["id"], HISTORY, key, axis))
    assert is_complete
    return read.points(800), read.means(800), read.last, read.lacking, read.line


def varied_lines(count: int) -> list[str]:
    """Lines with gaps, values that are not finite, nested keys, keys that come and go, and a spike."""
    chance = random.Random(0)
    values = [1, 2.5, math.nan, -math.inf, "NaN", "text", True, None, 10**400]
    lines = []
    for step in range(count):
        line = {"_step": step, "loss": chance.random(), "odd": chance.choice(values), "a": {"b": {"c": step}}}
        line |= {"epoch": step / 10} if step % 7 else {}
        line |= {"rare": step} if step % 100 == 3 else {}
        line |= {"picture": {"_type": "image-file", "width": 3}, "words": "one"}
        lines.append(json.dumps(line))
    lines[777] = json.dumps({"_step": 777, "loss": 1e9, "epoch": 77.7})
    lines[901] = "not JSON"
    return lines


@pytest.mark.parametrize("axis", ["_step", "epoch", "rare", "nothing"])
def test_columns_give_the_same_curves_as_lines(db: Transaction, axis: str) -> None:
    lines = varied_lines(5 * BLOCK + 17)
    post(db, files=chunk(HISTORY, 0, *lines))
    keys = ["loss", "odd", "a.b.c", "rare", "nothing"]
    from_lines = {key: curve(db, key, axis) for key in keys}
    write_all(db)
    assert run(db)["column_lines"] == 5 * BLOCK
    stored = db.all("SELECT DISTINCT key FROM history_column ORDER BY key")
    assert [row["key"] for row in stored] == ["_step", "a.b.c", "epoch", "loss", "odd", "rare"]
    for key in keys:
        points, means, last, lacking, line = curve(db, key, axis)
        assert (points, last, lacking, line) == (from_lines[key][0], *from_lines[key][2:]), key
        assert [x for x, _ in means] == pytest.approx([x for x, _ in from_lines[key][1]])
    if axis == "_step":
        assert (777, 1e9) in curve(db, "loss", axis)[0]


def test_a_curve_that_was_begun_from_lines_goes_on_from_columns(db: Transaction) -> None:
    reader, lines = CurveReader(), varied_lines(5 * BLOCK)
    source = Source(run(db)["id"], HISTORY, "loss", "_step")
    post(db, files=chunk(HISTORY, 0, *lines[:100]))
    assert reader.read(db, source)[0].line == 99
    post(db, files=chunk(HISTORY, 100, *lines[100:]))
    write_all(db)
    assert reader.read(db, source)[0].points(10**6) == curve_of(lines)


def curve_of(lines: list[str]) -> list[tuple[float, float]]:
    rows = [json.loads(line) for line in lines if line != "not JSON"]
    whole = Thinned()
    whole.extend([row["_step"] for row in rows], [row["loss"] for row in rows])
    return whole.points(10**6)


def test_lines_that_are_sent_again_and_a_rewound_run_have_new_columns(db: Transaction) -> None:
    lines = [json.dumps({"_step": step, "loss": step}) for step in range(3 * BLOCK)]
    post(db, files=chunk(HISTORY, 0, *lines))
    write_all(db)
    post(db, files=chunk(HISTORY, 10, json.dumps({"_step": 10, "loss": -5})))
    assert run(db)["column_lines"] == 0 and db.all("SELECT * FROM history_column") == []
    write_all(db)
    assert (10, -5) in curve(db, "loss", "_step")[0]
    branches.rewind(db, run(db), "_step", 1.5 * BLOCK)
    assert run(db)["column_lines"] == 0 and db.all("SELECT * FROM history_column") == []
    assert curve(db, "loss", "_step")[2] == (1.5 * BLOCK, 1.5 * BLOCK)
    post(db, files=chunk(HISTORY, BLOCK + BLOCK // 2 + 1, json.dumps({"_step": 999, "loss": 7})))
    write_all(db)
    assert run(db)["column_lines"] == BLOCK and curve(db, "loss", "_step")[2] == (999, 7)


def test_a_deleted_run_has_no_columns(db: Transaction) -> None:
    post(db, files=chunk(HISTORY, 0, *(json.dumps({"_step": step, "a": 1}) for step in range(BLOCK))))
    write_all(db)
    assert db.value("SELECT count(*) FROM history_column") == 2
    db.run("DELETE FROM run")
    assert db.value("SELECT count(*) FROM history_column") == 0


def test_a_key_that_is_in_a_line_twice_has_one_value() -> None:
    columns = columns_of(
        ['{"a.b": 1, "a": {"b": 2}, "deep": ' + "[" * 10**5 + "]" * 10**5 + "}", '{"a": {"b": 3}}']
    )
    assert columns == {"a.b": Column(b"\1", array("d", [3]))}
    assert columns_of(['{"a.b": 1, "a": {"b": 2}}'])["a.b"].numbers.tolist() == [1]


def test_lines_that_change_while_they_are_parsed_are_parsed_again(db: Transaction) -> None:
    post(db, files=chunk(HISTORY, 0, *(json.dumps({"_step": step, "loss": step}) for step in range(BLOCK))))
    lines = history_columns.unstored(db)
    assert lines is not None and lines.first == 0 and len(lines.blocks) == 1
    # The counts are afterwards what they were.
    post(db, files=chunk(HISTORY, 10, *(json.dumps({"_step": n, "loss": -n}) for n in range(10, BLOCK))))
    assert run(db)["history_keys_lines"] == BLOCK
    history_columns.store(db, lines, [columns_of(block) for block in lines.blocks])
    assert run(db)["column_lines"] == 0 and db.all("SELECT * FROM history_column") == []
    write_all(db)
    assert run(db)["column_lines"] == BLOCK and curve(db, "loss", "_step")[2] == (BLOCK - 1, 1 - BLOCK)


def test_long_lines_are_read_a_block_at_a_time(db: Transaction) -> None:
    text = "x" * (history_columns.CHARACTERS // BLOCK)
    rows = [json.dumps({"_step": step, "text": text}) for step in range(3 * BLOCK)]
    post(db, files=chunk(HISTORY, 0, *rows))
    lines = history_columns.unstored(db)
    assert lines is not None and len(lines.blocks) == 1
    write_all(db)
    assert run(db)["column_lines"] == 3 * BLOCK


def test_a_key_that_is_no_text_is_stored_without_its_surrogates(db: Transaction) -> None:
    post(db, files=chunk(HISTORY, 0, *['{"\\ud800": 1, "loss": 2}'] * (BLOCK + 60)))
    write_all(db)
    stored = db.all("SELECT DISTINCT key FROM history_column")
    assert [row["key"] for row in stored] == ["?", "loss"] and run(db)["column_lines"] == BLOCK


def test_a_run_that_fails_is_logged_once_and_does_not_block_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(tmp_path / "wandb.sqlite")
    with database.transaction() as db:
        project = ensure_project(db, "local", "p")
        for name in ("r", "s"):
            values = {"display_name": name, "state": "running", "created_at": 0}
            db.insert("run", project_id=project["id"], name=name, **values)
            post(db, name, files=chunk(HISTORY, 0, *rows(*range(BLOCK))))
        db.run(
            "CREATE TRIGGER broken BEFORE INSERT ON history_column WHEN NEW.run_id = 1"
            " BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )
    skipped: set[int] = set()
    # A folder that cannot be written says nothing about a run.
    database.connection.execute("PRAGMA query_only = ON")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        watch.store_columns(database, skipped)
    assert not skipped
    database.connection.execute("PRAGMA query_only = OFF")
    for _ in range(2):
        while watch.store_columns(database, skipped):
            pass
    assert skipped == {1} and len(caplog.records) == 1
    with database.transaction() as db:
        lines = db.all("SELECT name, column_lines FROM run ORDER BY id")
        assert lines == [{"name": "r", "column_lines": 0}, {"name": "s", "column_lines": BLOCK}]
    database.close()


def test_the_server_writes_columns_in_the_background(server: Server) -> None:
    rows = [{"epoch": number, "loss": 1 / number} for number in range(1, 2 * BLOCK + 10)]
    write_run(server, "columns", "r", {}, rows)
    records = sqlite3.connect(f"file:{server.root / 'wandb.sqlite'}?mode=ro", uri=True)
    lines = "SELECT column_lines FROM run WHERE name = 'r'"
    wait_for(lambda: records.execute(lines).fetchone()[0] == 2 * BLOCK)
    assert records.execute("SELECT count(DISTINCT block) FROM history_column").fetchone()[0] == 2
    records.close()
