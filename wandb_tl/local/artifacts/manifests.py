"""Manifests: what versions contain, as clients upload it and as the server puts it together.

A client lists everything (FULL), what it adds to a base version (INCREMENTAL), or its part of a version that
several runs make together (PATCH). A committed version has a full one.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from wandb_tl.local.artifacts.blobs import Blobs, new_blob
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Row, Transaction

FULL, INCREMENTAL, PATCH = "FULL", "INCREMENTAL", "PATCH"


def announce(db: Transaction, artifact: Row, base: Row | None, wanted: Row) -> Row:
    """The manifest for a CreateArtifactManifestInput: a version has one FULL one, of parts any number."""
    _still_open(artifact)
    kind = wanted.get("type") or FULL
    found = _full(db, artifact) if kind == FULL else None
    if found is None:
        blob_id = new_blob(db, wanted["name"])
        row = {"artifact_id": artifact["id"], "name": wanted["name"], "digest": "", "blob_id": blob_id}
        new = db.insert("manifest", kind=kind, base_id=base["id"] if base else None, **row)
        found = db.get("manifest", new)
    return update(db, found, None, wanted.get("digest"))


def update(db: Transaction, manifest: Row, base: Row | None, digest: str | None) -> Row:
    """Announce the MD5 (base64) of the manifest that is going to be uploaded; None leaves what there is."""
    artifact = db.get("artifact", manifest["artifact_id"])
    _still_open(artifact)
    db.update("artifact", artifact["id"], updated_at=db.now)
    if base:
        db.update("manifest", manifest["id"], base_id=base["id"])
    if digest:
        db.update("manifest", manifest["id"], digest=digest)
        # What was uploaded before is not what is going to be committed.
        other = "uploaded_at = CASE WHEN md5 = ?1 THEN uploaded_at END"
        db.run(f"UPDATE blob SET announced = ?1, {other} WHERE id = ?2", digest, manifest["blob_id"])
    return db.get("manifest", manifest["id"])


def _still_open(artifact: Row) -> None:
    if artifact["state"] == "COMMITTED":
        raise RequestError("this version is complete and does not change any more; log a new one")


def _full(db: Transaction, artifact: Row) -> Row | None:
    query = "SELECT * FROM manifest WHERE artifact_id = ? AND kind = ? ORDER BY id DESC LIMIT 1"
    return db.one(query, artifact["id"], FULL)


def current(db: Transaction, artifact: Row) -> Row | None:
    """The manifest that readers get: the full one, of an uncommitted version in parts the last part."""
    query = "SELECT * FROM manifest WHERE artifact_id = ? ORDER BY id DESC LIMIT 1"
    return _full(db, artifact) or db.one(query, artifact["id"])


# ---- contents --------------------------------------------------------------------------------------------


def expect(db: Transaction, artifact: Row, wanted: Row) -> Row:
    """The blob for an ArtifactFileInput: one that has these bytes already, or a new one to be uploaded.

    The version keeps it from being forgotten until it is committed.
    """
    _still_open(artifact)
    md5, digest = wanted["md5"], wanted.get("digest") or wanted["md5"]
    found = stored(db, md5) or stored(db, digest)
    if found is None:
        # A client that asks again, as after an answer that was lost, gets the same one.
        # CROSS JOIN: by the digest, of which there are few, and not through all that the version expects.
        found = db.one(
            "SELECT blob.* FROM blob CROSS JOIN expected_blob ON expected_blob.blob_id = blob.id"
            " WHERE blob.digest = ? AND expected_blob.artifact_id = ?",
            digest,
            artifact["id"],
        )
    if found is None:
        # XXH128 digests of large files come without an MD5.
        blob_id = new_blob(db, wanted["name"], md5 or None, permanent=True)
        db.run("UPDATE blob SET digest = ? WHERE id = ?", digest, blob_id)
        found = db.one("SELECT * FROM blob WHERE id = ?", blob_id)
    elif digest != md5:
        db.run("UPDATE blob SET digest = ? WHERE id = ?", digest, found["id"])
    query = "INSERT INTO expected_blob (artifact_id, blob_id) VALUES (?, ?) ON CONFLICT DO NOTHING"
    db.run(query, artifact["id"], found["id"])
    db.update("artifact", artifact["id"], updated_at=db.now)
    return found


def stored(db: Transaction, digest: str) -> Row | None:
    """Contents by their digest as manifests give it: MD5, or the XXH128 that their client announced."""
    if not digest:
        return None
    query = (
        "SELECT * FROM blob WHERE (md5 = ?1 OR digest = ?1) AND permanent AND uploaded_at IS NOT NULL LIMIT 1"
    )
    return db.one(query, digest)


def settle(db: Transaction, blobs: Blobs, artifact: Row) -> Row:
    """Note what a version contains from the manifests uploaded for it; returns the columns that follow.

    Parts are put together, later ones over earlier ones and all over the base, and the whole is written as
    the version's full manifest. Raises RequestError where a manifest, or a file that it lists, is missing.
    """
    uploaded = db.all(
        "SELECT manifest.* FROM manifest JOIN blob ON blob.id = manifest.blob_id"
        " WHERE artifact_id = ? AND blob.uploaded_at IS NOT NULL ORDER BY manifest.id",
        artifact["id"],
    )
    if not uploaded:
        raise RequestError("the artifact's manifest was not uploaded")
    digest = artifact["digest"]
    if all(manifest["kind"] == FULL for manifest in uploaded):
        contents = _read(blobs, uploaded[-1]).get("contents") or {}
    else:
        whole = _together(db, blobs, uploaded)
        contents, digest = whole["contents"], digest_of(whole["contents"])
        _write(db, blobs, artifact, whole)
    entries = [_entry(db, artifact, path, entry) for path, entry in contents.items()]
    db.run("DELETE FROM manifest_entry WHERE artifact_id = ?", artifact["id"])
    db.many(
        "INSERT INTO manifest_entry (artifact_id, path, digest, size, ref, blob_id)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        entries,
    )
    db.run("DELETE FROM expected_blob WHERE artifact_id = ?", artifact["id"])
    return {"digest": digest, "size": sum(entry[3] for entry in entries), "file_count": len(entries)}


def _read(blobs: Blobs, manifest: Row) -> Row:
    return json.loads(blobs.read(manifest["blob_id"]))


def _together(db: Transaction, blobs: Blobs, parts: list[Row]) -> Row:
    contents: Row = {}
    based = next((part for part in parts if part["kind"] == INCREMENTAL and part["base_id"]), None)
    if based:
        base = db.get("artifact", based["base_id"])
        if base is None or base["state"] != "COMMITTED":
            raise RequestError("the version that this one adds to is gone; log all of its files instead")
        contents |= _read(blobs, current(db, base)).get("contents") or {}
    read = [_read(blobs, part) for part in parts]
    for part in read:
        contents |= part.get("contents") or {}
    return read[0] | {"contents": dict(sorted(contents.items()))}


def _write(db: Transaction, blobs: Blobs, artifact: Row, whole: Row) -> None:
    name = "wandb_manifest.json"
    blob_id = new_blob(db, name)
    size, md5 = blobs.write(blob_id, json.dumps(whole).encode())
    row = (size, md5, db.now, blob_id)
    db.run("UPDATE blob SET size = ?, md5 = ?, uploaded_at = ? WHERE id = ?", *row)
    db.insert("manifest", artifact_id=artifact["id"], kind=FULL, name=name, digest=md5, blob_id=blob_id)


def digest_of(contents: Row) -> str:
    """The digest of a version with these contents, as the client computes it (hexadecimal MD5)."""
    lines = [f"{path}:{entry.get('digest') or ''}\n" for path, entry in sorted(contents.items())]
    text = "wandb-artifact-manifest-v1\n" + "".join(lines)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _entry(db: Transaction, artifact: Row, path: str, entry: Row) -> tuple[Any, ...]:
    digest, reference = entry.get("digest") or "", entry.get("ref")
    blob = None if reference else stored(db, digest)
    if blob is None and not reference:
        raise RequestError(f"the artifact's file {path} was not uploaded")
    size = entry.get("size") or (blob["size"] if blob else 0)
    return artifact["id"], path, digest, size, reference, blob["id"] if blob else None
