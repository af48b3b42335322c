"""The version of the tables, and the SQL that upgrades a file of an earlier version to it."""

from __future__ import annotations

from pathlib import Path

TABLES = (Path(__file__).parent / "tables.sql").read_text(encoding="utf-8")

# The version of TABLES. Raise it with every change of TABLES, and add the SQL that upgrades a file to it.
VERSION = 9
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
    4: """
        CREATE TABLE IF NOT EXISTS answer (
            sweep_id INTEGER PRIMARY KEY REFERENCES sweep ON DELETE CASCADE,
            content TEXT NOT NULL, created_at REAL NOT NULL);
    """,
    5: """
        ALTER TABLE run ADD COLUMN column_lines INTEGER NOT NULL DEFAULT 0;
        CREATE TABLE IF NOT EXISTS history_column (
            id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
            key TEXT NOT NULL, block INTEGER NOT NULL, places BLOB NOT NULL, numbers BLOB NOT NULL,
            UNIQUE (run_id, key, block));
        CREATE INDEX IF NOT EXISTS run_behind ON run (id) WHERE history_keys_lines - column_lines >= 240;
        CREATE TRIGGER IF NOT EXISTS run_changed_lines AFTER UPDATE OF history_keys_lines ON run
            WHEN NEW.history_keys_lines < OLD.history_keys_lines
            BEGIN
                DELETE FROM history_column WHERE run_id = NEW.id;
                UPDATE run SET column_lines = 0 WHERE id = NEW.id;
            END;
    """,
    6: """
        CREATE TABLE IF NOT EXISTS alert (
            id INTEGER PRIMARY KEY AUTOINCREMENT, run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
            severity TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, created_at REAL NOT NULL);
        CREATE INDEX IF NOT EXISTS alert_by_run ON alert (run_id, title);
    """,
    7: "ALTER TABLE blob ADD COLUMN announced_at REAL NOT NULL DEFAULT 0;",
    8: "ALTER TABLE blob ADD COLUMN sent_at REAL NOT NULL DEFAULT 0;",
    9: """
        ALTER TABLE project ADD COLUMN any_type INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE project ADD COLUMN updated_at REAL;
    """,
}
