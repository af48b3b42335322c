"""Manifests and contents of artifacts: what wandb-core uploads for a version, and what readers download."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wandb_tl.local.api.context import Info, Payload, Resolvers
from wandb_tl.local.api.inputs import (
    CreateArtifactFilesInput,
    ManifestEntryInput,
    UpdateArtifactManifestInput,
)
from wandb_tl.local.api.resolvers.artifacts import by_id, opaque_id
from wandb_tl.local.artifacts import manifests
from wandb_tl.local.artifacts.inputs import CreateArtifactManifestInput
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.names import decode_id, encode_id
from wandb_tl.local.records.rows import ArtifactRow, ManifestRow, SqlValue
from wandb_tl.local.records.transaction import Edge, Page, Transaction, existing


def _base(db: Transaction, artifact_id: str | None) -> ArtifactRow | None:
    return by_id(db, artifact_id) if artifact_id else None


def create_manifest(_row: object, info: Info, input: CreateArtifactManifestInput) -> Payload:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    base = _base(db, input.get("baseArtifactID"))
    return {"artifact_manifest": manifests.announce(db, artifact, base, input)}


def update_manifest(_row: object, info: Info, input: UpdateArtifactManifestInput) -> Payload:
    db = info.context.db
    manifest = db.get("manifest", decode_id("ArtifactManifest", input["artifactManifestID"]))
    if manifest is None:
        raise RequestError("there is no such manifest")
    base = _base(db, input.get("baseArtifactID"))
    return {"artifact_manifest": manifests.update(db, manifest, base, input.get("digest"))}


def create_files(_row: object, info: Info, input: CreateArtifactFilesInput) -> Payload:
    db, edges = info.context.db, []
    for file in input["artifactFiles"]:
        artifact = by_id(db, file["artifactID"])
        blob = manifests.expect(db, artifact, file)
        url = None
        if blob["uploaded_at"] is None:
            url = info.context.blobs.addresses.url(info.context.base_url, "PUT", blob["id"])
        node = {"name": file["name"], "blob": blob["id"], "url": url, "artifact": artifact}
        edges.append({"node": node})
    return {"files": {"edges": edges}}


def current_manifest(row: ArtifactRow, info: Info) -> ManifestRow | None:
    return manifests.current(info.context.db, row["id"])


def manifest_file(row: ManifestRow, info: Info) -> Payload:
    blob = existing(info.context.db.blob(row["blob_id"]))
    upload_url = info.context.blobs.addresses.url(info.context.base_url, "PUT", row["blob_id"])
    place = f"{row['artifact_id']}/wandb_manifest.json"
    return {**blob, "blob_id": row["blob_id"], "upload_url": upload_url, "storage_path": place}


def entries(
    row: Mapping[str, Any],
    info: Info,
    names: list[str] | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Page:
    """The files of a version, or of the version of a membership, with references, as FileNodes."""
    query = (
        "SELECT artifact_id || '/' || path AS id, path AS name,"
        " 'wandb_artifacts/' || artifact_id || '/' || blob_id AS storage_path,"
        " manifest_entry.digest, coalesce(blob.md5, manifest_entry.digest) AS md5, manifest_entry.size, ref,"
        " blob_id, uploaded_at FROM manifest_entry"
        " LEFT JOIN blob ON blob.id = manifest_entry.blob_id WHERE artifact_id = ?"
    )
    values: list[SqlValue] = [row.get("artifact_id", row["id"])]
    if names:
        query += " AND path IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(names))
    return info.context.db.page(f"{query} ORDER BY path", values, first, after)


def entries_by_manifest(
    _row: ArtifactRow, info: Info, entries: list[ManifestEntryInput] | None = None, **_: object
) -> Page:
    files = []
    for entry in entries or []:
        blob = manifests.stored(info.context.db, entry.get("digest") or "")
        if blob is not None:
            files.append({**blob, "name": entry["name"], "blob_id": blob["id"]})
    edges: list[Edge] = [{"node": file, "cursor": str(i)} for i, file in enumerate(files, start=1)]
    return {
        "edges": edges,
        "page_info": {"end_cursor": None, "has_next_page": False},
        "total_count": lambda: len(files),
    }


RESOLVERS: Resolvers = {
    "Mutation": {
        "createArtifactManifest": create_manifest,
        "updateArtifactManifest": update_manifest,
        "createArtifactFiles": create_files,
    },
    "Artifact": {
        "currentManifest": current_manifest,
        "files": entries,
        "filesByManifestEntries": entries_by_manifest,
    },
    "ArtifactManifest": {"id": opaque_id("ArtifactManifest"), "file": manifest_file},
    "ArtifactFile": {
        "id": lambda row, _: encode_id("ArtifactFile", 0) + row["blob"],
        "storagePath": lambda row, _: f"wandb_artifacts/{row['blob']}",
        "uploadUrl": lambda row, _: row["url"],
        "uploadHeaders": lambda *_: [],
    },
    "ArtifactCollectionMembership": {"files": entries},
}
