"""The records: one SQLite database, one connection, one transaction at a time.

Times are Unix seconds (REAL). JSON that clients sent (config, summary, history lines) is kept as the text
they sent, because it may hold the bare tokens NaN and Infinity, which SQLite's own JSON functions refuse.
"""

from __future__ import annotations

import base64
import binascii
import getpass
import json
import math
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

DEFAULT_ENTITY = "local"

TABLES = (Path(__file__).parent / "tables.sql").read_text(encoding="utf-8")

# The version of TABLES, and what lifts an older file to each version. Add one with every change of TABLES.
VERSION = 3
MIGRATIONS = {
    2: """
        ALTER TABLE blob ADD COLUMN digest TEXT;
        CREATE INDEX IF NOT EXISTS blob_by_digest ON blob (digest);
        ALTER TABLE artifact ADD COLUMN distributed_id TEXT;
        CREATE INDEX IF NOT EXISTS artifact_by_distributed_id ON artifact (sequence_id, distributed_id);
        ALTER TABLE manifest ADD COLUMN kind TEXT NOT NULL DEFAULT 'FULL';
        ALTER TABLE manifest ADD COLUMN base_id INTEGER;
        CREATE TABLE IF NOT EXISTS expected_blob (
            artifact_id INTEGER NOT NULL REFERENCES artifact ON DELETE CASCADE,
            blob_id TEXT NOT NULL REFERENCES blob, PRIMARY KEY (artifact_id, blob_id)) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS expected_blob_by_blob ON expected_blob (blob_id);
        ALTER TABLE run ADD COLUMN prior INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE run ADD COLUMN early_stopped INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE run ADD COLUMN stop_seen_at REAL;
        CREATE TABLE IF NOT EXISTS metric_value (
            run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, line INTEGER NOT NULL,
            number INTEGER NOT NULL, value REAL NOT NULL, PRIMARY KEY (run_id, line)) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS metric_value_by_number ON metric_value (run_id, number, value);
        CREATE TABLE IF NOT EXISTS shared_line (
            run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, stream TEXT NOT NULL,
            writer TEXT NOT NULL, number INTEGER NOT NULL, line INTEGER NOT NULL,
            PRIMARY KEY (run_id, stream, writer, number)) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS run_by_agent ON run (agent_id);
        CREATE INDEX IF NOT EXISTS artifact_by_run ON artifact (created_by);
        CREATE INDEX IF NOT EXISTS client_id_by_artifact ON client_id (artifact_id);
        CREATE INDEX IF NOT EXISTS client_id_by_collection ON client_id (collection_id);
        UPDATE blob SET digest = announced WHERE permanent;
        -- Which of them an uncommitted version expects was not noted: all that nothing lists yet.
        INSERT INTO expected_blob SELECT artifact.id, blob.id FROM artifact, blob
            WHERE artifact.state = 'PENDING' AND blob.permanent
            AND NOT EXISTS (SELECT 1 FROM manifest_entry WHERE blob_id = blob.id);
        -- early_terminate, which was accepted and not heeded, is heeded from now on.
        INSERT INTO metric_value
            SELECT run_id, line, row_number() OVER (PARTITION BY run_id ORDER BY line), value FROM (
                SELECT run_id, line, pluck(text, metric) AS value FROM stream_line
                JOIN run ON run.id = run_id
                JOIN (SELECT id, judged_by(config) AS metric FROM sweep) AS judged ON judged.id = sweep_id
                WHERE stream = 'wandb-history.jsonl' AND metric IS NOT NULL)
            WHERE typeof(value) IN ('integer', 'real') AND abs(value) < 9e999;
    """,
    3: """
        CREATE TABLE IF NOT EXISTS saved_view (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
            type TEXT NOT NULL, name TEXT NOT NULL, display_name TEXT NOT NULL, description TEXT NOT NULL,
            spec TEXT NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL,
            UNIQUE (project_id, type, name));
    """,
}

