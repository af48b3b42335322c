"""Check the records of a folder: the database itself, the versions of artifacts, and runs that do not end."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from wandb_tl.local.artifacts import manifests
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.artifacts.inputs import Contents
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.rows import ArtifactRow, BlobRow, ManifestEntryRow
from wandb_tl.local.records.run_states import GONE, IS_LIVE, IS_QUEUED
from wandb_tl.local.records.transaction import Transaction, existing
from wandb_tl.local.sweeps.sweep_states import OVER
from wandb_tl.local.upkeep.finding import Finding

# The client of a run that is alive has sent something in the last day, also after the server was down for
# long. A run that is given up and still alive is taken back when it is heard again.
WITHOUT_END_SECONDS = 24 * 3600


def database_file(database: Database) -> Iterator[Finding]:
    """What SQLite itself finds."""
    with database.transaction() as db:
        problems = [row["integrity_check"] for row in db.all("PRAGMA integrity_check(10)")]
        rows = db.all("PRAGMA foreign_key_check")
    for problem in problems:
        if problem != "ok":
            yield Finding(f"the database is damaged: {problem}; restore a backup")
    for table in sorted({row["table"] for row in rows}):
        yield Finding(f"rows of {table} refer to rows that are missing; restore a backup")


def versions(database: Database, root: Path) -> Iterator[Finding]:
    """Complete versions whose manifest, files and digest do not belong together."""
    with database.transaction() as db:
        query = "SELECT * FROM artifact WHERE state = 'COMMITTED' ORDER BY id"
        rows = db.all(query, row=ArtifactRow)
    for row in rows:
        with database.transaction() as db:
            # It may have been deleted meanwhile.
            findings = [*_of_version(db, root, row)] if db.get("artifact", row["id"]) else []
        yield from findings


def _of_version(db: Transaction, root: Path, version: ArtifactRow) -> Iterator[Finding]:
    collection = existing(db.get("collection", version["sequence_id"]))
    project = existing(db.get("project", collection["project_id"]))
    name = f"version {project['name']}/{collection['name']}:v{version['version_index']}"
    query = "SELECT * FROM manifest_entry WHERE artifact_id = ?"
    entries = db.all(query, version["id"], row=ManifestEntryRow)
    for entry in entries:
        blob = db.blob(entry["blob_id"]) if entry["blob_id"] else None
        if entry["ref"] is None and not _has(blob, entry["digest"]):
            other = manifests.stored(db, entry["digest"])
            text = f"{name} lacks the bytes of {entry['path']}"
            yield Finding(text, other and partial(_refer, entry, other["id"]))
    try:
        contents = manifests.contents_of(db, root / "blobs", version)
    except (OSError, RequestError):
        yield Finding(f"{name} has no manifest that can be read", partial(_rebuild, root, version))
        return
    listed = {path: item.get("digest") or "" for path, item in contents.items()}
    digest = manifests.digest_of(contents, version["digest_algorithm"])
    totals = (digest, sum(entry["size"] for entry in entries), len(entries))
    if listed != {entry["path"]: entry["digest"] for entry in entries} or totals != (
        version["digest"],
        version["size"],
        version["file_count"],
    ):
        text = f"the records of {name} differ from its manifest"
        yield Finding(text, partial(_list_again, version, contents))


def _has(blob: BlobRow | None, digest: str) -> bool:
    """Whether a blob has the bytes with this digest."""
    return blob is not None and blob["uploaded_at"] is not None and digest in (blob["md5"], blob["digest"])


def _refer(entry: ManifestEntryRow, blob_id: str, db: Transaction) -> str:
    values = (blob_id, entry["artifact_id"], entry["path"])
    db.run("UPDATE manifest_entry SET blob_id = ? WHERE artifact_id = ? AND path = ?", *values)
    return "it has the same bytes of another version now"


def _rebuild(root: Path, version: ArtifactRow, db: Transaction) -> str:
    # The key is needed only for addresses.
    manifests.rebuild(db, Blobs(root / "blobs", ""), version)
    return "its manifest is made anew from the records"


def _list_again(version: ArtifactRow, contents: Contents, db: Transaction) -> str:
    db.update("artifact", version["id"], **manifests.store(db, version, contents))
    return "they are made anew from the manifest"


def runs(database: Database) -> Iterator[Finding]:
    """Runs that count as alive, and of which nothing was heard for WITHOUT_END_SECONDS."""
    over = ", ".join(f"'{state}'" for state in OVER)
    query = (
        "SELECT run.id, run.name, run.state, project.name AS project FROM run"
        f" JOIN project ON project.id = project_id WHERE {IS_LIVE}"
        " AND max(run.created_at, coalesce(run.heartbeat_at, 0), coalesce(claimed_at, 0),"
        "  coalesce((SELECT heartbeat_at FROM agent WHERE agent.id = agent_id), 0)) < ?"
        f" AND NOT ({IS_QUEUED} AND EXISTS (SELECT 1 FROM sweep"
        f"  WHERE sweep.id = sweep_id AND sweep.state NOT IN ({over})))"
    )
    with database.transaction() as db:
        rows = db.all(query, db.now - WITHOUT_END_SECONDS)
    for row in rows:
        text = f"run {row['project']}/{row['name']} is {row['state']}, and was not heard of for a day"
        yield Finding(text, partial(_give_up, row["id"]))


def _give_up(run_id: int, db: Transaction) -> str:
    db.run(f"UPDATE run SET {GONE} WHERE id = ?", run_id)
    return f"it is {db.value('SELECT state FROM run WHERE id = ?', run_id)} now"
