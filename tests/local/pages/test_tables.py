"""Tables on pages: in pages, sorted, filtered, from runs and artifacts; and the arithmetic behind them."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from browser_tab import Tab, needs_chromium
from live_server import Server, wait_for

from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.pages import logged_tables
from wandb_tl.local.pages.confusion import CLASSES, Examples, confusion, is_confusion, quoted
from wandb_tl.local.pages.logged_tables import LoggedTable, TableError
from wandb_tl.local.pages.run_filter import FilterError, tokens_of
from wandb_tl.local.pages.table_rows import ROWS, matching, select
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.records.transaction import Transaction

PAGE = "/local/gallery/runs/one?table="


@needs_chromium
def test_a_long_table_is_read_in_pages(gallery: Tab) -> None:
    page = gallery.open(f"{PAGE}long")
    rows = page.locator("#rows tbody tr")
    assert rows.count() == ROWS and len(page.content()) < 60_000
    assert page.locator("#rows-tools .count").inner_text() == "5,000 rows"
    assert page.locator("#rows .summaries svg").count() == 2
    page.evaluate("window.stayed = true")
    page.get_by_role("link", name="next").click()
    wait_for(lambda: rows.first.inner_text().split()[0] == "50")
    page.get_by_role("link", name="sine").click()
    wait_for(lambda: "page 1 of 100" in page.locator("#rows-tools").inner_text())
    sines = [float(row.locator("td").nth(2).inner_text()) for row in rows.all()]
    assert sines == sorted(sines, reverse=True)
    search = page.get_by_role("searchbox", name="Filter rows")
    search.fill('"name"="name 3" even=True i<100')
    wait_for(lambda: page.locator("#rows-tools .count").inner_text() == "7 of 5,000 rows")
    assert page.evaluate("window.stayed")
    search.fill("nothing=1")
    wait_for(lambda: "has no column nothing" in page.locator("#rows-tools").inner_text())
    page.go_back()
    # Some browsers also go back over what was entered without a click: to the whole table.
    wait_for(lambda: "has no column nothing" not in page.locator("#rows-tools").inner_text())
    entered = {"7 of 5,000 rows": '"name"="name 3" even=True i<100', "5,000 rows": ""}
    assert search.input_value() == entered[page.locator("#rows-tools .count").inner_text()]


@needs_chromium
def test_incremental_tables_and_those_in_artifacts(gallery: Tab) -> None:
    page = gallery.open(f"{PAGE}growing")
    assert [row.split() for row in page.locator("#rows tbody tr").all_inner_texts()] == [
        ["0", "1"],
        ["1", "0.5"],
        ["2", "0.3333"],
    ]
    page = gallery.open("/local/gallery/artifacts/dataset/results")
    page.get_by_role("link", name="open the Table").click()
    rows = page.locator("#rows tbody tr")
    assert rows.count() == 8 and rows.first.locator("img").evaluate("image => image.naturalWidth") == 32
    page.get_by_role("link", name="confidence").click()
    wait_for(lambda: rows.first.inner_text().split()[-1] == "0.875")


def test_there_is_no_such_table(gallery_server: Server) -> None:
    for address in (
        f"{PAGE}none",
        f"{PAGE}sample",
        f"{PAGE}secret",
        "/local/gallery/artifacts/dataset/results/v0?table=none",
        "/local/gallery/artifacts/dataset/results/v0?table=moving.gif",
        "/local/gallery/artifacts/dataset/results/v0?table=../../key",
    ):
        assert gallery_server.request(address)[0] == 404, address
    assert gallery_server.request(f"{PAGE}long&page=99999999&sort=-none&line=99")[0] == 404
    assert gallery_server.request(f"{PAGE}long&page=99999999&sort=-none")[0] == 200


@pytest.fixture
def table() -> LoggedTable:
    rows = [[3, "b"], [math.nan, "a"], [10, None], ["word", 'say "hi" it\'s'], [None, "A"], [1e308, True]]
    return LoggedTable(["n", "text"], rows, {})


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("", 6),
        ("n>=3", 3),
        ("text=a", 2),
        ("a text!=a", 1),
        ("n=word", 1),
        (f"text={quoted(chr(34) + 'x')}", 0),
        ("hi", 1),
        ("true", 1),
        (f"{quoted('text')}={quoted('say ' + chr(34) + 'hi' + chr(34) + chr(32) + 'it' + chr(39) + 's')}", 1),
    ],
)
def test_filters(table: LoggedTable, filter: str, expected: int) -> None:
    assert len(matching(table, filter)) == expected


@pytest.mark.parametrize("filter", ["n>", ">3", "m=1", "n>x", "'open", "x" * 2000])
def test_filters_that_cannot_be_used(table: LoggedTable, filter: str) -> None:
    with pytest.raises(FilterError):
        matching(table, filter)
    selection = select(table, filter)
    assert selection.problem and selection.count == 6


def test_order_and_summaries(table: LoggedTable) -> None:
    assert [row[0] for row in select(table, sort="+n").rows][:4] == [3, 10, 1e308, "word"]
    assert [row[0] for row in select(table, sort="-n").rows][:4] == ["word", 1e308, 10, 3]
    numbers = LoggedTable(["x"], [[value] for value in (1e308, -1e308, 5, None)], {})
    column = select(numbers).columns[0]
    assert column.kind == "number" and "1 missing" in column.words
    assert "-1e+308 to 1e+308" in column.words[0] and sum(bin.share > 0 for bin in column.bins) == 3
    assert select(LoggedTable(["x"], [[2], [2]], {})).columns[0].bins == []
    assert select(LoggedTable([], [], {})).pages == 1
    # Strings that differ after the characters that are shown.
    long = LoggedTable(["x"], [["x" * 30 + end] for end in "aab"], {})
    assert select(long).columns[0].words == ["2 different", f"{'x' * 23}… (2)", f"{'x' * 23}… (1)"]


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs", "key")


def write_table(blobs: Blobs, blob_id: str, columns: list[str], rows: list[list[Any]]) -> None:
    with blobs.write(json.dumps({"columns": columns, "data": rows}).encode()) as upload:
        blobs.move_in(upload.file, blob_id)


def write_increment(db: Transaction, sequence: int, number: int, blob_id: str) -> None:
    """A version of an artifact with the file t.table.json, as a client uploads an increment."""
    version = db.insert(
        "artifact",
        sequence_id=sequence,
        state="COMMITTED",
        digest=f"d{number}",
        digest_algorithm="MANIFEST_MD5",
        created_at=0,
        updated_at=0,
    )
    db.insert("client_id", client_id=f"c{number}", artifact_id=version)
    db.insert("blob", id=blob_id, name="t.table.json", uploaded_at=0)
    db.insert("manifest_entry", artifact_id=version, path="t.table.json", digest="d", size=1, blob_id=blob_id)


def test_a_small_file_with_many_cells_is_not_read_into_rows(blobs: Blobs) -> None:
    width = logged_tables.CELLS // 1000
    write_table(blobs, "a" * 32, ["c"] * width, [[]] * 1001)
    tracemalloc.start()
    with pytest.raises(TableError, match=f"has more than {logged_tables.CELLS:,} cells, too many"):
        logged_tables.read(blobs, "a" * 32)
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


def test_increments_are_read_once_and_the_last_of_many(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(tmp_path / "wandb.sqlite")
    count = logged_tables.INCREMENTS + 1
    with database.transaction() as db:
        project = ensure_project(db, "local", "p")["id"]
        kind = db.insert("artifact_type", project_id=project, name="run_table", created_at=0)
        parent = db.insert(
            "collection",
            project_id=project,
            type_id=kind,
            kind="ArtifactSequence",
            name="t",
            created_at=0,
            updated_at=0,
        )
        for number in range(count):
            blob_id = f"{number:032x}"
            write_table(blobs, blob_id, ["step", "late"] if number == count - 1 else ["step"], [[number]])
            write_increment(db, parent, number, blob_id)
        addresses = [f"wandb-client-artifact://c{number}/t.table.json" for number in range(count)]
        value = {"artifact_path": addresses[-1], "previous_increments_paths": addresses[:-1] * 100}
        table = logged_tables.of_value(db, blobs, {}, value)
        assert table is not None and table.rows == [[number, None] for number in range(count)]
        monkeypatch.setattr(logged_tables, "INCREMENTS", 2)
        table = logged_tables.of_value(db, blobs, {}, value)
        assert table is not None and [row[0] for row in table.rows] == [count - 3, count - 2, count - 1]
        monkeypatch.setattr(logged_tables, "CELLS", 5)
        with pytest.raises(TableError, match="too many for a page"):
            logged_tables.of_value(db, blobs, {}, value)
    database.close()


def test_confusion_matrices() -> None:
    rows = [["a", "a", 3], ["a", "b", 1], ["b", "a", 0], ["b", "b", 2]]
    images = Counter({("a", "a"): 2, ("a", "b"): 1})
    matrix = confusion(rows, Examples("?table=t", "actual", "predicted", images))
    assert matrix.classes == ["a", "b"] and matrix.largest == 3 and matrix.left_out == 0
    assert [[cell.count for cell in row] for row in matrix.rows] == [[3, 1], [0, 2]]
    assert matrix.rows[0][1].share == 0.25 and matrix.rows[1][0].url == ""
    assert matrix.rows[0][1].url == "?table=t&filter=%22actual%22%3D%22a%22+%22predicted%22%3D%22b%22"
    assert [[cell.images for cell in row] for row in matrix.rows] == [[2, 1], [0, 0]]
    # No image of this cell was logged.
    assert matrix.rows[1][1].url == ""
    many = confusion([[f"c{i}", f"c{(i + 1) % 1000}", i] for i in range(1000)])
    assert len(many.classes) == len(many.rows) == CLASSES and many.left_out == 1000 - CLASSES
    assert many.classes[-1] == "c999"
    # Without any error, the matrix has as many classes.
    right = confusion([[f"c{i}", f"c{i}", 1] for i in range(CLASSES + 1)])
    assert len(right.classes) == CLASSES and right.left_out == 1
    assert is_confusion(["Actual", "Predicted", "nPredictions"], rows) and is_confusion(
        ["actual", "predicted", "count"], rows
    )
    assert not is_confusion(["Actual", "Predicted", "nPredictions"], [["a", "b", "many"]])
    assert confusion([]).classes == []


@pytest.mark.parametrize("text", ["", "or", 'a"b', "it's", "a=b", "ü 1", '"'])
def test_a_quoted_word_is_one_word(text: str) -> None:
    [token] = tokens_of(quoted(text))
    assert token.text == text
