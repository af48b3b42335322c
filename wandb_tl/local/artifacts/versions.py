"""Versions of artifacts: created, committed, changed, used by runs, deleted.

A new version is PENDING; its files and its manifest are uploaded, and `commit` gives it its number. Contents
are stored once per MD5, across versions, collections and projects.
"""

from __future__ import annotations

import itertools
import json
import math
from functools import partial

from wandb_tl.local.artifacts import blobs, collections, manifests
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.artifacts.inputs import CreateArtifactInput, UpdateArtifactInput
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.json_path import DEEPEST, json_object
from wandb_tl.local.records.rows import ArtifactRow, ClientIdRow, CollectionRow, Columns, ProjectRow, RunRow
from wandb_tl.local.records.transaction import Transaction, existing

# An upload is abandoned after so many seconds without a request for it. The jobs of a distributed version may
# wait in a cluster's queue for one another.
ABANDONED_SECONDS = 24 * 3600
DISTRIBUTED_ABANDONED_SECONDS = 7 * 24 * 3600

TTL_INHERITED, TTL_OFF = -1, -2


def create(
    db: Transaction, project: ProjectRow, run: RunRow | None, input: CreateArtifactInput
) -> ArtifactRow:
    """The version for an input: a new PENDING one, or one that already has the same digest.

    The same clientID always returns the same version, and the same distributedID the version that is still
    open. Raises RequestError if the collection has another type, and for a storage region.
    """
    sequence = _sequence(db, project, input)
    names = [alias["alias"] for alias in input.get("aliases") or []]
    artifact = by_client_id(db, input.get("clientID"))
    if artifact is None or artifact["sequence_id"] != sequence["id"]:
        # An offline run, or a sweep, can be uploaded twice, into a different project each time.
        artifact = _same(db, sequence, input)
    if artifact is None:
        artifact = _make(db, sequence, run, input, names)
    elif artifact["state"] == "COMMITTED":
        collections.add_aliases(db, artifact, collections.sequence_of(db, artifact), names)
    else:
        aliases = list(dict.fromkeys([*json.loads(artifact["pending_aliases"]), *names]))
        db.update("artifact", artifact["id"], pending_aliases=json.dumps(aliases), updated_at=db.now)
    _remember(db, input.get("clientID"), artifact_id=artifact["id"])
    tags = [item["tagName"] for item in input.get("tags") or []]
    collections.tag(db, "artifact_id", artifact["id"], tags)
    if run:
        relate(db, run, artifact, "output")
    return artifact


def _sequence(db: Transaction, project: ProjectRow, input: CreateArtifactInput) -> CollectionRow:
    """The sequence that a new version belongs to, created if there is none."""
    names = [input.get("artifactCollectionName"), *(input.get("artifactCollectionNames") or [])]
    name = next(filter(None, names), None)
    if not name:
        raise RequestError("an artifact needs the name of its collection")
    if (input.get("storageRegion") or "default") != "default":
        raise RequestError(
            f"there is no storage region {input['storageRegion']} here; leave storage_region out"
        )
    sequence = collections.ensure(db, project, collections.SEQUENCE, input["artifactTypeName"], name)
    _remember(db, input.get("sequenceClientID"), collection_id=sequence["id"])
    return sequence


def _make(
    db: Transaction,
    sequence: CollectionRow,
    run: RunRow | None,
    input: CreateArtifactInput,
    aliases: list[str],
) -> ArtifactRow:
    artifact_id = db.insert(
        "artifact",
        sequence_id=sequence["id"],
        state="PENDING",
        digest=input["digest"],
        digest_algorithm=input.get("digestAlgorithm") or "MANIFEST_MD5",
        description=input.get("description"),
        metadata=_metadata(input.get("metadata")),
        history_step=input.get("historyStep"),
        ttl_seconds=_ttl(input.get("ttlDurationSeconds")),
        distributed_id=input.get("distributedID"),
        pending_aliases=json.dumps(aliases),
        created_by=run["id"] if run else None,
        created_at=db.now,
        updated_at=db.now,
    )
    return existing(db.get("artifact", artifact_id))


def _same(db: Transaction, sequence: CollectionRow, input: CreateArtifactInput) -> ArtifactRow | None:
    """The open version that several runs make together, or the newest version with the same contents."""
    if input.get("distributedID"):
        query = "SELECT * FROM artifact WHERE sequence_id = ? AND distributed_id = ? AND state = 'PENDING'"
        return db.one(query, sequence["id"], input["distributedID"], row=ArtifactRow)
    # Not one that has lost bytes: logged again, they are here again.
    return db.one(
        "SELECT * FROM artifact WHERE sequence_id = ? AND digest = ? AND state = 'COMMITTED'"
        " AND NOT EXISTS (SELECT 1 FROM manifest_entry JOIN blob ON blob.id = blob_id"
        "  WHERE artifact_id = artifact.id AND uploaded_at IS NULL)"
        " ORDER BY version_index DESC LIMIT 1",
        sequence["id"],
        input["digest"],
        row=ArtifactRow,
    )


