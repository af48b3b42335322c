"""Logged Tables: their columns and rows, from the files of a run or an artifact."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from wandb_tl.local.artifacts import versions
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.pages import table_file
from wandb_tl.local.pages.media_items import FileIds
from wandb_tl.local.pages.table_file import TooManyCellsError
from wandb_tl.local.records.json_path import JsonObject
from wandb_tl.local.records.rows import ManifestEntryRow
from wandb_tl.local.records.transaction import Transaction

# The largest file that is read for a page, in bytes; the most cells of a Table, which the client fills with
# 200,000 rows; and the number of files that are kept between requests.
BYTES = 32_000_000
CELLS = 1_000_000
KEPT = 2
# The increments of a Table that are read before the last one: the client keeps as many.
INCREMENTS = 100
TOO_LARGE = f"This Table has more than {CELLS:,} cells, too many for a page"


class TableError(Exception):
    """A Table that a page cannot show; the message says why. blob_id: its file, which can be downloaded."""

    def __init__(self, message: str, blob_id: str) -> None:
        super().__init__(message)
        self.blob_id = blob_id


class LargeTableError(TableError):
    """A Table that only its own page shows."""


class Content(NamedTuple):
    """The columns of a Table and its rows, one cell per column. Do not change them: they are kept."""

    columns: list[str]
    rows: list[list[Any]]


@dataclass
class LoggedTable:
    """A Table, the files that its cells name, and the size of its own files in bytes."""

    columns: list[str]
    rows: list[list[Any]]
    files: FileIds
    size: int = 0


def of_value(
    db: Transaction, blobs: Blobs, run_files: FileIds, value: JsonObject, most: int = BYTES
) -> LoggedTable | None:
    """The Table of a media value; None if it was not uploaded. most: bytes of its files. Raises TableError.

    The file in the artifact, logged along with the Table, has pictures; the run's own file has the word
    "Image" in their place. An incremental Table is the rows of its last increments.
    """
    previous = value.get("previous_increments_paths")
    earlier = dict.fromkeys(map(str, previous if isinstance(previous, list) else []))
    last = str(value.get("artifact_path"))
    earlier.pop(last, None)
    addresses = [*list(earlier)[-INCREMENTS:], last]
    contents: list[Content] = []
    all_files: dict[str, str] = {}
    blob_id, size = "", 0
    for number, address in enumerate(addresses):
        files, path = _in_artifact(db, address)
        is_last = number == len(addresses) - 1
        if path in files:
            blob_id = files[path]
            size += size_of(blobs, blob_id, most - size)
            contents.append(read(blobs, blob_id))
            all_files |= files
        elif is_last:
            own = run_files.get(posixpath.normpath(str(value.get("path"))))
            if own is None:
                return None
            blob_id = own
            size += size_of(blobs, blob_id, most - size)
            contents.append(read(blobs, blob_id))
            all_files |= run_files
    columns = contents[-1].columns
    if len(contents) == 1:
        return LoggedTable(columns, contents[0].rows, all_files, size)
    count = len(columns) * sum(len(content.rows) for content in contents)
    if count > CELLS:
        raise TableError(TOO_LARGE, blob_id)
    rows = [row for each in contents for row in _fitted(each.rows, columns)]
    return LoggedTable(columns, rows, all_files, size)


def of_artifact(blobs: Blobs, files: FileIds, path: str) -> LoggedTable | None:
    """The Table that a file of an artifact holds; None if there is no such file. Raises TableError."""
    blob_id = files.get(path)
    if blob_id is None:
        return None
    content = read(blobs, blob_id)
    return LoggedTable(content.columns, content.rows, files)


def files_of_version(db: Transaction, artifact_id: int) -> dict[str, str]:
    """The files of an artifact's version by path, without references."""
    query = "SELECT * FROM manifest_entry WHERE artifact_id = ? AND blob_id IS NOT NULL"
    rows = db.all(query, artifact_id, row=ManifestEntryRow)
    return {row["path"]: row["blob_id"] for row in rows if row["blob_id"]}


def _in_artifact(db: Transaction, address: str) -> tuple[dict[str, str], str]:
    """The files of the artifact at wandb-client-artifact://CLIENT_ID/PATH, and PATH."""
    scheme, _, place = address.partition("://")
    client_id, _, path = place.partition("/")
    version = versions.by_client_id(db, client_id) if scheme == "wandb-client-artifact" else None
    return (files_of_version(db, version["id"]) if version else {}), path


def size_of(blobs: Blobs, blob_id: str, most: int) -> int:
    """The size of a Table's file in bytes. Raises LargeTableError if it has more."""
    path = blobs.path(blob_id)
    size = path.stat().st_size if path.is_file() else 0
    if size > most:
        raise LargeTableError(f"This Table has {size / 1e6:,.1f} MB, too much for this page", blob_id)
    return size


def read(blobs: Blobs, blob_id: str) -> Content:
    """The content of a Table's file. Raises TableError if it is too large, or is not a Table."""
    path = blobs.path(blob_id)
    try:
        size = path.stat().st_size
        if size > BYTES:
            raise TableError(f"This Table has {size // 1_000_000} MB, too much for a page", blob_id)
        return _content(path, path.stat().st_mtime_ns)
    except TooManyCellsError as error:
        raise TableError(TOO_LARGE, blob_id) from error
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise TableError("This file is not a Table that can be read", blob_id) from error


@lru_cache(maxsize=KEPT)
def _content(path: Path, _changed_at: int) -> Content:
    """A file's content; a file that was written again is read again."""
    content = table_file.members(path.read_text(encoding="utf-8"), 2 * CELLS)
    columns, data = [str(column) for column in content["columns"]], content["data"]
    # A short file can have many columns and many empty rows.
    if len(columns) * len(data) > CELLS:
        raise TooManyCellsError
    return Content(columns, _fitted(data, columns))


def _fitted(rows: list[list[Any]], columns: list[str]) -> list[list[Any]]:
    """The rows with one cell per column."""
    count = len(columns)
    return [row if len(row) == count else [*row[:count], *[None] * (count - len(row))] for row in rows]
