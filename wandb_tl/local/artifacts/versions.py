"""Artifacts: versions of collections, what becomes of them and who uses them.

A version is born PENDING, its files and its manifest are uploaded, and `commit` gives it its number. Contents
are stored once per MD5, whichever version, collection or project they are in.
"""

from __future__ import annotations

import json

from wandb_tl.local.artifacts import blobs, collections, manifests
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Row, Transaction

# How long nothing may have come for an upload until its client counts as dead. The jobs of a distributed
# version may wait in a cluster's queue for one another.
ABANDONED_SECONDS = 24 * 3600
DISTRIBUTED_ABANDONED_SECONDS = 7 * 24 * 3600

TTL_INHERITED, TTL_OFF = -1, -2


def create(db: Transaction, project: Row, run: Row | None, wanted: Row) -> Row:
    """A version for CreateArtifactInput `wanted`: new and PENDING, or one that has the same digest already.

    Sending the same clientID again gives the same version, and the same distributedID the one that is still
    open. Raises RequestError where the collection has another type, or for a storage region.
    """
    sequence = _sequence(db, project, wanted)
    names = [alias["alias"] for alias in wanted.get("aliases") or []]
    found = by_client_id(db, wanted.get("clientID"))
    if found is None or found["sequence_id"] != sequence["id"]:
        # An offline run, or a sweep, can be brought here twice, into another project each time.
        found = _existing(db, sequence, wanted)
    if found is None:
        found = _make(db, sequence, run, wanted, names)
    elif found["state"] == "COMMITTED":
        collections.add_aliases(db, found, db.get("collection", found["sequence_id"]), names)
    else:
        together = list(dict.fromkeys([*json.loads(found["pending_aliases"]), *names]))
        db.update("artifact", found["id"], pending_aliases=json.dumps(together), updated_at=db.now)
    _remember(db, wanted.get("clientID"), artifact_id=found["id"])
    collections.tag(db, "artifact_id", found, [item["tagName"] for item in wanted.get("tags") or []])
    if run:
        relate(db, run, found, "output")
    return found


def _sequence(db: Transaction, project: Row, wanted: Row) -> Row:
    """The collection that a version is going to belong to."""
    names = [wanted.get("artifactCollectionName"), *(wanted.get("artifactCollectionNames") or [])]
    name = next(filter(None, names), None)
    if not name:
        raise RequestError("an artifact needs the name of its collection")
    if (wanted.get("storageRegion") or "default") != "default":
        raise RequestError(
            f"there is no storage region {wanted['storageRegion']} here; leave storage_region out"
        )
    sequence = collections.ensure(db, project, collections.SEQUENCE, wanted["artifactTypeName"], name)
    _remember(db, wanted.get("sequenceClientID"), collection_id=sequence["id"])
    return sequence


def _make(db: Transaction, sequence: Row, run: Row | None, wanted: Row, aliases: list[str]) -> Row:
    artifact_id = db.insert(
        "artifact",
        sequence_id=sequence["id"],
        state="PENDING",
        digest=wanted["digest"],
        digest_algorithm=wanted.get("digestAlgorithm") or "MANIFEST_MD5",
        description=wanted.get("description"),
        metadata=wanted.get("metadata"),
        history_step=wanted.get("historyStep"),
        ttl_seconds=_ttl(wanted.get("ttlDurationSeconds")),
        distributed_id=wanted.get("distributedID"),
        pending_aliases=json.dumps(aliases),
        created_by=run["id"] if run else None,
        created_at=db.now,
        updated_at=db.now,
    )
    return db.get("artifact", artifact_id)