def _metadata(text: str | None) -> str | None:
    if text is None or json_object(text) is not None:
        return text
    raise RequestError(
        f"the metadata of an artifact must be the JSON of an object, at most {DEEPEST} levels deep"
    )


def _ttl(seconds: int | None) -> int | None:
    return None if seconds == TTL_INHERITED else seconds


def _remember(db: Transaction, client_id: str | None, **target: int) -> None:
    if client_id:
        column, row_id = next(iter(target.items()))
        db.run(
            f"INSERT INTO client_id (client_id, {column}) VALUES (?, ?) ON CONFLICT DO NOTHING",
            client_id,
            row_id,
        )


def by_client_id(db: Transaction, client_id: str | None) -> ArtifactRow | None:
    """The version for an id that a client invented; for the id of a sequence, its latest version."""
    target = db.one("SELECT * FROM client_id WHERE client_id = ?", client_id, row=ClientIdRow)
    if target is None:
        return None
    if target["artifact_id"] is not None:
        return db.get("artifact", target["artifact_id"])
    return None if target["collection_id"] is None else collections.latest(db, target["collection_id"])


def commit(db: Transaction, folder: Blobs, artifact: ArtifactRow) -> ArtifactRow:
    """Give a version its contents, its number and its aliases. Does nothing for a committed version.

    Raises RequestError if the manifest, or a file that it lists, was not uploaded.
    """
    if artifact["state"] == "COMMITTED":
        return artifact
    columns = manifests.settle(db, folder, artifact)
    sequence = collections.sequence_of(db, artifact)
    number = collections.join(db, sequence, artifact)["version_index"]
    db.update(
        "artifact", artifact["id"], state="COMMITTED", version_index=number, updated_at=db.now, **columns
    )
    names = [*json.loads(artifact["pending_aliases"]), "latest"]
    collections.add_aliases(db, artifact, sequence, names)
    return existing(db.get("artifact", artifact["id"]))


def update(db: Transaction, artifact: ArtifactRow, input: UpdateArtifactInput) -> ArtifactRow:
    """Change a version; fields that are missing or null keep their values."""
    changes: Columns = {"description": input.get("description"), "metadata": _metadata(input.get("metadata"))}
    changes = {column: value for column, value in changes.items() if value is not None}
    if input.get("ttlDurationSeconds") is not None:
        changes["ttl_seconds"] = _ttl(input["ttlDurationSeconds"])
    db.update("artifact", artifact["id"], updated_at=db.now, **changes)
    aliases = input.get("aliases")
    if aliases is not None:
        # They replace all aliases in the version's own sequence.
        sequence = collections.sequence_of(db, artifact)
        own = [item["alias"] for item in aliases if item["artifactCollectionName"] == sequence["name"]]
        collections.remove_aliases(db, artifact, sequence)
        collections.add_aliases(db, artifact, sequence, own)
    added = [tag["tagName"] for tag in input.get("tagsToAdd") or []]
    collections.tag(db, "artifact_id", artifact["id"], added)
    removed = [tag["tagName"] for tag in input.get("tagsToDelete") or []]
    collections.untag(db, "artifact_id", artifact["id"], removed)
    return existing(db.get("artifact", artifact["id"]))


def relate(db: Transaction, run: RunRow, artifact: ArtifactRow, role: str) -> None:
    """Record that a run logged ("output") or used ("input") a version."""
    db.run(
        "INSERT INTO run_artifact (run_id, artifact_id, role) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        run["id"],
        artifact["id"],
        role,
    )


# ---- deletion --------------------------------------------------------------------------------------------


def delete(db: Transaction, artifact: ArtifactRow, with_aliases: bool) -> list[str]:
    """Delete a version and its links; returns the ids of blobs whose files are no longer used.

    Raises RequestError for a version that has aliases in any collection, unless `with_aliases`.
    """
    aliases = db.all(
        "SELECT alias.alias FROM alias JOIN membership ON membership.id = alias.membership_id"
        " WHERE membership.artifact_id = ?",
        artifact["id"],
    )
    if aliases and not with_aliases:
        names = ", ".join(dict.fromkeys(row["alias"] for row in aliases))
        raise RequestError(f"the version still has the aliases {names}; delete it with delete_aliases=True")
    unused: list[str] = []
    if (files := artifact["file_count"] or 0) > manifests.FILES_AT_ONCE:
        times = math.ceil(files / manifests.FILES_AT_ONCE)
        parts = [partial(_withdraw, artifact), *[partial(_delete_files, artifact)] * times]
        unused += itertools.chain(*db.in_parts(("deletion", artifact["id"]), parts))
    else:
        _withdraw(artifact, db)
    rows = db.all(
        "SELECT blob_id FROM manifest WHERE artifact_id = ?1"
        " UNION SELECT blob_id FROM expected_blob WHERE artifact_id = ?1"
        " UNION SELECT blob_id FROM manifest_entry WHERE artifact_id = ?1 AND blob_id IS NOT NULL",
        artifact["id"],
    )
    db.run("DELETE FROM artifact WHERE id = ?", artifact["id"])
    return unused + blobs.delete_unused(db, [row["blob_id"] for row in rows])


