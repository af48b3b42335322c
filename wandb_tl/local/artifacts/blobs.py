"""Files on disk: opaque names, atomic writes.

A blob's name is a random id that the server made, so that no file name from a user can leave the folder.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import xxhash
from starlette.concurrency import run_in_threadpool

from wandb_tl.local.artifacts.signed_addresses import AddressSigner
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.transaction import Transaction

# A client repeats an upload for less than an hour, and asks again where to send it when it starts anew.
NEVER_SENT_SECONDS = 24 * 3600
# Those of `new_blob` are hexadecimal.
BLOB_ID = re.compile("[0-9A-Za-z_-]+")
# Someone has deleted it from the server's folder.
GONE = "the file is missing from the server's folder"


class Digests:
    """The size and the digests of bytes, as they come: MD5 and XXH128, by which manifests list files."""

    def __init__(self) -> None:
        self._md5, self._xxh128, self.size = hashlib.md5(usedforsecurity=False), xxhash.xxh128(), 0

    def update(self, chunk: bytes) -> None:
        self._md5.update(chunk)
        self._xxh128.update(chunk)
        self.size += len(chunk)

    @property
    def md5(self) -> str:
        """In base64, as clients send it."""
        return base64.b64encode(self._md5.digest()).decode()

    @property
    def xxh128(self) -> str:
        """In base64, as clients send it."""
        return base64.b64encode(self._xxh128.digest()).decode()


@dataclass(frozen=True)
class Upload:
    """Bytes that have arrived in full: the file that holds them until they take their place."""

    file: Path
    size: int
    md5: str
    xxh128: str


class Blobs:
    """The folder of blobs below one root."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.addresses = AddressSigner(key)
        # Subfolders that are synced to the disk.
        self.synced: set[Path] = set()
        folder.mkdir(exist_ok=True)
        (folder / "incoming").mkdir(exist_ok=True)
        for leftover in (folder / "incoming").iterdir():
            leftover.unlink()

    def path(self, blob_id: str) -> Path:
        return stored_at(self.folder, blob_id)

    @asynccontextmanager
    async def receive(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Upload]:
        """Write an upload to the disk; what is not moved to its place in the block is deleted after it."""
        incoming, digests = self._incoming(), Digests()
        try:
            with incoming.open("wb") as file:
                async for chunk in chunks:
                    file.write(chunk)
                    digests.update(chunk)
                file.flush()
                # Outside of the event loop, which other clients' heartbeats wait for.
                await run_in_threadpool(os.fsync, file.fileno())
            yield Upload(incoming, digests.size, digests.md5, digests.xxh128)
        finally:
            incoming.unlink(missing_ok=True)

    @contextmanager
    def write(self, content: bytes) -> Iterator[Upload]:
        """Write a file that the server itself made, as `receive` does."""
        incoming, digests = self._incoming(), Digests()
        digests.update(content)
        try:
            with incoming.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield Upload(incoming, digests.size, digests.md5, digests.xxh128)
        finally:
            incoming.unlink(missing_ok=True)

    def _incoming(self) -> Path:
        return self.folder / "incoming" / secrets.token_hex(16)

    def move_in(self, incoming: Path, blob_id: str) -> None:
        """Move a synced file to its place, and sync the folders so that it is there after a crash."""
        final = self.path(blob_id)
        if final.parent not in self.synced:
            final.parent.mkdir(exist_ok=True)
            sync(self.folder)
            self.synced.add(final.parent)
        incoming.replace(final)
        sync(final.parent)

    def read(self, blob_id: str) -> bytes:
        """Raises RequestError (404) if the file is gone."""
        try:
            return self.path(blob_id).read_bytes()
        except FileNotFoundError:
            raise RequestError(GONE, 404) from None

    def delete(self, blob_id: str) -> None:
        with suppress(FileNotFoundError):
            self.path(blob_id).unlink()

    def delete_unnamed(self, db: Transaction) -> None:
        """Delete the files that no row names: a crash came between a commit and the deletion of its files.

        Call it only before the server accepts uploads.
        """
        ids = {row["id"] for row in db.all("SELECT id FROM blob")}
        for file in self.folder.glob("??/*"):
            if file.name not in ids:
                file.unlink()


def sync(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    if sys.platform == "win32":
        # Windows cannot open folders.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stored_at(folder: Path, blob_id: str) -> Path:
    """The file of a blob in the folder of blobs.

    Raises RequestError for an id that is a path: the records of a backup from elsewhere may have any.
    """
    if not BLOB_ID.fullmatch(blob_id):
        raise RequestError(f"the records have {blob_id!r} as the id of a file, which no server gives")
    return folder / blob_id[:2] / blob_id


def new_blob(db: Transaction, name: str, md5: str | None = None, permanent: bool = False) -> str:
    """Announce a blob; returns its id. `name` only determines the content type of downloads."""
    blob_id = secrets.token_hex(16)
    columns = {"announced": md5, "permanent": int(permanent), "announced_at": db.now}
    db.insert("blob", id=blob_id, name=name, **columns)
    return blob_id


def delete_never_sent(db: Transaction) -> None:
    """Delete the files of runs that a client announced NEVER_SENT_SECONDS ago and did not upload."""
    never_sent = db.all(
        "SELECT file.id, blob_id FROM file JOIN blob ON blob.id = blob_id"
        " WHERE uploaded_at IS NULL AND announced_at < ?",
        db.now - NEVER_SENT_SECONDS,
    )
    for file in never_sent:
        db.run("DELETE FROM file WHERE id = ?", file["id"])
    delete_unused(db, [file["blob_id"] for file in never_sent])


def delete_unused(db: Transaction, blob_ids: list[str]) -> list[str]:
    """Delete the rows of unused blobs; returns their ids. Delete their files after the commit."""
    users = ("file", "manifest", "manifest_entry", "expected_blob")
    unused = " AND ".join(f"NOT EXISTS (SELECT 1 FROM {user} WHERE blob_id = blob.id)" for user in users)
    query = f"SELECT id FROM blob WHERE id IN (SELECT value FROM json_each(?)) AND {unused}"
    ids = [row["id"] for row in db.all(query, json.dumps(blob_ids))]
    db.run("DELETE FROM blob WHERE id IN (SELECT value FROM json_each(?))", json.dumps(ids))
    return ids
