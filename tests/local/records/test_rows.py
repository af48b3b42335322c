"""The types of rows say what tables.sql says."""

from __future__ import annotations

import typing

import pytest

from wandb_tl.local.records import rows
from wandb_tl.local.records.database import Database

TABLES = {
    "project": rows.ProjectRow,
    "sweep": rows.SweepRow,
    "agent": rows.AgentRow,
    "run": rows.RunRow,
    "stream_line": rows.StreamLineRow,
    "history_column": rows.HistoryColumnRow,
    "blob": rows.BlobRow,
    "file": rows.FileRow,
    "artifact_type": rows.ArtifactTypeRow,
    "collection": rows.CollectionRow,
    "artifact": rows.ArtifactRow,
    "membership": rows.MembershipRow,
    "alias": rows.AliasRow,
    "tag": rows.TagRow,
    "manifest": rows.ManifestRow,
    "manifest_entry": rows.ManifestEntryRow,
    "run_artifact": rows.RunArtifactRow,
    "client_id": rows.ClientIdRow,
    "saved_view": rows.ViewRow,
    "answer": rows.AnswerRow,
    "alert": rows.AlertRow,
}
SQL_TYPES = {int: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB"}


@pytest.mark.parametrize("table", TABLES)
def test_a_row_has_the_columns_of_its_table(tmp_path, table):
    database = Database(tmp_path / "wandb.sqlite")
    with database.transaction() as db:
        columns = db.all(f"PRAGMA table_info({table})")
    database.close()
    declared = {}
    for name, hint in typing.get_type_hints(TABLES[table]).items():
        kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
        declared[name] = (*(SQL_TYPES[kind] for kind in kinds), len(typing.get_args(hint)) == 2)
    # A primary key is never null, whether or not the schema says so.
    expected = {
        column["name"]: (column["type"], not column["notnull"] and not column["pk"]) for column in columns
    }
    assert declared == expected
