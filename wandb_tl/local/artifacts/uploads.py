"""Uploads: bytes become the content of a blob if they are what was announced, and what is complete stays.

The server computes both digests of the bytes itself. What is looked up by a digest has that digest.
"""

from __future__ import annotations

from wandb_tl.local.artifacts.blobs import Blobs, Upload
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.rows import BlobRow
from wandb_tl.local.records.transaction import Transaction


def place(blobs: Blobs, blob: BlobRow, upload: Upload) -> None:
    """Move the bytes of an artifact's file to their place before the transaction that accepts them.

    Only those bytes can come there, and a folder that is synced inside a transaction holds up other clients.
    Raises RequestError if the bytes are not what was announced.
    """
    if blob["permanent"] and blob["uploaded_at"] is None:
        _compare(blob, upload)
        blobs.move_in(upload.file, blob["id"])


def accept(db: Transaction, blobs: Blobs, blob_id: str, upload: Upload, signed_at: float) -> None:
    """Make an upload the content of a blob. The same upload again, as after a lost answer, changes nothing.

    signed_at: when its address was signed. Raises RequestError if the blob was deleted, if the bytes are not
    what was announced, and for other bytes than those of a complete version or of an earlier upload to this
    address.
    """
    blob = db.blob(blob_id)
    if blob is None:
        raise RequestError("there is no such file; it may have been deleted", 404)
    _compare(blob, upload)
    if blob["uploaded_at"] is not None and is_complete(db, blob):
        if upload.md5 != blob["md5"]:
            raise RequestError("this file belongs to a complete version, which can no longer change", 403)
        return
    if blob["sent_at"] >= signed_at and blob["md5"] != upload.md5:
        raise RequestError("something else was uploaded to this address before", 400)
    digest = upload.xxh128 if blob["permanent"] else None
    values = (upload.size, upload.md5, digest, db.now, signed_at, blob_id)
    columns = "size = ?, md5 = ?, digest = ?, uploaded_at = ?, sent_at = max(sent_at, ?)"
    db.run(f"UPDATE blob SET {columns} WHERE id = ?", *values)
    if upload.file.exists():
        # Before the commit: other transactions must not read the bytes of another upload, and after a crash
        # every row of an uploaded file has its file.
        blobs.move_in(upload.file, blob_id)


def _compare(blob: BlobRow, upload: Upload) -> None:
    """Raise RequestError if an upload is not what was announced for a blob."""
    if blob["announced"] not in (None, upload.md5):
        raise RequestError(f"the upload's MD5 is {upload.md5}, not {blob['announced']} as announced", 400)
    if blob["permanent"] and blob["digest"] not in (upload.md5, upload.xxh128):
        raise RequestError(
            f"the upload's MD5 is {upload.md5} and its XXH128 {upload.xxh128}:"
            f" neither is {blob['digest']} as announced",
            400,
        )


def is_complete(db: Transaction, blob: BlobRow) -> bool:
    """Whether the bytes of an uploaded blob can no longer change; those of a run's own file can."""
    query = (
        "SELECT 1 FROM manifest JOIN artifact ON artifact.id = artifact_id"
        " WHERE manifest.blob_id = ? AND artifact.state = 'COMMITTED'"
    )
    return bool(blob["permanent"]) or db.one(query, blob["id"]) is not None
