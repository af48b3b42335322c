"""Manifests: the lists of a version's files, as clients upload them and as the server merges them.

A client lists all files (FULL), those that it adds to a base version (INCREMENTAL), or its part of a version
that several runs make together (PATCH). A committed version has a FULL manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import xxhash

from wandb_tl.local.artifacts import uploads
from wandb_tl.local.artifacts.blobs import GONE, Blobs, new_blob, stored_at
from wandb_tl.local.artifacts.inputs import (
    ArtifactFileInput,
    Contents,
    CreateArtifactManifestInput,
    Manifest,
    ManifestEntry,
)
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import patient_json
from wandb_tl.local.records.rows import ArtifactRow, BlobRow, Columns, ManifestEntryRow, ManifestRow
from wandb_tl.local.records.transaction import Transaction, existing

FULL, INCREMENTAL, PATCH = "FULL", "INCREMENTAL", "PATCH"

# Of the manifests from which a version is made, together: bytes, and files that they list.
LARGEST, MOST_FILES = 32 * 2**20, 200_000
# Files whose entries are stored in one transaction, which takes some 25 ms.
FILES_AT_ONCE = 500


def announce(
    db: Transaction, artifact: ArtifactRow, base: ArtifactRow | None, input: CreateArtifactManifestInput
) -> ManifestRow:
    """The manifest that a client is going to upload. A version has one FULL manifest, or many parts."""
    _check_open(artifact)
    kind = input.get("type") or FULL
    manifest = _full(db, artifact["id"]) if kind == FULL else None
    if manifest is None:
        blob_id = new_blob(db, input["name"])
        row: Columns = {"artifact_id": artifact["id"], "name": input["name"], "blob_id": blob_id}
        new = db.insert("manifest", kind=kind, digest="", base_id=base["id"] if base else None, **row)
        manifest = existing(db.get("manifest", new))
    return update(db, manifest, None, input.get("digest"))


def update(
    db: Transaction, manifest: ManifestRow, base: ArtifactRow | None, digest: str | None
) -> ManifestRow:
    """Announce the MD5 (base64) of the manifest file that is going to be uploaded; None changes nothing."""
    artifact = existing(db.get("artifact", manifest["artifact_id"]))
    _check_open(artifact)
    db.update("artifact", artifact["id"], updated_at=db.now)
    if base:
        db.update("manifest", manifest["id"], base_id=base["id"])
    if digest:
        db.update("manifest", manifest["id"], digest=digest)
        # A file that was uploaded before, with another MD5, no longer counts as uploaded.
        other = "uploaded_at = CASE WHEN md5 = ?1 THEN uploaded_at END"
        db.run(f"UPDATE blob SET announced = ?1, {other} WHERE id = ?2", digest, manifest["blob_id"])
    return existing(db.get("manifest", manifest["id"]))


def _check_open(artifact: ArtifactRow) -> None:
    if artifact["state"] == "COMMITTED":
        raise RequestError("this version is complete and can no longer change; log a new one")


def _full(db: Transaction, artifact_id: int) -> ManifestRow | None:
    query = "SELECT * FROM manifest WHERE artifact_id = ? AND kind = ? ORDER BY id DESC LIMIT 1"
    return db.one(query, artifact_id, FULL, row=ManifestRow)


def current(db: Transaction, artifact_id: int) -> ManifestRow | None:
    """The manifest that readers get: the FULL one, or the last part of an uncommitted version in parts."""
    query = "SELECT * FROM manifest WHERE artifact_id = ? ORDER BY id DESC LIMIT 1"
    return _full(db, artifact_id) or db.one(query, artifact_id, row=ManifestRow)


# ---- contents --------------------------------------------------------------------------------------------


def expect(db: Transaction, artifact: ArtifactRow, input: ArtifactFileInput) -> BlobRow:
    """The blob for a file: one that has these bytes already, or a new one to upload.

    The uncommitted version protects the blob from being deleted as unused.
    """
    _check_open(artifact)
    # Large files have an XXH128 digest and no MD5.
    md5, digest = input["md5"], input.get("digest") or input["md5"]
    if not digest:
        raise RequestError(f"the artifact's file {input['name']} has neither a digest nor an MD5")
    blob = stored(db, digest)
    if blob is None:
        # A client that asks again, for example after a lost answer, gets the same blob.
        # CROSS JOIN makes SQLite start from the digest, which few blobs share, and not from all the blobs
        # that the version expects.
        blob = db.one(
            "SELECT blob.* FROM blob CROSS JOIN expected_blob ON expected_blob.blob_id = blob.id"
            " WHERE blob.digest = ? AND expected_blob.artifact_id = ?",
            digest,
            artifact["id"],
            row=BlobRow,
        )
    if blob is None:
        blob_id = new_blob(db, input["name"], md5 or None, permanent=True)
        db.run("UPDATE blob SET digest = ? WHERE id = ?", digest, blob_id)
        blob = existing(db.blob(blob_id))
    elif md5 and md5 != (blob["md5"] or blob["announced"] or md5):
        raise RequestError(f"{md5} is not the MD5 of the file with the digest {digest}")
    query = "INSERT INTO expected_blob (artifact_id, blob_id) VALUES (?, ?) ON CONFLICT DO NOTHING"
    db.run(query, artifact["id"], blob["id"])
    db.update("artifact", artifact["id"], updated_at=db.now)
    return blob


def stored(db: Transaction, digest: str) -> BlobRow | None:
    """The uploaded blob with this digest, an MD5 or an XXH128."""
    if not digest:
        return None
    query = (
        "SELECT * FROM blob WHERE (md5 = ?1 OR digest = ?1) AND permanent AND uploaded_at IS NOT NULL LIMIT 1"
    )
    return db.one(query, digest, row=BlobRow)


def settle(db: Transaction, blobs: Blobs, artifact: ArtifactRow) -> Columns:
    """Store the entries of the manifests that were uploaded for a version; returns the columns to update.

    Parts are merged, later ones over earlier ones and all over the base, and written as the version's FULL
    manifest. Raises RequestError if a manifest, or a file that it lists, is missing, and beyond the limits.
    """
    uploaded = db.all(
        "SELECT manifest.* FROM manifest JOIN blob ON blob.id = manifest.blob_id"
        " WHERE artifact_id = ? AND blob.uploaded_at IS NOT NULL ORDER BY manifest.id",
        artifact["id"],
        row=ManifestRow,
    )
    if not uploaded:
        raise RequestError("the artifact's manifest was not uploaded")
    is_full = all(manifest["kind"] == FULL for manifest in uploaded)
    parts, base = (uploaded[-1:], None) if is_full else (uploaded, _base(db, uploaded))
    # Of the bytes that are there now: an upload may replace them while they are parsed.
    rows = [db.blob(each["blob_id"]) for each in (base, *parts) if each]
    key = tuple((blob["id"], blob["md5"]) for blob in map(existing, rows))
    contents, text = db.outside(
        ("manifests", artifact["id"], key), partial(_merged, blobs.folder, base, parts)
    )
    db.in_parts(("entries", artifact["id"], key), _entries_in_parts(artifact, contents))
    if not is_full:
        _write(db, blobs, artifact, text)
    db.run("DELETE FROM expected_blob WHERE artifact_id = ?", artifact["id"])
    # Not the digest that the client named: who logs the contents that have it would get this version.
    digest = db.outside(
        ("digest", artifact["id"], key), partial(digest_of, contents, artifact["digest_algorithm"])
    )
    columns = _columns(db, artifact, digest)
    if columns["file_count"] != len(contents):
        # Another request has stored its own between two parts.
        raise RequestError("this version is completed twice at once; try again")
    return columns


def store(db: Transaction, artifact: ArtifactRow, contents: Contents) -> Columns:
    """Store the contents of a version in place of those that it has; returns the columns to update.

    Raises RequestError if a file is missing.
    """
    for part in _entries_in_parts(artifact, contents):
        part(db)
    return _columns(db, artifact, digest_of(contents, artifact["digest_algorithm"]))


def _columns(db: Transaction, artifact: ArtifactRow, digest: str) -> Columns:
    query = (
        "SELECT count(*) AS files, coalesce(sum(size), 0) AS size FROM manifest_entry WHERE artifact_id = ?"
    )
    row = existing(db.one(query, artifact["id"]))
    return {"digest": digest, "size": row["size"], "file_count": row["files"]}


def _entries_in_parts(artifact: ArtifactRow, contents: Contents) -> Iterator[Callable[[Transaction], None]]:
    """What stores the contents of a version, in place of those that it has.

    A part raises RequestError if a file is missing. Until the version is committed, nobody sees its entries.
    """
    yield partial(_delete_entries, artifact)
    items = list(contents.items())
    for start in range(0, len(items), FILES_AT_ONCE):
        yield partial(_store_entries, artifact, items[start : start + FILES_AT_ONCE])


def _delete_entries(artifact: ArtifactRow, db: Transaction) -> None:
    # Those of an attempt that was cut off protect their blobs until the next part, which stores them again.
    db.run(
        "INSERT INTO expected_blob (artifact_id, blob_id) SELECT DISTINCT artifact_id, blob_id"
        " FROM manifest_entry WHERE artifact_id = ? AND blob_id IS NOT NULL ON CONFLICT DO NOTHING",
        artifact["id"],
    )
    db.run("DELETE FROM manifest_entry WHERE artifact_id = ?", artifact["id"])


def _store_entries(artifact: ArtifactRow, part: Iterable[tuple[str, ManifestEntry]], db: Transaction) -> None:
    if db.get("artifact", artifact["id"]) is None:
        raise RequestError("this version was deleted while its files were stored")
    entries = [_entry(db, artifact, path, entry) for path, entry in part]
    db.many(
        "INSERT INTO manifest_entry (artifact_id, path, digest, size, ref, blob_id)"
        " VALUES (:artifact_id, :path, :digest, :size, :ref, :blob_id)",
        entries,
    )
    # From here on the entries protect the blobs.
    db.many("DELETE FROM expected_blob WHERE artifact_id = :artifact_id AND blob_id = :blob_id", entries)


def contents_of(db: Transaction, folder: Path, artifact: ArtifactRow) -> Contents:
    """The contents of a version by its manifest in the folder of blobs.

    Raises RequestError, or OSError, if it has none that can be read.
    """
    manifest = current(db, artifact["id"])
    if manifest is None or existing(db.blob(manifest["blob_id"]))["uploaded_at"] is None:
        raise RequestError("the manifest is missing")
    return _read(folder, manifest)["contents"]


def _read(folder: Path, manifest: ManifestRow) -> Manifest:
    """The manifest file, with its contents. Raises RequestError for a file that is no manifest."""
    try:
        body = stored_at(folder, manifest["blob_id"]).read_bytes()
        patient_json.check(body, manifest["name"])
        parsed = patient_json.loads(body.decode(json.detect_encoding(body), "surrogatepass"))
        contents = parsed["contents"] = parsed.get("contents") or {}
        odd = next((path for path, entry in contents.items() if not _is_entry(path, entry)), None)
    except (ValueError, RecursionError, AttributeError, TypeError):
        raise RequestError(f"{manifest['name']} is not a valid manifest: JSON with contents") from None
    if odd is not None:
        raise RequestError(f"{manifest['name']} is not a valid manifest: its entry {odd} is malformed")
    return cast(Manifest, parsed)


def _is_entry(path: str, entry: object) -> bool:
    """Whether an entry can be stored. Raises ValueError for lone surrogates, which JSON can hold."""
    if not isinstance(entry, dict):
        return False
    size, texts = entry.get("size"), [path, *(entry.get(key) or "" for key in ("digest", "ref"))]
    is_text = all(isinstance(text, str) and text.encode() is not None for text in texts)
    return is_text and (size is None or (isinstance(size, int) and 0 <= size < 1 << 62))


def _base(db: Transaction, parts: list[ManifestRow]) -> ManifestRow | None:
    """The manifest of the version that parts add to, None if they add to none."""
    addition = next((part for part in parts if part["kind"] == INCREMENTAL and part["base_id"]), None)
    if addition is None:
        return None
    base = db.get("artifact", addition["base_id"])
    if base is None or base["state"] != "COMMITTED":
        raise RequestError("the version that this one adds to is gone; log all of its files instead")
    return existing(_full(db, base["id"]))


def _merged(folder: Path, base: ManifestRow | None, parts: list[ManifestRow]) -> tuple[Contents, bytes]:
    """The contents of parts over those of a base, and the text of the manifest that has them all.

    Raises RequestError beyond the limits, and for a file that is gone.
    """
    files = [stored_at(folder, each["blob_id"]) for each in (base, *parts) if each]
    try:
        size = sum(file.stat().st_size for file in files)
    except FileNotFoundError:
        raise RequestError(GONE) from None
    if size > LARGEST:
        raise RequestError(f"the manifest of an artifact can have {LARGEST:,} bytes; log fewer files in one")
    manifests = [_read(folder, part) for part in parts]
    contents = _read(folder, base)["contents"] if base else {}
    for manifest in manifests:
        contents |= manifest["contents"]
    if len(contents) > MOST_FILES:
        raise RequestError(f"an artifact can have {MOST_FILES:,} files, not {len(contents):,}")
    contents = dict(sorted(contents.items()))
    return contents, json.dumps({**manifests[0], "contents": contents}).encode()


def _write(db: Transaction, blobs: Blobs, artifact: ArtifactRow, manifest: bytes) -> None:
    name = "wandb_manifest.json"
    blob_id = new_blob(db, name)
    with blobs.write(manifest) as upload:
        uploads.accept(db, blobs, blob_id, upload, db.now)
    row: Columns = {"artifact_id": artifact["id"], "name": name, "blob_id": blob_id}
    db.insert("manifest", kind=FULL, digest=upload.md5, **row)


def rebuild(db: Transaction, blobs: Blobs, artifact: ArtifactRow) -> None:
    """Write the manifest of a complete version anew, from the entries that were stored with it."""
    query = (
        "SELECT manifest_entry.*, blob.md5 FROM manifest_entry LEFT JOIN blob ON blob.id = blob_id"
        " WHERE artifact_id = ?"
    )
    contents: Contents = {}
    for row in db.all(query, artifact["id"]):
        entry = contents[row["path"]] = {"digest": row["digest"], "size": row["size"]}
        if row["ref"] is not None:
            entry["ref"] = row["ref"]
        elif row["digest"] != row["md5"]:
            entry["extra"] = {"alg": "XXH128"}
    manifest: Manifest = {"version": 1, "storagePolicy": "wandb-storage-policy-v1", "contents": contents}
    whole = {**manifest, "storagePolicyConfig": {"storageLayout": "V2"}}
    _write(db, blobs, artifact, json.dumps(whole).encode())


def digest_of(contents: Contents, algorithm: str) -> str:
    """The hexadecimal digest of a version with these contents, as the client computes it.

    algorithm: MANIFEST_MD5 or MANIFEST_XXH128.
    """
    lines = [f"{path}:{entry.get('digest') or ''}\n" for path, entry in sorted(contents.items())]
    text = ("wandb-artifact-manifest-v1\n" + "".join(lines)).encode()
    if algorithm == "MANIFEST_XXH128":
        return xxhash.xxh128_hexdigest(text)
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _entry(db: Transaction, artifact: ArtifactRow, path: str, entry: ManifestEntry) -> ManifestEntryRow:
    digest, reference = entry.get("digest") or "", entry.get("ref")
    blob = None if reference else stored(db, digest)
    if blob is None and not reference:
        raise RequestError(f"the artifact's file {path} was not uploaded")
    return {
        "artifact_id": artifact["id"],
        "path": path,
        "digest": digest,
        "size": (blob["size"] if blob else entry.get("size")) or 0,
        "ref": reference,
        "blob_id": blob["id"] if blob else None,
    }
