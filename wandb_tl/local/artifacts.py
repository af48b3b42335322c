"""Artifacts: versions of collections, their aliases, manifests and contents.

A version is born PENDING, its files and its manifest are uploaded, and `commit` gives it its number. Contents
are stored once per MD5, whichever version, collection or project they are in.
"""

from __future__ import annotations

import json
import re
from typing import Any

from wandb_tl.local import blobs
from wandb_tl.local.blobs import Blobs
from wandb_tl.local.store import Database, Refused, Row

SEQUENCE = "ArtifactSequence"

VERSION = re.compile(r"v(\d+)")


def create(db: Database, project: Row, run: Row | None, wanted: Row) -> Row:
    """A version for CreateArtifactInput `wanted`: new and PENDING, or one that has the same digest already.

    Sending the same clientID again gives the same version. Raises Refused where the collection has another
    type.
    """
    name = wanted.get("artifactCollectionName") or next(
        iter(wanted.get("artifactCollectionNames") or []), None
    )
    if not name:
        raise Refused("an artifact needs the name of its collection")
    sequence = ensure_sequence(db, project, wanted["artifactTypeName"], name)
    _remember(db, wanted.get("sequenceClientID"), collection_id=sequence["id"])
    names = [alias["alias"] for alias in wanted.get("aliases") or []]
    found = by_client_id(db, wanted.get("clientID"))
    if found is None:
        found = db.one(
            "SELECT * FROM artifact WHERE sequence_id = ? AND digest = ? AND state = 'COMMITTED'"
            " ORDER BY version_index DESC LIMIT 1",
            sequence["id"],
            wanted["digest"],
        )
    if found is None:
        artifact_id = db.insert(
            "artifact",
            sequence_id=sequence["id"],
            state="PENDING",
            digest=wanted["digest"],
            digest_algorithm=wanted.get("digestAlgorithm") or "MANIFEST_MD5",
            description=wanted.get("description"),
            metadata=wanted.get("metadata"),
            history_step=wanted.get("historyStep"),
            ttl_seconds=wanted.get("ttlDurationSeconds"),
            pending_aliases=json.dumps(names),
            created_by=run["id"] if run else None,
            created_at=db.now,
            updated_at=db.now,
        )
        found = db.get("artifact", artifact_id)
    elif found["state"] == "COMMITTED":
        add_aliases(db, found, sequence, names)
    _remember(db, wanted.get("clientID"), artifact_id=found["id"])
    tag(db, found, [item["tagName"] for item in wanted.get("tags") or []])
    if run:
        relate(db, run, found, "output")
    return found


def ensure_sequence(db: Database, project: Row, type_name: str, name: str) -> Row:
    """The sequence of this name, made if there is none."""
    db.run(
        "INSERT INTO artifact_type (project_id, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        project["id"],
        type_name,
        db.now,
    )
    kind = db.one("SELECT * FROM artifact_type WHERE project_id = ? AND name = ?", project["id"], type_name)
    found = collection_named(db, project, name)
    if found is None:
        times = {"created_at": db.now, "updated_at": db.now}
        new = db.insert(
            "collection", project_id=project["id"], type_id=kind["id"], kind=SEQUENCE, name=name, **times
        )
        return db.get("collection", new)
    if found["type_id"] != kind["id"]:
        other = db.get("artifact_type", found["type_id"])["name"]
        raise Refused(f"artifact {name} is of type {other}; it cannot also be of type {type_name}")
    return found


def collection_named(db: Database, project: Row, name: str) -> Row | None:
    return db.one("SELECT * FROM collection WHERE project_id = ? AND name = ?", project["id"], name)


def _remember(db: Database, client_id: str | None, **target: int) -> None:
    if client_id:
        column, row_id = next(iter(target.items()))
        db.run(
            f"INSERT INTO client_id (client_id, {column}) VALUES (?, ?) ON CONFLICT DO NOTHING",
            client_id,
            row_id,
        )


def by_client_id(db: Database, client_id: str | None) -> Row | None:
    """The version that a client's own id stands for; of a sequence's id, its latest one."""
    known = db.one("SELECT * FROM client_id WHERE client_id = ?", client_id)
    if known is None:
        return None
    if known["artifact_id"] is not None:
        return db.get("artifact", known["artifact_id"])
    return latest(db, known["collection_id"])


def latest(db: Database, collection_id: int) -> Row | None:
    found = member(db, collection_id, "latest")
    return found and db.get("artifact", found["artifact_id"])


def member(db: Database, collection_id: int, alias: str) -> Row | None:
    """The membership that an alias, or a version such as v3, names within a collection."""
    found = db.one(
        "SELECT membership.* FROM membership JOIN alias ON alias.membership_id = membership.id"
        " WHERE alias.collection_id = ? AND alias.alias = ?",
        collection_id,
        alias,
    )
    number = VERSION.fullmatch(alias)
    if found is None and number:
        query = "SELECT * FROM membership WHERE collection_id = ? AND version_index = ?"
        found = db.one(query, collection_id, int(number[1]))
    return found


def member_named(db: Database, project: Row, name: str) -> Row | None:
    """The membership that NAME:ALIAS, NAME:vN or NAME (its latest) stands for."""
    collection_name, _, alias = name.partition(":")
    collection = collection_named(db, project, collection_name)
    return collection and member(db, collection["id"], alias or "latest")