def _existing(db: Transaction, sequence: Row, wanted: Row) -> Row | None:
    """What runs are making together, or what was logged before with the same contents."""
    if wanted.get("distributedID"):
        query = "SELECT * FROM artifact WHERE sequence_id = ? AND distributed_id = ? AND state = 'PENDING'"
        return db.one(query, sequence["id"], wanted["distributedID"])
    return db.one(
        "SELECT * FROM artifact WHERE sequence_id = ? AND digest = ? AND state = 'COMMITTED'"
        " ORDER BY version_index DESC LIMIT 1",
        sequence["id"],
        wanted["digest"],
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


def by_client_id(db: Transaction, client_id: str | None) -> Row | None:
    """The version that a client's own id stands for; of a sequence's id, its latest one."""
    known = db.one("SELECT * FROM client_id WHERE client_id = ?", client_id)
    if known is None:
        return None
    if known["artifact_id"] is not None:
        return db.get("artifact", known["artifact_id"])
    return collections.latest(db, known["collection_id"])


def commit(db: Transaction, database: Blobs, artifact: Row) -> Row:
    """Give a version its contents, its number and its aliases. Committing twice does no harm.

    Raises RequestError where the manifest, or a file that it lists, was never uploaded.
    """
    if artifact["state"] == "COMMITTED":
        return artifact
    columns = manifests.settle(db, database, artifact)
    sequence = db.get("collection", artifact["sequence_id"])
    number = collections.join(db, sequence, artifact)["version_index"]
    db.update(
        "artifact", artifact["id"], state="COMMITTED", version_index=number, updated_at=db.now, **columns
    )
    names = [*json.loads(artifact["pending_aliases"]), "latest"]
    collections.add_aliases(db, artifact, sequence, names)
    return db.get("artifact", artifact["id"])


def update(db: Transaction, artifact: Row, wanted: Row) -> Row:
    """Apply an UpdateArtifactInput: what it leaves out, or gives as null, stays."""
    changes = {"description": wanted.get("description"), "metadata": wanted.get("metadata")}
    changes = {column: value for column, value in changes.items() if value is not None}
    if wanted.get("ttlDurationSeconds") is not None:
        changes["ttl_seconds"] = _ttl(wanted["ttlDurationSeconds"])
    db.update("artifact", artifact["id"], updated_at=db.now, **changes)
    if wanted.get("aliases") is not None:
        # All of those that it has in its own sequence.
        sequence = db.get("collection", artifact["sequence_id"])
        mine = [item for item in wanted["aliases"] if item["artifactCollectionName"] == sequence["name"]]
        collections.remove_aliases(db, artifact, sequence)
        collections.add_aliases(db, artifact, sequence, [item["alias"] for item in mine])
    collections.tag(db, "artifact_id", artifact, [tag["tagName"] for tag in wanted.get("tagsToAdd") or []])
    gone = [tag["tagName"] for tag in wanted.get("tagsToDelete") or []]
    collections.untag(db, "artifact_id", artifact, gone)
    return db.get("artifact", artifact["id"])


def relate(db: Transaction, run: Row, artifact: Row, role: str) -> None:
    """Note that a run logged ("output") or used ("input") a version."""
    db.run(
        "INSERT INTO run_artifact (run_id, artifact_id, role) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        run["id"],
        artifact["id"],
        role,
    )


# ---- deletion --------------------------------------------------------------------------------------------


def delete(db: Transaction, artifact: Row, with_aliases: bool) -> list[str]:
    """Forget a version and its links; returns the blobs whose files nobody needs any more.

    Raises RequestError for a version that still has aliases, in whatever collection, unless they go with it.
    """
    held = db.all(
        "SELECT alias.alias FROM alias JOIN membership ON membership.id = alias.membership_id"
        " WHERE membership.artifact_id = ?",
        artifact["id"],
    )
    if held and not with_aliases:
        names = ", ".join(dict.fromkeys(row["alias"] for row in held))
        raise RequestError(f"the version still has the aliases {names}; delete it with delete_aliases=True")
    for row in db.all("SELECT collection_id FROM membership WHERE artifact_id = ?", artifact["id"]):
        collections.leave(db, row["collection_id"], artifact)
    rows = db.all(
        "SELECT blob_id FROM manifest WHERE artifact_id = ?1"
        " UNION SELECT blob_id FROM expected_blob WHERE artifact_id = ?1"
        " UNION SELECT blob_id FROM manifest_entry WHERE artifact_id = ?1 AND blob_id IS NOT NULL",
        artifact["id"],
    )
    db.run("DELETE FROM artifact WHERE id = ?", artifact["id"])
    return blobs.unused(db, [row["blob_id"] for row in rows])


def delete_collection(db: Transaction, collection: Row) -> list[str]:
    """Forget a collection, a sequence with all of its versions; returns the blobs as `delete` does."""
    dead = []
    for artifact in db.all("SELECT * FROM artifact WHERE sequence_id = ?", collection["id"]):
        dead += delete(db, artifact, with_aliases=True)
    db.run("DELETE FROM collection WHERE id = ?", collection["id"])
    return dead


def forget_abandoned(db: Transaction) -> list[str]:
    """Forget uploads whose clients died, versions whose time to live is over, and contents that nobody lists.

    An upload is alive while its run sends heartbeats or anything else came for it within a day. Linked
    versions outlive their time. Returns the blobs whose files are to be deleted after commit.
    """
    dead: list[str] = []
    abandoned = db.all(
        "SELECT artifact.* FROM artifact LEFT JOIN run ON run.id = artifact.created_by"
        " WHERE artifact.state = 'PENDING' AND max(artifact.updated_at, coalesce(run.heartbeat_at, 0),"
        "  coalesce((SELECT max(uploaded_at) FROM blob WHERE id IN ("
        "   SELECT blob_id FROM expected_blob WHERE artifact_id = artifact.id"
        "   UNION SELECT blob_id FROM manifest WHERE artifact_id = artifact.id)), 0))"
        " < ?1 - CASE WHEN artifact.distributed_id IS NULL THEN ?2 ELSE ?3 END",
        db.now,
        ABANDONED_SECONDS,
        DISTRIBUTED_ABANDONED_SECONDS,
    )
    expired = db.all(
        "SELECT * FROM artifact WHERE state = 'COMMITTED'"
        " AND ttl_seconds > 0 AND created_at + ttl_seconds < ?"
        " AND NOT EXISTS (SELECT 1 FROM membership WHERE artifact_id = artifact.id"
        "  AND collection_id != artifact.sequence_id)",
        db.now,
    )
    for artifact in [*abandoned, *expired]:
        dead += delete(db, artifact, with_aliases=True)
    # Contents are expected by a version from the moment they are announced, so that these are leftovers: of
    # two clients that uploaded the same bytes at once, or of files that no manifest went on to list.
    unlisted = db.all(
        "SELECT id FROM blob WHERE permanent AND coalesce(uploaded_at, 0) < ?"
        " AND NOT EXISTS (SELECT 1 FROM manifest_entry WHERE blob_id = blob.id)"
        " AND NOT EXISTS (SELECT 1 FROM expected_blob WHERE blob_id = blob.id)",
        db.now - ABANDONED_SECONDS,
    )
    return dead + blobs.unused(db, [row["id"] for row in unlisted])
