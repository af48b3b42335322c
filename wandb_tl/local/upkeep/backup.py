"""python -m wandb_tl.local backup and restore: a whole copy of a folder, also while it is served.

The database is copied in one state. Files that the server changes or deletes before they are copied make
the copy of the database too old: it is made again, until all of its files are there. A copy has the file
wandb.sqlite last.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

from tqdm import tqdm

from wandb_tl.local import root as roots
from wandb_tl.local.artifacts.blobs import Digests, stored_at, sync
from wandb_tl.local.errors import RequestError, RootError
from wandb_tl.local.records.database import Database
from wandb_tl.local.upkeep.file_check import CHUNK_BYTES

# Each copy of the database is younger than the last, and has fewer files that are missing.
ROUNDS = 20
# Small files beside the database: the API key, and which sweeps were pushed to where.
BESIDE = ("key", "pushed.json")


def backup(root: Path, folder: Path) -> None:
    """Copy a root to a folder that is new or empty. Raises RootError, and then leaves nothing in the folder.

    A file that is damaged or missing in the root is left out, and named in the RootError of a copy that is
    otherwise complete.
    """
    _prepare(folder)
    damaged = _copy(root, folder)
    if damaged:
        raise RootError(
            f"{folder} lacks {len(damaged)} files that are damaged in {root}, such as {damaged[0]}: see check"
        )


def restore(folder: Path, root: Path) -> None:
    """Copy a backup to a root that is new or empty. Raises RootError as `backup` does."""
    if root.exists() and any(root.iterdir()):
        raise RootError(f"{root} is not empty: move it away, or name another folder with --root")
    backup(folder, root)


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise RootError(f"cannot create the folder {folder}: {error.strerror}") from None
    if not is_empty:
        raise RootError(f"{folder} is not empty: name a new folder")


def _copy(root: Path, folder: Path) -> list[str]:
    if not (root / "wandb.sqlite").exists():
        raise RootError(f"{root} has no records: it is neither the folder of a server nor a whole backup")
    with roots.lock(folder):
        try:
            draft = folder / "wandb.sqlite.draft"
            damaged = _copy_files(root, folder, draft)
            for name in BESIDE:
                with suppress(FileNotFoundError):
                    _write_private(folder / name, (root / name).read_bytes())
            draft.replace(folder / "wandb.sqlite")
            (folder / "lock").unlink()
            sync(folder)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, RequestError | OSError | sqlite3.Error):
                raise RootError(f"cannot copy {root} to {folder}: {error}") from None
            raise
    return damaged


def _copy_files(root: Path, folder: Path, draft: Path) -> list[str]:
    """Copy the database to the draft, and all of its files; returns the ids of those that are damaged."""
    copied: dict[str, str] = {}
    failed: dict[str, str] = {}
    source, target = root / "blobs", folder / "blobs"
    with closing(Database(root / "wandb.sqlite", read_only=True)) as database:
        for _ in range(ROUNDS):
            wanted = _copy_database(database, draft)
            missing = {blob_id: md5 for blob_id, md5 in wanted.items() if copied.get(blob_id) != md5}
            # A file that was wrong, and still has the same row: no upload has replaced it.
            damaged = {blob_id for blob_id, md5 in missing.items() if failed.get(blob_id) == md5}
            for blob_id in tqdm(missing, unit=" files", disable=not sys.stderr.isatty()):
                place = stored_at(target, blob_id)
                md5 = _copy_file(stored_at(source, blob_id), place)
                (copied if md5 == missing[blob_id] else failed)[blob_id] = missing[blob_id]
            left = {blob_id for blob_id in missing if copied.get(blob_id) != missing[blob_id]}
            if left <= damaged:
                break
        else:
            raise RootError(f"the files in {root} change faster than they are copied: try again")
    for file in [*target.glob("??/*")]:
        if file.name not in wanted or file.name in left:
            file.unlink()
    for place in {stored_at(target, blob_id).parent for blob_id in wanted}:
        if place.exists():
            sync(place)
    return sorted(left)


def _copy_database(database: Database, draft: Path) -> dict[str, str]:
    """Copy the database in one state; returns the uploaded files of that state: id -> MD5."""
    draft.unlink(missing_ok=True)
    # Before there is anything to read: others may be able to enter an empty folder that was there.
    draft.touch(0o600)
    with closing(sqlite3.connect(draft)) as copy, database.transaction() as db:
        rows = db.all("SELECT id, md5 FROM blob WHERE uploaded_at IS NOT NULL")
        db.connection.backup(copy)
    return {row["id"]: row["md5"] for row in rows}


def _copy_file(source: Path, place: Path) -> str | None:
    """Copy a file; returns the MD5 of its bytes, None if there is none."""
    digests = Digests()
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with source.open("rb") as read, place.open("wb") as written:
            while chunk := read.read(CHUNK_BYTES):
                digests.update(chunk)
                written.write(chunk)
            written.flush()
            os.fsync(written.fileno())
    except FileNotFoundError:
        return None
    return digests.md5


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