def commit(db: Database, store: Blobs, artifact: Row) -> Row:
    """Give a version its contents, its number and its aliases. Committing twice does no harm.

    Raises Refused where the manifest, or a file that it lists, was never uploaded.
    """
    if artifact["state"] == "COMMITTED":
        return artifact
    manifest = manifest_of(db, artifact)
    if manifest is None or db.value("SELECT uploaded_at FROM blob WHERE id = ?", manifest["blob_id"]) is None:
        raise Refused("the artifact's manifest was not uploaded")
    contents = json.loads(store.read(manifest["blob_id"])).get("contents") or {}
    entries = [_entry(db, artifact, path, entry) for path, entry in contents.items()]
    db.run("DELETE FROM manifest_entry WHERE artifact_id = ?", artifact["id"])
    db.many(
        "INSERT INTO manifest_entry (artifact_id, path, digest, size, ref, blob_id)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        entries,
    )
    sequence_id = artifact["sequence_id"]
    # A deleted version's number is not given again.
    number = db.value("SELECT next_version FROM collection WHERE id = ?", sequence_id)
    db.update(
        "artifact",
        artifact["id"],
        state="COMMITTED",
        version_index=number,
        size=sum(entry[3] for entry in entries),
        file_count=len(entries),
        updated_at=db.now,
    )
    db.insert(
        "membership",
        collection_id=sequence_id,
        artifact_id=artifact["id"],
        version_index=number,
        created_at=db.now,
    )
    db.update("collection", sequence_id, next_version=number + 1, updated_at=db.now)
    names = [*json.loads(artifact["pending_aliases"]), "latest"]
    add_aliases(db, artifact, db.get("collection", sequence_id), names)
    return db.get("artifact", artifact["id"])


def manifest_of(db: Database, artifact: Row) -> Row | None:
    return db.one("SELECT * FROM manifest WHERE artifact_id = ? ORDER BY id DESC LIMIT 1", artifact["id"])


def _entry(db: Database, artifact: Row, path: str, entry: Row) -> tuple[Any, ...]:
    digest, reference = entry.get("digest") or "", entry.get("ref")
    blob = None if reference else uploaded(db, digest)
    if blob is None and not reference:
        raise Refused(f"the artifact's file {path} was not uploaded")
    size = entry.get("size") or (blob["size"] if blob else 0)
    return artifact["id"], path, digest, size, reference, blob["id"] if blob else None


def uploaded(db: Database, md5: str) -> Row | None:
    return db.one("SELECT * FROM blob WHERE md5 = ? AND permanent LIMIT 1", md5)


def add_aliases(db: Database, artifact: Row, collection: Row, names: list[str]) -> None:
    """Point aliases of a collection at a version of it, away from the one that had them."""
    query = "SELECT id FROM membership WHERE collection_id = ? AND artifact_id = ?"
    membership = db.value(query, collection["id"], artifact["id"])
    if membership is None:
        raise Refused(f"this version does not belong to {collection['name']}")
    for name in dict.fromkeys(names):
        if VERSION.fullmatch(name):
            continue  # Versions answer to their numbers without an alias.
        db.run(
            "INSERT INTO alias (collection_id, membership_id, alias) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (collection_id, alias) DO UPDATE SET membership_id = ?2",
            collection["id"],
            membership,
            name,
        )


def set_aliases(db: Database, artifact: Row, wanted: list[Row]) -> None:
    """Make a version's aliases in its own sequence exactly these ArtifactAliasInputs."""
    sequence = db.get("collection", artifact["sequence_id"])
    names = [item["alias"] for item in wanted if item["artifactCollectionName"] == sequence["name"]]
    db.run(
        "DELETE FROM alias WHERE collection_id = ? AND membership_id IN"
        " (SELECT id FROM membership WHERE artifact_id = ?)",
        sequence["id"],
        artifact["id"],
    )
    add_aliases(db, artifact, sequence, names)


def tag(db: Database, artifact: Row, names: list[str]) -> None:
    rows = [(artifact["id"], name) for name in names]
    db.many("INSERT INTO tag (artifact_id, name) VALUES (?, ?) ON CONFLICT DO NOTHING", rows)


def untag(db: Database, artifact: Row, names: list[str]) -> None:
    db.many("DELETE FROM tag WHERE artifact_id = ? AND name = ?", [(artifact["id"], name) for name in names])


def relate(db: Database, run: Row, artifact: Row, role: str) -> None:
    """Note that a run logged ("output") or used ("input") a version."""
    db.run(
        "INSERT INTO run_artifact (run_id, artifact_id, role) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        run["id"],
        artifact["id"],
        role,
    )


def delete(db: Database, artifact: Row, with_aliases: bool) -> list[str]:
    """Forget a version; returns the blobs whose files nobody needs any more.

    Raises Refused for a version that still has aliases, unless they go with it.
    """
    held = db.all(
        "SELECT alias.alias FROM alias JOIN membership ON membership.id = alias.membership_id"
        " WHERE membership.artifact_id = ?",
        artifact["id"],
    )
    if held and not with_aliases:
        names = ", ".join(row["alias"] for row in held)
        raise Refused(f"the version still has the aliases {names}; delete it with delete_aliases=True")
    rows = db.all(
        "SELECT blob_id FROM manifest WHERE artifact_id = ?1"
        " UNION SELECT blob_id FROM manifest_entry WHERE artifact_id = ?1 AND blob_id IS NOT NULL",
        artifact["id"],
    )
    db.run("DELETE FROM artifact WHERE id = ?", artifact["id"])
    return blobs.unused(db, [row["blob_id"] for row in rows])
