"""The database file and the clock that it is read by."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import database as database_module
from wandb_tl.local.records import migrations
from wandb_tl.local.records.database import Database, Readers
from wandb_tl.local.records.json_path import KEPT_CHARACTERS, find, kept_object, pluck
from wandb_tl.local.records.names import decode_id, encode_id, ensure_project, project_named


def test_server_that_was_asleep_listens_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(database_module.time, "time", lambda: clock[0])
    database = Database(tmp_path / "wandb.sqlite")
    for seconds, since in ((5, 1000), (database_module.AWAY_SECONDS, 1000), (600, 1620), (5, 1620)):
        clock[0] += seconds
        with database.transaction() as db:
            assert db.listening_since == since
    database.close()


def test_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    Database(tmp_path / "wandb.sqlite").close()
    Database(tmp_path / "wandb.sqlite").close()
    with sqlite3.connect(tmp_path / "wandb.sqlite") as records:
        records.execute(f"PRAGMA user_version = {migrations.VERSION + 1}")
    with pytest.raises(RequestError, match="newer release"):
        Database(tmp_path / "wandb.sqlite")


# What takes a file of a version back to the one before.
BACK = {
    9: "ALTER TABLE project DROP COLUMN any_type; ALTER TABLE project DROP COLUMN updated_at;",
    8: "ALTER TABLE blob DROP COLUMN sent_at;",
    7: "ALTER TABLE blob DROP COLUMN announced_at;",
    6: "DROP TABLE alert;",
    5: "DROP TABLE history_column; DROP INDEX run_behind; DROP TRIGGER run_changed_lines;"
    " ALTER TABLE run DROP COLUMN column_lines;",
    4: "DROP TABLE answer;",
    3: "DROP TABLE saved_view;",
}


@pytest.fixture(params=[migrations.OLDEST])
def old(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file of an older version, the oldest unless a test names others, with a project in it."""
    path = tmp_path / "old.sqlite"
    database = Database(path)
    with database.transaction() as db:
        ensure_project(db, "me", "p")
    database.close()
    with sqlite3.connect(path) as records:
        for version in range(migrations.VERSION, request.param, -1):
            records.executescript(BACK[version])
        records.execute(f"PRAGMA user_version = {request.param}")
    return path


@pytest.mark.parametrize("old", range(migrations.OLDEST, migrations.VERSION), indirect=True)
def test_file_of_an_older_release_is_lifted(old: Path, tmp_path: Path) -> None:
    lifted, new = Database(old), Database(tmp_path / "new.sqlite")
    with lifted.transaction() as db:
        assert project_named(db, "me", "p")
    assert shape(lifted) == shape(new)
    lifted.close()
    new.close()
    Database(old).close()