# A server without any transaction for so long was itself away, as on a laptop that slept: its watch over
# silent runs makes one every 5 s. What it missed in a shorter absence must not make a run silent that speaks
# every 30 s.
DEAF_SECONDS = 15

Row = dict[str, Any]


class Refused(Exception):
    """The client asked for something that cannot be done. The message is one line for its user.

    `status` is the HTTP status of the answer: 200 carries an ordinary GraphQL error; 404 tells an agent that
    its sweep is gone.
    """

    def __init__(self, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.status = status


class Database:
    """Queries inside one transaction; rows are dictionaries of column -> value."""

    def __init__(self, connection: sqlite3.Connection, listening_since: float) -> None:
        self.connection = connection
        self.listening_since = listening_since
        self.now = time.time()

    def all(self, sql: str, *values: Any) -> list[Row]:
        return self.connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> Row | None:
        return self.connection.execute(sql, values).fetchone()

    def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row, or None when there is no row."""
        row = self.connection.execute(sql, values).fetchone()
        return None if row is None else next(iter(row.values()))

    def run(self, sql: str, *values: Any) -> int:
        """Execute a statement; returns the number of rows that it changed."""
        return self.connection.execute(sql, values).rowcount

    def many(self, sql: str, rows: Iterator[tuple] | list[tuple]) -> None:
        self.connection.executemany(sql, rows)

    def insert(self, table: str, **columns: Any) -> int:
        """Insert a row; returns its id."""
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        cursor = self.connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(columns.values())
        )
        return cursor.lastrowid

    def update(self, table: str, row_id: int, **columns: Any) -> None:
        if columns:
            sets = ", ".join(f"{name} = ?" for name in columns)
            self.connection.execute(f"UPDATE {table} SET {sets} WHERE id = ?", (*columns.values(), row_id))

    def get(self, table: str, row_id: int | None) -> Row | None:
        return None if row_id is None else self.one(f"SELECT * FROM {table} WHERE id = ?", row_id)

    def page(self, sql: str, values: list[Any], first: int | None, after: str | None) -> Row:
        """One page of a query, in the shape of a GraphQL connection.

        Cursors are row offsets. `first=None` means everything. A row's own edge is {"node": row, "cursor":
        str}. Raises Refused for what is no cursor.
        """
        if after and not re.fullmatch("[0-9]{1,18}", after):
            raise Refused(f"{after} is no cursor: a page begins after one that an earlier page ended with")
        offset = int(after) if after else 0
        limit = -1 if first is None else max(first, 0)
        rows = self.all(f"{sql} LIMIT ? OFFSET ?", *values, limit if limit < 0 else limit + 1, offset)
        more = 0 <= limit < len(rows)
        rows = rows[:limit] if more else rows
        edges = [{"node": row, "cursor": str(offset + i + 1)} for i, row in enumerate(rows)]
        return {
            "edges": edges,
            "page_info": {"end_cursor": edges[-1]["cursor"] if edges else after, "has_next_page": more},
            "total_count": lambda *_: self.value(f"SELECT count(*) FROM ({sql})", *values),
        }


class Store:
    """The database file of one root. `transaction()` gives one thread at a time a Database.

    `read_only` reads beside the server of the root, which stays the only writer. Raises Refused for a file
    that a newer release wrote, and for one to be read only that an older release wrote.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.listening_since = self.heard_at = time.time()
        address = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        self.connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
        self.connection.row_factory = _as_dictionary
        self.connection.create_function("pluck", 2, pluck, deterministic=True)
        self.connection.create_function("regexp", 2, _matches, deterministic=True)
        self.lock = threading.Lock()
        if not read_only:
            # An answer promises that the records it acknowledges survive a crash: sync at each commit.
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self.connection.execute(f"PRAGMA {pragma}")
        version = self.connection.execute("PRAGMA user_version").fetchone()["user_version"]
        if version > VERSION:
            raise Refused(f"{path} was written by a newer release of this server")
        if read_only:
            if version < VERSION:
                raise Refused(f"{path} was written by an older release of this server: serve it once first")
            return
        self.connection.create_function("judged_by", 1, _judged_by)
        steps = {VERSION: TABLES}
        if version > 0:
            steps = {number: MIGRATIONS[number] for number in range(version + 1, VERSION + 1)}
        for number, script in steps.items():
            # In one transaction: a server that is killed here finds the old file or the new one.
            self.connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """Commits at the end, rolls back on an exception."""
        with self.lock:
            now = time.time()
            if now - self.heard_at > DEAF_SECONDS:
                self.listening_since = now
            self.heard_at = now
            self.connection.execute("BEGIN")
            try:
                yield Database(self.connection, self.listening_since)
                self.connection.execute("COMMIT")
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        with self.lock:
            self.connection.close()


