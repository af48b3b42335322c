"""Manifests and contents of artifacts: what core uploads for a version, and where readers find it."""

from __future__ import annotations

from typing import Any

from graphql import GraphQLResolveInfo

from wandb_tl.local.api.resolvers.artifacts import by_id, opaque_id
from wandb_tl.local.artifacts import manifests
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.names import decode_id, encode_id


def _base(db: Transaction, input: Row) -> Row | None:
    return by_id(db, input["baseArtifactID"]) if input.get("baseArtifactID") else None


def create_manifest(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    return {"artifact_manifest": manifests.announce(db, artifact, _base(db, input), input)}


def update_manifest(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    found = db.get("manifest", decode_id("ArtifactManifest", input["artifactManifestID"]))
    if found is None:
        raise RequestError("there is no such manifest")
    return {"artifact_manifest": manifests.update(db, found, _base(db, input), input.get("digest"))}


def create_files(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db, edges = info.context.db, []
    for wanted in input["artifactFiles"]:
        artifact = by_id(db, wanted["artifactID"])
        blob = manifests.expect(db, artifact, wanted)
        url = None
        if blob["uploaded_at"] is None:
            url = info.context.blobs.url(info.context.base_url, "PUT", blob["id"])
        node = {"name": wanted["name"], "blob": blob["id"], "url": url, "artifact": artifact}
        edges.append({"node": node})
    return {"files": {"edges": edges}}


def current_manifest(row: Row, info: GraphQLResolveInfo) -> Row | None:
    return manifests.current(info.context.db, row)


def manifest_file(row: Row, info: GraphQLResolveInfo) -> Row:
    blob = info.context.db.one("SELECT * FROM blob WHERE id = ?", row["blob_id"])
    upload_url = info.context.blobs.url(info.context.base_url, "PUT", row["blob_id"])
    return blob | {"blob_id": row["blob_id"], "upload_url": upload_url}


def entries(
    row: Row,
    info: GraphQLResolveInfo,
    names: list[str] | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Row:
    """The files of a version (or of the version of a membership), references among them."""
    query = (
        "SELECT artifact_id || '/' || path AS id, path AS name, path AS storage_path,"
        " manifest_entry.digest, coalesce(blob.md5, manifest_entry.digest) AS md5, manifest_entry.size, ref,"
        " blob_id, uploaded_at FROM manifest_entry"
        " LEFT JOIN blob ON blob.id = manifest_entry.blob_id WHERE artifact_id = ?"
    )
    values: list[Any] = [row.get("artifact_id", row["id"])]
    if names:
        query += f" AND path IN ({', '.join('?' * len(names))})"
        values += names
    return info.context.db.page(f"{query} ORDER BY path", values, first, after)


def entries_by_manifest(
    row: Row, info: GraphQLResolveInfo, entries: list[Row] | None = None, **_: Any
) -> Row:
    files = []
    for entry in entries or []:
        blob = manifests.stored(info.context.db, entry.get("digest") or "")
        if blob is not None:
            files.append(blob | {"name": entry["name"], "blob_id": blob["id"]})
    edges = [{"node": file, "cursor": str(i)} for i, file in enumerate(files, start=1)]
    page_info = {"end_cursor": None, "has_next_page": False}
    return {"edges": edges, "page_info": page_info, "total_count": len(files)}


RESOLVERS = {
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
