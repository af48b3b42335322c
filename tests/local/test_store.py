"""The database file and the clock that it is read by."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from wandb_tl.local import store as stores
from wandb_tl.local.store import Refused, Store, decode_id, encode_id, find


def test_server_that_was_asleep_listens_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(stores.time, "time", lambda: clock[0])
    store = Store(tmp_path / "wandb.sqlite")
    for seconds, since in ((5, 1000), (stores.DEAF_SECONDS, 1000), (600, 1620), (5, 1620)):
        clock[0] += seconds
        with store.transaction() as db:
            assert db.listening_since == since
    store.close()


def test_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "wandb.sqlite").close()
    Store(tmp_path / "wandb.sqlite").close()
    with sqlite3.connect(tmp_path / "wandb.sqlite") as records:
        records.execute(f"PRAGMA user_version = {stores.VERSION + 1}")
    with pytest.raises(Refused, match="newer release"):
        Store(tmp_path / "wandb.sqlite")


def test_file_of_an_older_release_is_lifted(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.sqlite") as records:
        records.executescript(
            (Path(__file__).parent / "tables_1.sql").read_text() + "PRAGMA user_version = 1;"
        )
        records.execute("INSERT INTO project (entity, name, created_at) VALUES ('me', 'p', 1.5)")
    old, new = Store(tmp_path / "old.sqlite"), Store(tmp_path / "new.sqlite")
    with old.transaction() as db:
        assert stores.project_named(db, "me", "p")["created_at"] == 1.5
    assert shape(old) == shape(new)
    old.close()
    new.close()
    Store(tmp_path / "old.sqlite").close()


def test_reading_beside_the_server(tmp_path: Path) -> None:
    path = tmp_path / "wandb.sqlite"
    writer, reader = Store(path), Store(path, read_only=True)
    with writer.transaction() as db:
        stores.ensure_project(db, "me", "p")
    with reader.transaction() as db:
        assert stores.project_named(db, "me", "p")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            stores.ensure_project(db, "me", "q")
    writer.close()
    reader.close()
    with sqlite3.connect(path) as records:
        records.execute("PRAGMA user_version = 1")
    with pytest.raises(Refused, match="older release"):
        Store(path, read_only=True)


def shape(store: Store) -> dict[str, set]:
    """The columns of every table, and the indices."""
    with store.transaction() as db:
        tables = [row["name"] for row in db.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {
            table: {
                (row["name"], row["type"], row["notnull"], row["dflt_value"])
                for row in db.all("SELECT * FROM pragma_table_info(?)", table)
            }
            for table in tables
        }
        indices = {row["name"] for row in db.all("SELECT name FROM sqlite_master WHERE type = 'index'")}
    return columns | {"indices": indices}


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "wandb.sqlite")
    with pytest.raises(RuntimeError), store.transaction() as db:
        stores.ensure_project(db, "me", "p")
        raise RuntimeError
    with store.transaction() as db:
        assert stores.project_named(db, "me", "p") is None
    store.close()


def test_ids_and_dotted_paths() -> None:
    assert decode_id("Run", encode_id("Run", 12)) == 12
    assert decode_id("Sweep", encode_id("Run", 12)) is None and decode_id("Run", "no id") is None
    assert find({"a.b": 1, "a": {"b": 2, "c.d": {"e": 3}}}, "a.b") == 1
    assert find({"a": {"b": 2, "c.d": {"e": 3}}}, "a.c.d.e") == 3
    assert find({"a": 1}, "a.b") is None