def user_name() -> str:
    """The one user there is: the account that the server runs under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return DEFAULT_ENTITY


def _as_dictionary(cursor: sqlite3.Cursor, row: tuple) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def _matches(pattern: str, text: Any) -> bool:
    return text is not None and re.search(pattern, str(text)) is not None


def _judged_by(config: str) -> str | None:
    """SQL function, for lifting version 1: the metric that a sweep's runs are stopped by or that ends it."""
    try:
        parsed = yaml.safe_load(config)
        metric = parsed["metric"]
        judges = parsed.get("early_terminate") or metric.get("target") is not None
        return metric["name"] if judges and isinstance(metric["name"], str) else None
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return None


def json_object(text: str) -> Row | None:
    """The JSON object that a text holds, None for a text that holds none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


_parsed = lru_cache(maxsize=1024)(json_object)


def pluck(text: str | None, path: str) -> Any:
    """SQL function: the value at `path` in a JSON object, as an SQL value (lists and objects as JSON text).

    A key may itself contain dots, so the longest literal key wins: "a.b" is looked up before a -> b.
    """
    value = find(_parsed(text), path) if text else None
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    if isinstance(value, str):
        # Halves of characters, which JSON can hold and SQLite cannot.
        return value.encode(errors="replace").decode()
    return sql_number(value) if isinstance(value, int) else value


def sql_number(value: int) -> int | float:
    """The number as SQLite can hold it: a float where it needs more than 64 bits."""
    if -(1 << 63) <= value < 1 << 63:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def find(value: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none; literal keys with dots come first."""
    if not isinstance(value, dict):
        return None
    if path in value:
        return value[path]
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:cut])
        if head in value:
            return find(value[head], ".".join(parts[cut:]))
    return None


def finite(value: Any) -> float | None:
    """The value as a finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def encode_id(kind: str, row_id: int) -> str:
    """The opaque id of a row as clients see it: base64 of "Kind:7"."""
    return base64.b64encode(f"{kind}:{row_id}".encode()).decode()


def decode_id(kind: str, text: str) -> int | None:
    """The row id inside an opaque id, or None where the text is no id of this kind."""
    try:
        found, _, number = base64.b64decode(text, validate=True).decode().partition(":")
        return int(number) if found == kind else None
    except (binascii.Error, ValueError):
        return None


def project_named(db: Database, entity: str | None, name: str | None) -> Row | None:
    return db.one(
        "SELECT * FROM project WHERE entity = ? AND name = ?",
        entity or DEFAULT_ENTITY,
        name or "uncategorized",
    )


def ensure_project(db: Database, entity: str | None, name: str | None) -> Row:
    """The project, made if there is none. An empty entity is the default one.

    Raises Refused for the two names that clients cannot write into an address.
    """
    entity, name = entity or DEFAULT_ENTITY, name or "uncategorized"
    if {entity, name} & {".", ".."}:
        raise Refused(
            f"{entity}/{name} is no name of a project: neither part can be a single or a double dot"
        )
    db.run(
        "INSERT INTO project (entity, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        entity,
        name,
        db.now,
    )
    return project_named(db, entity, name)


def run_named(db: Database, project: Row | None, name: str | None) -> Row | None:
    if project is None:
        return None
    return db.one("SELECT * FROM run WHERE project_id = ? AND name = ?", project["id"], name)