def _withdraw(artifact: ArtifactRow, db: Transaction) -> list[str]:
    """Take a version out of its collections. `_abandoned` finds it if its deletion is cut off."""
    for row in db.all("SELECT collection_id FROM membership WHERE artifact_id = ?", artifact["id"]):
        collections.leave(db, row["collection_id"], artifact)
    db.update("artifact", artifact["id"], state="PENDING", updated_at=0)
    return []


def _delete_files(artifact: ArtifactRow, db: Transaction) -> list[str]:
    """Delete the next files of a version; returns the ids of their blobs that are no longer used."""
    query = "SELECT path, blob_id FROM manifest_entry WHERE artifact_id = ? LIMIT ?"
    entries = db.all(query, artifact["id"], manifests.FILES_AT_ONCE)
    delete = "DELETE FROM manifest_entry WHERE artifact_id = ? AND path = ?"
    db.many(delete, [(artifact["id"], entry["path"]) for entry in entries])
    return blobs.delete_unused(db, [entry["blob_id"] for entry in entries if entry["blob_id"]])


def delete_collection(db: Transaction, collection: CollectionRow) -> list[str]:
    """Delete a collection, and all versions of a sequence; returns blob ids as `delete` does."""
    unused = []
    query = "SELECT * FROM artifact WHERE sequence_id = ?"
    for artifact in db.all(query, collection["id"], row=ArtifactRow):
        unused += delete(db, artifact, with_aliases=True)
    db.run("DELETE FROM collection WHERE id = ?", collection["id"])
    return unused


def delete_expired(db: Transaction) -> list[str]:
    """Delete abandoned uploads, versions whose time to live is over, and contents that no manifest lists.

    An upload is alive if its run sent a heartbeat, or any request for it came, within ABANDONED_SECONDS.
    Linked versions outlive their time to live. Returns the ids of blobs whose files to delete after commit.
    """
    artifacts = [*_abandoned(db), *_past_time_to_live(db)]
    unused = [blob_id for artifact in artifacts for blob_id in delete(db, artifact, with_aliases=True)]
    # A version expects contents from the moment when they are announced. Contents that no version expects or
    # lists are leftovers: two clients uploaded the same bytes at once, or no manifest listed the file.
    unlisted = db.all(
        "SELECT id FROM blob WHERE permanent AND coalesce(uploaded_at, 0) < ?"
        " AND NOT EXISTS (SELECT 1 FROM manifest_entry WHERE blob_id = blob.id)"
        " AND NOT EXISTS (SELECT 1 FROM expected_blob WHERE blob_id = blob.id)",
        db.now - ABANDONED_SECONDS,
    )
    return unused + blobs.delete_unused(db, [row["id"] for row in unlisted])


def _abandoned(db: Transaction) -> list[ArtifactRow]:
    return db.all(
        "SELECT artifact.* FROM artifact LEFT JOIN run ON run.id = artifact.created_by"
        " WHERE artifact.state = 'PENDING' AND (artifact.updated_at = 0 OR max("
        "  artifact.updated_at, coalesce(run.heartbeat_at, 0),"
        "  coalesce((SELECT max(uploaded_at) FROM blob WHERE id IN ("
        "   SELECT blob_id FROM expected_blob WHERE artifact_id = artifact.id"
        "   UNION SELECT blob_id FROM manifest WHERE artifact_id = artifact.id)), 0))"
        " < ?1 - CASE WHEN artifact.distributed_id IS NULL THEN ?2 ELSE ?3 END)",
        db.now,
        ABANDONED_SECONDS,
        DISTRIBUTED_ABANDONED_SECONDS,
        row=ArtifactRow,
    )


def _past_time_to_live(db: Transaction) -> list[ArtifactRow]:
    return db.all(
        "SELECT * FROM artifact WHERE state = 'COMMITTED'"
        " AND ttl_seconds > 0 AND created_at + ttl_seconds < ?"
        " AND NOT EXISTS (SELECT 1 FROM membership WHERE artifact_id = artifact.id"
        "  AND collection_id != artifact.sequence_id)",
        db.now,
        row=ArtifactRow,
    )
