"""The version of the tables, and the SQL that upgrades a file of an earlier version to it."""

from __future__ import annotations

from pathlib import Path

TABLES = (Path(__file__).parent / "tables.sql").read_text(encoding="utf-8")

# The version of TABLES. Raise it with every change of TABLES, and add the SQL that upgrades a file to it.
VERSION = 3
# The oldest version that can be lifted.
OLDEST = 2
MIGRATIONS = {
    3: """
        CREATE TABLE IF NOT EXISTS saved_view (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
            type TEXT NOT NULL, name TEXT NOT NULL, display_name TEXT NOT NULL, description TEXT NOT NULL,
            spec TEXT NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL,
            UNIQUE (project_id, type, name));
    """,
}
