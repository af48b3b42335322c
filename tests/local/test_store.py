"""The database file and the clock that it is read by."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from wandb_tl.local import artifacts, manifests
from wandb_tl.local import store as stores
from wandb_tl.local.store import Refused, Store, decode_id, encode_id, find, pluck


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


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of version 1 with an upload on its way and a sweep whose early_terminate was not heeded."""
    with sqlite3.connect(tmp_path / "old.sqlite") as records:
        records.executescript(
            (Path(__file__).parent / "tables_1.sql").read_text() + "PRAGMA user_version = 1;" + OLD
        )
    return tmp_path / "old.sqlite"


OLD = """
INSERT INTO project (entity, name, created_at) VALUES ('me', 'p', 1.5);
INSERT INTO artifact_type VALUES (1, 1, 't', NULL, 1);
INSERT INTO collection VALUES (1, 1, 1, 'ArtifactSequence', 'c', NULL, 0, 1, 1);
INSERT INTO artifact (id, sequence_id, state, digest, digest_algorithm, created_at, updated_at)
    VALUES (1, 1, 'COMMITTED', 'x', 'MANIFEST_MD5', 1, 1), (2, 1, 'PENDING', 'y', 'MANIFEST_MD5', 9e9, 9e9);
INSERT INTO blob (id, name, announced, permanent, md5, size, uploaded_at)
    VALUES ('done', 'f', 'm1', 1, 'm1', 1, 1), ('here', 'f', 'm2', 1, 'm2', 1, 1),
    ('coming', 'f', 'm3', 1, NULL, NULL, NULL), ('file', 'f', NULL, 0, NULL, NULL, NULL);
INSERT INTO manifest_entry VALUES (1, 'f', 'm1', 1, NULL, 'done');
INSERT INTO sweep VALUES (1, 1, 's', NULL, NULL,
    '{method: random, metric: {name: a.loss}, early_terminate: {type: hyperband, min_iter: 2}}', 'RUNNING',
    NULL, NULL, 1, 1), (2, 1, 's2', NULL, NULL, '{method: random, metric: {name: loss}}', 'RUNNING',
    NULL, NULL, 1, 1);
INSERT INTO run (id, project_id, name, display_name, state, created_at, sweep_id)
    VALUES (1, 1, 'r', 'r', 'running', 1, 1), (2, 1, 'r2', 'r2', 'running', 1, 2);
INSERT INTO stream_line VALUES (1, 'wandb-history.jsonl', 0, 0, '{"a": {"loss": 3}}'),
    (1, 'wandb-history.jsonl', 1, 1, '{"a": {"loss": NaN}}'), (1, 'wandb-history.jsonl', 2, 2, '{broken'),
    (1, 'wandb-history.jsonl', 3, 3, '{"a": {"loss": 1.5}}'),
    (1, 'output.log', 0, NULL, '{"a": {"loss": 1}}'),
    (2, 'wandb-history.jsonl', 0, 0, '{"loss": 3}');
"""


def test_file_of_an_older_release_is_lifted(old: Path, tmp_path: Path) -> None:
    lifted, new = Store(old), Store(tmp_path / "new.sqlite")
    with lifted.transaction() as db:
        assert stores.project_named(db, "me", "p")["created_at"] == 1.5
        values = db.all("SELECT run_id, line, number, value FROM metric_value ORDER BY line")
        assert [tuple(row.values()) for row in values] == [(1, 0, 1, 3.0), (1, 3, 2, 1.5)]
        # Nothing of an upload on its way is forgotten, and it goes on.
        assert artifacts.forget_abandoned(db) == []
        wanted = {"name": "f", "md5": "m3"}
        assert manifests.expect(db, db.get("artifact", 2), wanted)["id"] == "coming"
    assert shape(lifted) == shape(new)
    lifted.close()
    new.close()
    Store(old).close()


def test_lifting_that_is_cut_off_goes_on_where_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "VERSION", 3)
    monkeypatch.setitem(stores.MIGRATIONS, 3, "nonsense")
    with pytest.raises(sqlite3.OperationalError):
        Store(old)
    monkeypatch.setitem(stores.MIGRATIONS, 3, "CREATE TABLE new (id INTEGER PRIMARY KEY)")
    with Store(old).transaction() as db:
        assert db.all("SELECT * FROM new") == [] and db.value("PRAGMA user_version") == 3


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
    """The columns and foreign keys of every table, and the indices with their columns."""

    def pragma(name: str, of: str, *wanted: str) -> set:
        rows = db.all(f"SELECT * FROM pragma_{name}(?)", of)
        return {tuple(row[column] for column in wanted) for row in rows}

    with store.transaction() as db:
        tables = [row["name"] for row in db.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
        indices = [row["name"] for row in db.all("SELECT name FROM sqlite_master WHERE type = 'index'")]
        return (
            {table: pragma("table_info", table, "name", "type", "notnull", "dflt_value") for table in tables}
            | {f"keys of {t}": pragma("foreign_key_list", t, "table", "from", "on_delete") for t in tables}
            | {f"index {index}": pragma("index_info", index, "seqno", "name") for index in indices}
        )


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


def test_plucked_values_fit_a_column() -> None:
    assert pluck('{"a": {"b": 2}}', "a.b") == 2 and pluck('{"a": [1]}', "a") == "[1]"
    for broken in ("{broken", "[1]", "3", "[" * 100_000, ""):
        assert pluck(broken, "a") is None
    assert pluck(json.dumps({"a": 1 << 63}), "a") == 2.0**63 and pluck(json.dumps({"a": -(10**400)}), "a") < 0
    assert pluck('{"a": "\\ud800x"}', "a") == "?x"


def test_what_is_no_cursor_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path / "wandb.sqlite").transaction() as db:
        for cursor in ("abc", "-1", "9" * 30):
            with pytest.raises(Refused, match="is no cursor"):
                db.page("SELECT * FROM run", [], 1, cursor)
