"""Files on disk: opaque names, atomic writes.

A blob's name is a random id that the server made, so that no file name from a user can leave the folder.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from wandb_tl.local.artifacts.signed_addresses import AddressSigner
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Transaction

# A client repeats an upload for less than an hour, and asks again where to send it when it starts anew.
NEVER_SENT_SECONDS = 24 * 3600
# Someone has deleted it from the server's folder.
GONE = "the file is missing from the server's folder"


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

    async def receive(self, blob_id: str, chunks: AsyncIterator[bytes], md5: str | None) -> tuple[int, str]:
        """Write an upload in full or not at all; returns (size in bytes, base64 md5).

        Raises RequestError if the md5 is not the announced one.
        """
        incoming = self.folder / "incoming" / secrets.token_hex(16)
        digest, size = hashlib.md5(usedforsecurity=False), 0
        try:
            with incoming.open("wb") as file:
                async for chunk in chunks:
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                file.flush()
                # Outside of the event loop, which other clients' heartbeats wait for.
                await run_in_threadpool(os.fsync, file.fileno())
            actual = base64.b64encode(digest.digest()).decode()
            if md5 and md5 != actual:
                raise RequestError(f"the upload's MD5 is {actual}, not {md5} as announced", 400)
            await run_in_threadpool(self._move_in, incoming, blob_id)
        finally:
            incoming.unlink(missing_ok=True)
        return size, actual

    def write(self, blob_id: str, content: bytes) -> tuple[int, str]:
        """Write a file that the server itself made; returns (size in bytes, base64 md5)."""
        incoming = self.folder / "incoming" / secrets.token_hex(16)
        with incoming.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._move_in(incoming, blob_id)
        md5 = hashlib.md5(content, usedforsecurity=False).digest()
        return len(content), base64.b64encode(md5).decode()

    def _move_in(self, incoming: Path, blob_id: str) -> None:
        """Move a synced file to its place, and sync the folders so that it is there after a crash."""
        final = self.path(blob_id)
        if final.parent not in self.synced:
            final.parent.mkdir(exist_ok=True)
            _sync(self.folder)
            self.synced.add(final.parent)
        incoming.replace(final)
        _sync(final.parent)

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


def _sync(folder: Path) -> None:
    if sys.platform == "win32":
        # Windows cannot open folders.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stored_at(folder: Path, blob_id: str) -> Path:
    """The file of a blob in the folder of blobs."""
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
    unused = []
    for blob_id in set(blob_ids):
        references = db.value(
            "SELECT (SELECT count(*) FROM file WHERE blob_id = ?1)"
            " + (SELECT count(*) FROM manifest WHERE blob_id = ?1)"
            " + (SELECT count(*) FROM manifest_entry WHERE blob_id = ?1)"
            " + (SELECT count(*) FROM expected_blob WHERE blob_id = ?1)",
            blob_id,
        )
        if references == 0:
            db.run("DELETE FROM blob WHERE id = ?", blob_id)
            unused.append(blob_id)
    return unused
