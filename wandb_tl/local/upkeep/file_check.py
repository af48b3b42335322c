"""Check the files of a folder: that each has the bytes that its row says, and that each has a row."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tqdm import tqdm

from wandb_tl.local.artifacts.blobs import Digests, delete_unused, stored_at
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.rows import BlobRow
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.upkeep.finding import Finding

CHUNK_BYTES = 1 << 20
# What is younger may be an upload that a server has not recorded yet.
YOUNG_SECONDS = 600
UNUSED_SECONDS = 24 * 3600
# What the server and its commands write before they rename it; not a user's own key.pem, for example.
DRAFT = re.compile(r"(key|open\.html|server\.json)\.[0-9]+|(pushed|wandb\.sqlite)\.draft")


def digests_of(path: Path) -> Digests | None:
    """The digests of a file; None if there is none. Raises OSError for one that cannot be read."""
    digests = Digests()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digests.update(chunk)
    except FileNotFoundError:
        return None
    return digests


def contents(database: Database, root: Path) -> Iterator[Finding]:
    """Compare the bytes of all files with their rows."""
    with database.transaction() as db:
        rows = db.all("SELECT * FROM blob WHERE uploaded_at IS NOT NULL ORDER BY id", row=BlobRow)
    size = sum(row["size"] or 0 for row in rows)
    with tqdm(total=size, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        for row in rows:
            digests = digests_of(stored_at(root / "blobs", row["id"]))
            if digests is None or not _agree(row, digests):
                yield from _of_content(database, root, row["id"])
            bar.update(row["size"] or 0)


def _agree(row: BlobRow, digests: Digests) -> bool:
    is_its_own = (row["md5"], row["size"]) == (digests.md5, digests.size)
    return is_its_own and row["digest"] in (None, digests.md5, digests.xxh128)


def _of_content(database: Database, root: Path, blob_id: str) -> Iterator[Finding]:
    """What is wrong with a file, now: the server may have replaced or deleted it meanwhile."""
    with database.transaction() as db:
        row = db.blob(blob_id)
        path = stored_at(root / "blobs", blob_id)
        digests = digests_of(path)
        if row is None or row["uploaded_at"] is None or (digests and _agree(row, digests)):
            return
        places = _places(db, blob_id)
    where = ", ".join(places) or "nothing that is left"
    replaceable = not row["permanent"] and not any(place.startswith("version") for place in places)

    def correct(db: Transaction) -> str:
        assert digests is not None
        values = (digests.size, digests.md5, digests.xxh128 if row["permanent"] else None, blob_id)
        db.run("UPDATE blob SET size = ?, md5 = ?, digest = ? WHERE id = ?", *values)
        return "the records have the digests of the bytes now"

    def set_aside(db: Transaction) -> str:
        db.run("UPDATE blob SET uploaded_at = NULL WHERE id = ?", blob_id)
        if digests is None:
            return "it counts as not uploaded now; log it again, or restore a backup"
        aside = root / "damaged" / blob_id
        aside.parent.mkdir(exist_ok=True, mode=0o700)
        path.replace(aside)
        return f"its bytes are in {aside} now; log it again, or restore a backup"

    if digests is None:
        yield Finding(f"{path} is missing: {row['name']} of {where}", set_aside)
    elif (row["md5"], row["size"]) == (digests.md5, digests.size):
        yield Finding(f"{path} has another digest than {row['digest']}: {row['name']} of {where}", correct)
    elif replaceable:
        # A server that is killed after an upload took its place, and before it recorded that.
        yield Finding(f"{path} has other bytes than recorded: {row['name']} of {where}", correct)
    else:
        yield Finding(f"{path} is damaged: {row['name']} of {where}", set_aside)


def _places(db: Transaction, blob_id: str) -> list[str]:
    """The runs and versions that a file belongs to."""
    version = (
        "SELECT 'version ' || project.name || '/' || collection.name || ':v' || artifact.version_index"
        " AS place FROM artifact JOIN collection ON collection.id = sequence_id"
        " JOIN project ON project.id = collection.project_id WHERE state = 'COMMITTED' AND artifact.id IN"
    )
    rows = db.all(
        "SELECT 'run ' || project.name || '/' || run.name AS place FROM file JOIN run ON run.id = run_id"
        " JOIN project ON project.id = run.project_id WHERE blob_id = ?1"
        f" UNION {version} (SELECT artifact_id FROM manifest_entry WHERE blob_id = ?1)"
        f" UNION {version} (SELECT artifact_id FROM manifest WHERE blob_id = ?1)",
        blob_id,
    )
    return [row["place"] for row in rows]


def litter(database: Database, root: Path, is_served: bool) -> Iterator[Finding]:
    """Files that no row names and drafts of killed processes; rows of files that nothing refers to."""
    files = sorted((root / "blobs").glob("??/*"))
    with database.transaction() as db:
        ids = {row["id"] for row in db.all("SELECT id FROM blob")}
    left = [file for file in files if file.name not in ids]
    left += (root / "blobs" / "incoming").glob("*")
    left += [file for file in sorted(root.iterdir()) if DRAFT.fullmatch(file.name)]
    for file in left:
        if not is_served or _age(file) > YOUNG_SECONDS:
            yield Finding(f"{file} belongs to nothing", partial(_delete, file))
    unused = (
        "SELECT id FROM blob WHERE max(announced_at, coalesce(uploaded_at, 0)) < ?"
        " AND id NOT IN (SELECT blob_id FROM file) AND id NOT IN (SELECT blob_id FROM manifest)"
        " AND id NOT IN (SELECT blob_id FROM manifest_entry WHERE blob_id IS NOT NULL)"
        " AND id NOT IN (SELECT blob_id FROM expected_blob)"
    )
    with database.transaction() as db:
        ids = {row["id"] for row in db.all(unused, db.now - UNUSED_SECONDS)}

    def delete(db: Transaction) -> str:
        for blob_id in delete_unused(db, list(ids)):
            stored_at(root / "blobs", blob_id).unlink(missing_ok=True)
        return "deleted"

    if ids:
        yield Finding(f"{len(ids)} recorded files belong to no run and no version", delete)


def _age(file: Path) -> float:
    """The seconds since a file was written; none for a file that is gone."""
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return 0


def _delete(file: Path, _db: Transaction) -> str:
    file.unlink(missing_ok=True)
    return "deleted"
