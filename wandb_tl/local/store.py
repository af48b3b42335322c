"""The records: one SQLite database, one connection, one transaction at a time.

Times are Unix seconds (REAL). JSON that clients sent (config, summary, history lines) is kept as the text
they sent, because it may hold the bare tokens NaN and Infinity, which SQLite's own JSON functions refuse.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

DEFAULT_ENTITY = "local"

SCHEMA = """
CREATE TABLE IF NOT EXISTS project (
    id INTEGER PRIMARY KEY AUTOINCREMENT, entity TEXT NOT NULL, name TEXT NOT NULL, description TEXT,
    created_at REAL NOT NULL, UNIQUE (entity, name));
CREATE TABLE IF NOT EXISTS sweep (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
    name TEXT NOT NULL UNIQUE, display_name TEXT, description TEXT, config TEXT NOT NULL,
    state TEXT NOT NULL, controller TEXT, scheduler TEXT, created_at REAL NOT NULL, updated_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS agent (
    id INTEGER PRIMARY KEY AUTOINCREMENT, sweep_id INTEGER NOT NULL REFERENCES sweep ON DELETE CASCADE,
    name TEXT NOT NULL UNIQUE, host TEXT, created_at REAL NOT NULL, heartbeat_at REAL NOT NULL);
-- A run that the scheduler handed out exists from the hand-out on, in state pending and with started_at null.
CREATE TABLE IF NOT EXISTS run (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
    name TEXT NOT NULL, display_name TEXT NOT NULL, state TEXT NOT NULL, config TEXT NOT NULL DEFAULT '{}',
    summary TEXT NOT NULL DEFAULT '{}', tags TEXT NOT NULL DEFAULT '[]', group_name TEXT, job_type TEXT,
    description TEXT, notes TEXT, host TEXT, program TEXT, repo TEXT, commit_hash TEXT, exit_code INTEGER,
    stop_requested INTEGER NOT NULL DEFAULT 0, preempting INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL, started_at REAL, heartbeat_at REAL,
    history_keys TEXT, history_keys_lines INTEGER NOT NULL DEFAULT 0,
    sweep_id INTEGER REFERENCES sweep ON DELETE SET NULL,
    agent_id INTEGER REFERENCES agent ON DELETE SET NULL,
    sweep_args TEXT, claimed_at REAL, crashes INTEGER NOT NULL DEFAULT 0, UNIQUE (project_id, name));
CREATE INDEX IF NOT EXISTS run_by_sweep ON run (sweep_id, state);
CREATE INDEX IF NOT EXISTS run_by_state ON run (state);
CREATE TABLE IF NOT EXISTS stream_line (
    run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, stream TEXT NOT NULL, line INTEGER NOT NULL,
    step INTEGER, text TEXT NOT NULL, PRIMARY KEY (run_id, stream, line)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS stream_line_by_step ON stream_line (run_id, stream, step);
-- The bytes lie in the file of the blob's id. md5 is base64; size and uploaded_at are null until they
-- arrived. announced: the md5 that the upload must have. permanent: contents of artifacts, which are written
-- once and then belong to every version that lists their md5.
CREATE TABLE IF NOT EXISTS blob (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, announced TEXT, permanent INTEGER NOT NULL DEFAULT 0, md5 TEXT,
    size INTEGER, uploaded_at REAL);
CREATE INDEX IF NOT EXISTS blob_by_md5 ON blob (md5);
CREATE TABLE IF NOT EXISTS file (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    name TEXT NOT NULL, blob_id TEXT NOT NULL REFERENCES blob, UNIQUE (run_id, name));
CREATE INDEX IF NOT EXISTS file_by_blob ON file (blob_id);
CREATE TABLE IF NOT EXISTS artifact_type (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
    name TEXT NOT NULL, description TEXT, created_at REAL NOT NULL, UNIQUE (project_id, name));
-- kind is the GraphQL type: ArtifactSequence (versions are made here) or ArtifactPortfolio (linked here).
CREATE TABLE IF NOT EXISTS collection (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
    type_id INTEGER NOT NULL REFERENCES artifact_type, kind TEXT NOT NULL, name TEXT NOT NULL,
    description TEXT, next_version INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL,
    updated_at REAL NOT NULL, UNIQUE (project_id, name));
CREATE TABLE IF NOT EXISTS artifact (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sequence_id INTEGER NOT NULL REFERENCES collection ON DELETE CASCADE,
    state TEXT NOT NULL, digest TEXT NOT NULL, digest_algorithm TEXT NOT NULL, description TEXT,
    metadata TEXT, version_index INTEGER, history_step INTEGER, ttl_seconds INTEGER,
    size INTEGER NOT NULL DEFAULT 0, file_count INTEGER NOT NULL DEFAULT 0,
    pending_aliases TEXT NOT NULL DEFAULT '[]', created_by INTEGER REFERENCES run ON DELETE SET NULL,
    created_at REAL NOT NULL, updated_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS artifact_by_digest ON artifact (sequence_id, digest);
-- A version of a collection. In a sequence its version_index is the artifact's, in a portfolio its own.
CREATE TABLE IF NOT EXISTS membership (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id INTEGER NOT NULL REFERENCES collection ON DELETE CASCADE,
    artifact_id INTEGER NOT NULL REFERENCES artifact ON DELETE CASCADE, version_index INTEGER NOT NULL,
    created_at REAL NOT NULL, UNIQUE (collection_id, artifact_id), UNIQUE (collection_id, version_index));
CREATE INDEX IF NOT EXISTS membership_by_artifact ON membership (artifact_id);
CREATE TABLE IF NOT EXISTS alias (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id INTEGER NOT NULL REFERENCES collection ON DELETE CASCADE,
    membership_id INTEGER NOT NULL REFERENCES membership ON DELETE CASCADE, alias TEXT NOT NULL,
    UNIQUE (collection_id, alias));
CREATE INDEX IF NOT EXISTS alias_by_membership ON alias (membership_id);
CREATE TABLE IF NOT EXISTS tag (
    id INTEGER PRIMARY KEY AUTOINCREMENT, artifact_id INTEGER REFERENCES artifact ON DELETE CASCADE,
    collection_id INTEGER REFERENCES collection ON DELETE CASCADE, name TEXT NOT NULL,
    UNIQUE (artifact_id, name), UNIQUE (collection_id, name));
CREATE TABLE IF NOT EXISTS manifest (
    id INTEGER PRIMARY KEY AUTOINCREMENT, artifact_id INTEGER NOT NULL REFERENCES artifact ON DELETE CASCADE,
    name TEXT NOT NULL, digest TEXT NOT NULL, blob_id TEXT NOT NULL REFERENCES blob);
CREATE INDEX IF NOT EXISTS manifest_by_artifact ON manifest (artifact_id);
CREATE INDEX IF NOT EXISTS manifest_by_blob ON manifest (blob_id);
-- What the committed manifest lists; blob_id is null for references, which name their place in ref.
CREATE TABLE IF NOT EXISTS manifest_entry (
    artifact_id INTEGER NOT NULL REFERENCES artifact ON DELETE CASCADE, path TEXT NOT NULL,
    digest TEXT NOT NULL, size INTEGER NOT NULL, ref TEXT, blob_id TEXT REFERENCES blob,
    PRIMARY KEY (artifact_id, path)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS manifest_entry_by_blob ON manifest_entry (blob_id);
-- role: output (logged by the run) or input (used by it).
CREATE TABLE IF NOT EXISTS run_artifact (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    artifact_id INTEGER NOT NULL REFERENCES artifact ON DELETE CASCADE, role TEXT NOT NULL,
    UNIQUE (run_id, artifact_id, role));
CREATE INDEX IF NOT EXISTS run_artifact_by_artifact ON run_artifact (artifact_id, role);
-- Ids that clients invented for what they were about to log, as in wandb-client-artifact:// paths.
CREATE TABLE IF NOT EXISTS client_id (
    client_id TEXT PRIMARY KEY, artifact_id INTEGER REFERENCES artifact ON DELETE CASCADE,
    collection_id INTEGER REFERENCES collection ON DELETE CASCADE);
"""

# Raise it with every change of SCHEMA that an older file lacks.
SCHEMA_VERSION = 1

# A server without any transaction for so long was itself away, as on a laptop that slept: its watch over
# silent runs makes one far more often.
DEAF_SECONDS = 45

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
        str}.
        """
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

    Raises Refused for a file that a newer release wrote.
    """

    def __init__(self, path: Path) -> None:
        self.listening_since = self.heard_at = time.time()
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.row_factory = _as_dictionary
        self.connection.create_function("pluck", 2, pluck, deterministic=True)
        self.connection.create_function("regexp", 2, _matches, deterministic=True)
        # An answer promises that the records it acknowledges survive a crash: sync at each commit.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self.connection.execute(f"PRAGMA {pragma}")
        version = self.connection.execute("PRAGMA user_version").fetchone()["user_version"]
        if version > SCHEMA_VERSION:
            raise Refused(f"{path} was written by a newer release of this server")
        self.connection.executescript(f"{SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};")
        self.lock = threading.Lock()

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


def _as_dictionary(cursor: sqlite3.Cursor, row: tuple) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def _matches(pattern: str, text: Any) -> bool:
    return text is not None and re.search(pattern, str(text)) is not None


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    return json.loads(text)


def pluck(text: str | None, path: str) -> Any:
    """SQL function: the value at `path` in a JSON object, as an SQL value (lists and objects as JSON text).

    A key may itself contain dots, so the longest literal key wins: "a.b" is looked up before a -> b.
    """
    value = find(_parsed(text) if text else {}, path)
    return json.dumps(value) if isinstance(value, (dict, list)) else value


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
    """The project, made if there is none. An empty entity is the default one."""
    entity, name = entity or DEFAULT_ENTITY, name or "uncategorized"
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
