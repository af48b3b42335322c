"""One transaction of the records: queries, and what is computed or changed outside of it.

Times are Unix seconds (REAL).
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal, NotRequired, TypedDict, TypeVar, overload

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.rows import (
    AgentRow,
    ArtifactRow,
    ArtifactTypeRow,
    BlobRow,
    CollectionRow,
    FileRow,
    ManifestRow,
    MembershipRow,
    ProjectRow,
    Row,
    RunRow,
    SqlValue,
    SweepRow,
    ViewRow,
)

# Between two parts of many changes: until a thread that waits for the lock has it.
TURN_SECONDS = 0.001

R = TypeVar("R")
Key = tuple[Hashable, ...]


class Edge(TypedDict):
    """A node of a page and the cursor that the next page starts after."""

    node: Any
    cursor: str
    # Only for versions of a collection, for example v3.
    version: NotRequired[str]


class PageInfo(TypedDict):
    end_cursor: str | None
    has_next_page: bool


class Page(TypedDict):
    """A GraphQL connection. total_count is computed only for clients that ask for it."""

    edges: list[Edge]
    page_info: PageInfo
    total_count: NotRequired[Callable[[], int]]


class Transaction:
    """Queries inside one transaction; rows are dictionaries of column -> value.

    `row=` names the type of the rows that a query selects; without it they are untyped.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        listening_since: float,
        results: dict[Key, Any] | None = None,
    ) -> None:
        self.connection = connection
        self.listening_since = listening_since
        self.results = results
        self.now = time.time()

    def outside(self, key: Key, compute: Callable[[], R]) -> R:
        """The result of a long computation. Inside of Database.repeat, other clients do not wait for it.

        key: of what is computed, without its inputs that change while clients work. Computations whose keys
        have the same first two parts follow one another.
        """
        if self.results is None:
            return compute()
        if key not in self.results:
            raise OutsideError(key, lambda _begin: compute())
        result: R = self.results[key]
        return result

    def in_parts(self, key: Key, parts: Iterable[Callable[[Transaction], R]]) -> list[R]:
        """Make many changes; returns what each part returns.

        Inside of Database.repeat, each part is committed before the next one, and other clients have their
        turn between two of them.

        key: as of `outside`.
        """
        if self.results is None:
            return [part(self) for part in parts]
        if key not in self.results:
            raise OutsideError(key, partial(_commit_each, parts))
        results: list[R] = self.results[key]
        return results

    @overload
    def all(self, sql: str, *values: SqlValue) -> list[Row]: ...
    @overload
    def all(self, sql: str, *values: SqlValue, row: type[R]) -> list[R]: ...
    def all(self, sql: str, *values: SqlValue, row: type[Any] | None = None) -> list[Any]:
        return self.connection.execute(sql, values).fetchall()

    @overload
    def one(self, sql: str, *values: SqlValue) -> Row | None: ...
    @overload
    def one(self, sql: str, *values: SqlValue, row: type[R]) -> R | None: ...
    def one(self, sql: str, *values: SqlValue, row: type[Any] | None = None) -> Any:
        return self.connection.execute(sql, values).fetchone()

    def tuples(self, sql: str, *values: SqlValue) -> list[tuple[Any, ...]]:
        """Rows without their columns' names, for queries of thousands of them."""
        cursor = self.connection.cursor()
        cursor.row_factory = None
        return cursor.execute(sql, values).fetchall()

    def value(self, sql: str, *values: SqlValue) -> Any:
        """The first column of the first row, or None when there is no row."""
        row = self.connection.execute(sql, values).fetchone()
        return None if row is None else next(iter(row.values()))

    def run(self, sql: str, *values: SqlValue) -> int:
        """Execute a statement; returns the number of rows that it changed."""
        return self.connection.execute(sql, values).rowcount

    def many(self, sql: str, rows: Iterable[Sequence[SqlValue] | Mapping[str, Any]]) -> None:
        """Execute a statement once for each row of values."""
        self.connection.executemany(sql, rows)

    def insert(self, table: str, **columns: SqlValue) -> int:
        """Insert a row; returns its id."""
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        cursor = self.connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(columns.values())
        )
        # An INSERT always sets it.
        return cursor.lastrowid or 0

    def update(self, table: str, row_id: int, **columns: SqlValue) -> None:
        if columns:
            sets = ", ".join(f"{name} = ?" for name in columns)
            self.connection.execute(f"UPDATE {table} SET {sets} WHERE id = ?", (*columns.values(), row_id))

    @overload
    def get(self, table: Literal["project"], row_id: int | None) -> ProjectRow | None: ...
    @overload
    def get(self, table: Literal["sweep"], row_id: int | None) -> SweepRow | None: ...
    @overload
    def get(self, table: Literal["agent"], row_id: int | None) -> AgentRow | None: ...
    @overload
    def get(self, table: Literal["run"], row_id: int | None) -> RunRow | None: ...
    @overload
    def get(self, table: Literal["file"], row_id: int | None) -> FileRow | None: ...
    @overload
    def get(self, table: Literal["artifact_type"], row_id: int | None) -> ArtifactTypeRow | None: ...
    @overload
    def get(self, table: Literal["collection"], row_id: int | None) -> CollectionRow | None: ...
    @overload
    def get(self, table: Literal["artifact"], row_id: int | None) -> ArtifactRow | None: ...
    @overload
    def get(self, table: Literal["membership"], row_id: int | None) -> MembershipRow | None: ...
    @overload
    def get(self, table: Literal["manifest"], row_id: int | None) -> ManifestRow | None: ...
    @overload
    def get(self, table: Literal["saved_view"], row_id: int | None) -> ViewRow | None: ...
    def get(self, table: str, row_id: int | None) -> Any:
        """The row with this id, None if there is none. `existing(db.get(…))` where there must be one."""
        return None if row_id is None else self.one(f"SELECT * FROM {table} WHERE id = ?", row_id)

    def blob(self, blob_id: str) -> BlobRow | None:
        """The row of a blob, whose ids are strings."""
        return self.one("SELECT * FROM blob WHERE id = ?", blob_id, row=BlobRow)

    def page(self, sql: str, values: Sequence[SqlValue], first: int | None, after: str | None) -> Page:
        """One page of a query. Cursors are row offsets. `first=None` means everything.

        Raises RequestError for an invalid cursor.
        """
        offset = row_number(after) if after else 0
        limit = -1 if first is None else max(first, 0)
        rows = self.all(f"{sql} LIMIT ? OFFSET ?", *values, limit if limit < 0 else limit + 1, offset)
        more = 0 <= limit < len(rows)
        rows = rows[:limit] if more else rows
        edges: list[Edge] = [{"node": row, "cursor": str(offset + i + 1)} for i, row in enumerate(rows)]
        return {
            "edges": edges,
            "page_info": {"end_cursor": edges[-1]["cursor"] if edges else after, "has_next_page": more},
            "total_count": lambda: int(self.value(f"SELECT count(*) FROM ({sql})", *values)),
        }


def row_number(cursor: str) -> int:
    """The number in a cursor. Raises RequestError for a string that is not one."""
    if not re.fullmatch("[0-9]{1,18}", cursor):
        raise RequestError(f"{cursor} is not a valid cursor: pass the endCursor of an earlier page")
    return int(cursor)


def existing(row: R | None) -> R:
    """The row, for a query that must find one. Raises LookupError for None: the database is damaged."""
    if row is None:
        raise LookupError("a row that another row refers to is missing from the database")
    return row


# Begins a transaction.
Begin = Callable[[], AbstractContextManager[Transaction]]


class OutsideError(BaseException):
    """Ends a transaction, so that something is computed outside of it. graphql-core catches any Exception."""

    def __init__(self, key: Key, compute: Callable[[Begin], Any]) -> None:
        self.key, self.compute = key, compute


def _commit_each(parts: Iterable[Callable[[Transaction], R]], begin: Begin) -> list[R]:
    results = []
    for part in parts:
        with begin() as db:
            results.append(part(db))
        # A lock goes to who asks for it first, which would be this thread again.
        time.sleep(TURN_SECONDS)
    return results