def test_lifting_that_is_cut_off_starts_again(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(migrations.MIGRATIONS, 3, "nonsense")
    with pytest.raises(sqlite3.OperationalError):
        Database(old)
    monkeypatch.setitem(migrations.MIGRATIONS, 3, "CREATE TABLE new (id INTEGER PRIMARY KEY)")
    with Database(old).transaction() as db:
        assert db.all("SELECT * FROM new") == [] and db.value("PRAGMA user_version") == migrations.VERSION


def test_file_from_before_the_first_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wandb.sqlite"
    Database(path).close()
    with sqlite3.connect(path) as records:
        records.execute("PRAGMA user_version = 1")
    with pytest.raises(RequestError, match="before the first release"):
        Database(path)


def test_reading_beside_the_server(tmp_path: Path) -> None:
    path = tmp_path / "wandb.sqlite"
    writer, reader = Database(path), Database(path, read_only=True)
    with writer.transaction() as db:
        ensure_project(db, "me", "p")
    with reader.transaction() as db:
        assert project_named(db, "me", "p")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            ensure_project(db, "me", "q")
    writer.close()
    reader.close()
    with sqlite3.connect(path) as records:
        records.execute("PRAGMA user_version = 2")
    with pytest.raises(RequestError, match="older release"):
        Database(path, read_only=True)


def test_a_query_without_an_end_is_ended_and_others_are_answered_meanwhile(tmp_path: Path) -> None:
    Database(tmp_path / "wandb.sqlite").close()
    readers = Readers(tmp_path / "wandb.sqlite", 2)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with readers.transaction(0.05) as db, readers.transaction(60) as other:
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            db.value(endless)
        assert other.value("SELECT 1") == 1
    with readers.transaction(60) as db:
        assert db.value("SELECT 2") == 2
    readers.close()


def shape(database: Database) -> dict[str, set]:
    """The columns and foreign keys of every table, the indices with their columns, and the triggers."""

    def pragma(name: str, of: str, *wanted: str) -> set:
        rows = db.all(f"SELECT * FROM pragma_{name}(?)", of)
        return {tuple(row[column] for column in wanted) for row in rows}

    with database.transaction() as db:
        tables = [row["name"] for row in db.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
        triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        indices = [row["name"] for row in db.all("SELECT name FROM sqlite_master WHERE type = 'index'")]
        return (
            {table: pragma("table_info", table, "name", "type", "notnull", "dflt_value") for table in tables}
            | {f"keys of {t}": pragma("foreign_key_list", t, "table", "from", "on_delete") for t in tables}
            | {f"index {index}": pragma("index_info", index, "seqno", "name") for index in indices}
            | {"triggers": {row["name"] for row in db.all(triggers)}}
        )


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "wandb.sqlite")
    with pytest.raises(RuntimeError), database.transaction() as db:
        ensure_project(db, "me", "p")
        raise RuntimeError
    with database.transaction() as db:
        assert project_named(db, "me", "p") is None
    database.close()


def test_ids_and_dotted_paths() -> None:
    assert decode_id("Run", encode_id("Run", 12)) == 12
    assert decode_id("Sweep", encode_id("Run", 12)) is None and decode_id("Run", "no id") is None
    assert find({"a.b": 1, "a": {"b": 2, "c.d": {"e": 3}}}, "a.b") == 1
    assert find({"a": {"b": 2, "c.d": {"e": 3}}}, "a.c.d.e") == 3
    assert find({"a": 1}, "a.b") is None


def test_a_path_takes_time_in_proportion_to_its_length() -> None:
    """The address of a page may have one of a hundred thousand parts, which used to take minutes."""
    long = "a." * 100_000
    start = time.process_time()
    assert find({f"{long}b": {"c": 1}, long: 2, "a": {"c": 3}}, f"{long}b.c") == 1
    assert find({f"{long}b": {"c": 1}, "a": {"c": 3}}, f"{long}d") is None
    assert time.process_time() - start < 2


def test_plucked_values_fit_a_column() -> None:
    assert pluck('{"a": {"b": 2}}', "a.b") == 2 and pluck('{"a": [1]}', "a") == "[1]"
    for broken in ("{broken", "[1]", "3", "[" * 100_000, ""):
        assert pluck(broken, "a") is None
    assert pluck(json.dumps({"a": 1 << 63}), "a") == 2.0**63 and pluck(json.dumps({"a": -(10**400)}), "a") < 0
    assert pluck('{"a": "\\ud800x"}', "a") == "?x"


def test_objects_are_kept_by_the_length_of_their_texts() -> None:
    for number in range(12):
        assert pluck(json.dumps({"a": number, "pad": "x" * (KEPT_CHARACTERS // 8)}), "a") == number
    assert 0 < kept_object.characters <= KEPT_CHARACTERS
    assert sum(map(len, kept_object.results)) == kept_object.characters


def test_what_is_no_cursor_is_refused(tmp_path: Path) -> None:
    with Database(tmp_path / "wandb.sqlite").transaction() as db:
        for cursor in ("abc", "-1", "9" * 30):
            with pytest.raises(RequestError, match="is not a valid cursor"):
                db.page("SELECT * FROM run", [], 1, cursor)
