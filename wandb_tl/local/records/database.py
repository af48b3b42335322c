"""The records: one SQLite database, one connection, one transaction at a time.

Times are Unix seconds (REAL). JSON from clients (config, summary, history lines) is kept as the string that
they sent, because it may hold the bare tokens NaN and Infinity, which SQLite's own JSON functions refuse.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import patterns
from wandb_tl.local.records.json_path import pluck
from wandb_tl.local.records.migrations import MIGRATIONS, OLDEST, TABLES, VERSION
from wandb_tl.local.records.rows import Row
from wandb_tl.local.records.transaction import Key, OutsideError, Transaction

# After this many seconds without a transaction, the server itself was away, for example on a laptop that
# slept: its watch over silent runs makes a transaction every 5 s. A run sends a heartbeat every 30 s and does
# not become silent in a shorter absence.
AWAY_SECONDS = 15
# Connections to read: so many queries can be under way at once.
READERS = 4
# SQLite's steps between two looks at the clock: about a millisecond.
CLOCK_STEPS = 10_000

R = TypeVar("R")


class Database:
    """The database file of one root. `transaction()` gives one thread at a time a Transaction.

    `read_only` reads beside the server of the root, which stays the only writer. Raises RequestError for a
    file that a newer release wrote, and with `read_only` for one that an older release wrote.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.listening_since = self.heard_at = time.time()
        address = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        self.connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
        self.connection.row_factory = _as_dictionary
        self.connection.create_function("pluck", 2, pluck, deterministic=True)
        self.connection.create_function("regexp", 2, patterns.matches, deterministic=True)
        self.lock = threading.Lock()
        # Long computations for one key follow one another.
        self.computing = [threading.Lock() for _ in range(64)]
        if not read_only:
            # An answer promises that the records it acknowledges survive a crash: sync at each commit.
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self.connection.execute(f"PRAGMA {pragma}")
        self._upgrade(path, read_only)

    def _upgrade(self, path: Path, read_only: bool) -> None:
        """Create the tables of a new file, or bring those of an earlier version up to date."""
        version = self.connection.execute("PRAGMA user_version").fetchone()["user_version"]
        if version > VERSION:
            raise RequestError(f"{path} was written by a newer release of this server")
        if 0 < version < OLDEST:
            raise RequestError(
                f"{path} was written before the first release of this server: serve another folder"
            )
        if read_only:
            if version < VERSION:
                raise RequestError(
                    f"{path} was written by an older release of this server: serve it once first"
                )
            return
        steps = {VERSION: TABLES}
        if version > 0:
            steps = {number: MIGRATIONS[number] for number in range(version + 1, VERSION + 1)}
        for number, script in steps.items():
            # In one transaction: a server that is killed here leaves the old file or the new one.
            self.connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")

    def repeat(self, action: Callable[[Transaction], R]) -> R:
        """The result of an action in a transaction, which is repeated after each OutsideError."""
        results: dict[Key, Any] = {}
        lock = None
        try:
            while True:
                try:
                    with self.transaction(results) as db:
                        return action(db)
                except OutsideError as error:
                    missing = error
                if lock is None:
                    lock = self.computing[hash(missing.key[:2]) % len(self.computing)]
                    if not lock.acquire(blocking=False):
                        lock.acquire()
                        # Meanwhile, another client has changed what it is computed from.
                        continue
                results[missing.key] = missing.compute(self.transaction)
        finally:
            if lock is not None:
                lock.release()

    @contextmanager
    def transaction(self, results: dict[Key, Any] | None = None) -> Iterator[Transaction]:
        """Commits at the end, rolls back on an exception. results: of computations outside of it."""
        with self.lock:
            now = time.time()
            if now - self.heard_at > AWAY_SECONDS:
                self.listening_since = now
            self.heard_at = now
            self.connection.execute("BEGIN")
            try:
                yield Transaction(self.connection, self.listening_since, results)
                self.connection.execute("COMMIT")
            except BaseException:
                # SQLite has done so itself if the disk is full.
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        with self.lock:
            self.connection.close()


class Readers:
    """Several connections that read the database of a root, for as many queries at once.

    brief: one besides, for queries of a row, which must not wait for the others.
    """

    def __init__(self, path: Path, count: int = READERS) -> None:
        self.brief = Database(path, read_only=True)
        self.all = [Database(path, read_only=True) for _ in range(count)]
        self.free: queue.LifoQueue[Database] = queue.LifoQueue()
        for database in self.all:
            self.free.put(database)

    @contextmanager
    def transaction(self, seconds: float) -> Iterator[Transaction]:
        """On a free connection. After some seconds its queries fail with sqlite3.OperationalError."""
        database = self.free.get()
        deadline = time.monotonic() + seconds
        try:
            database.connection.set_progress_handler(lambda: time.monotonic() > deadline, CLOCK_STEPS)
            with database.transaction() as db:
                yield db
        finally:
            database.connection.set_progress_handler(None, 0)
            self.free.put(database)

    def close(self) -> None:
        for database in (self.brief, *self.all):
            database.close()


def _as_dictionary(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}
