"""Artifacts: uploaded by wandb-core in five steps, read by wandb.Api()."""

from __future__ import annotations

import json
from typing import Any

from graphql import GraphQLResolveInfo

from wandb_tl.local import artifacts, blobs
from wandb_tl.local.store import (
    Database,
    Refused,
    Row,
    decode_id,
    encode_id,
    ensure_project,
    project_named,
    run_named,
)


def by_id(db: Database, artifact_id: str) -> Row:
    """The version behind an id: the server's own, or one that the client invented for it."""
    found = db.get("artifact", decode_id("Artifact", artifact_id)) or artifacts.by_client_id(db, artifact_id)
    if found is None:
        raise Refused("there is no such artifact; it may have been deleted")
    return found


# ---- writing ---------------------------------------------------------------------------------------------


def create_artifact(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    project = ensure_project(db, input.get("entityName"), input.get("projectName"))
    run = run_named(db, project, input.get("runName"))
    return {"artifact": artifacts.create(db, project, run, input)}


def create_manifest(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    if input.get("type") in ("INCREMENTAL", "PATCH"):
        raise Refused("incremental and distributed artifacts are not supported")
    found = artifacts.manifest_of(db, artifact)
    if found is None:
        blob_id = blobs.new_blob(db, input["name"], input["digest"] or None)
        row = {"artifact_id": artifact["id"], "name": input["name"], "digest": input["digest"]}
        found = db.get("manifest", db.insert("manifest", blob_id=blob_id, **row))
    return {"artifact_manifest": _with_digest(db, found, input["digest"])}


def update_manifest(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    found = db.get("manifest", decode_id("ArtifactManifest", input["artifactManifestID"]))
    if found is None:
        raise Refused("there is no such manifest")
    return {"artifact_manifest": _with_digest(db, found, input.get("digest"))}


def _with_digest(db: Database, manifest: Row, digest: str | None) -> Row:
    if digest:
        db.update("manifest", manifest["id"], digest=digest)
        db.run("UPDATE blob SET announced = ? WHERE id = ?", digest, manifest["blob_id"])
    return db.get("manifest", manifest["id"])


def create_files(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db, edges = info.context.db, []
    for wanted in input["artifactFiles"]:
        artifact, md5 = by_id(db, wanted["artifactID"]), wanted["md5"]
        known = artifacts.uploaded(db, md5)
        blob_id = known["id"] if known else blobs.new_blob(db, wanted["name"], md5, permanent=True)
        url = None if known else info.context.blobs.url(info.context.base_url, "PUT", blob_id)
        edges.append({"node": {"name": wanted["name"], "blob": blob_id, "url": url, "artifact": artifact}})
    return {"files": {"edges": edges}}


def commit_artifact(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    return {"artifact": artifacts.commit(db, info.context.blobs, by_id(db, input["artifactID"]))}


def update_artifact(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    changes = {"ttl_seconds": input.get("ttlDurationSeconds")} | {
        column: input.get(column) for column in ("description", "metadata")
    }
    changes = {column: value for column, value in changes.items() if value is not None}
    db.update("artifact", artifact["id"], updated_at=db.now, **changes)
    if input.get("aliases") is not None:
        artifacts.set_aliases(db, artifact, input["aliases"])
    artifacts.tag(db, artifact, [item["tagName"] for item in input.get("tagsToAdd") or []])
    artifacts.untag(db, artifact, [item["tagName"] for item in input.get("tagsToDelete") or []])
    return {"artifact": db.get("artifact", artifact["id"])}


def delete_artifact(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    dead = artifacts.delete(db, artifact, with_aliases=bool(input.get("deleteAliases")))
    info.context.dead_blobs.extend(dead)
    return {"artifact": artifact}


def use_artifact(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    run = run_named(
        db, project_named(db, input.get("entityName"), input.get("projectName")), input["runName"]
    )
    if run is None:
        raise Refused(f"there is no run {input['runName']} that could use the artifact")
    artifacts.relate(db, run, artifact, "input")
    return {"artifact": artifact}


def add_aliases(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    for item in input["aliases"]:
        artifacts.add_aliases(db, artifact, _collection_of(db, item), [item["alias"]])
    return {"success": True}


def delete_aliases(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    for item in input["aliases"]:
        db.run(
            "DELETE FROM alias WHERE collection_id = ? AND alias = ? AND membership_id IN"
            " (SELECT id FROM membership WHERE artifact_id = ?)",
            _collection_of(db, item)["id"],
            item["alias"],
            artifact["id"],
        )
    return {"success": True}


def _collection_of(db: Database, item: Row) -> Row:
    project = project_named(db, item.get("entityName"), item.get("projectName"))
    found = project and artifacts.collection_named(db, project, item["artifactCollectionName"])
    if found is None:
        raise Refused(f"there is no artifact collection {item['artifactCollectionName']}")
    return found


# ---- reading ---------------------------------------------------------------------------------------------


def artifact(_row: Any, info: GraphQLResolveInfo, id: str) -> Row | None:
    db = info.context.db
    return db.get("artifact", decode_id("Artifact", id)) or artifacts.by_client_id(db, id)


def client_id_mapping(_row: Any, info: GraphQLResolveInfo, clientID: str) -> Row | None:
    found = artifacts.by_client_id(info.context.db, clientID)
    return found and {"server_id": encode_id("Artifact", found["id"])}


def membership_named(row: Row, info: GraphQLResolveInfo, name: str) -> Row | None:
    return artifacts.member_named(info.context.db, row, name)


def artifact_named(row: Row, info: GraphQLResolveInfo, name: str) -> Row | None:
    found = artifacts.member_named(info.context.db, row, name)
    return found and info.context.db.get("artifact", found["artifact_id"])


def _related(role: str) -> Any:
    def resolve(
        row: Row, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None
    ) -> Row:
        query = (
            "SELECT artifact.* FROM artifact JOIN run_artifact ON run_artifact.artifact_id = artifact.id"
            " WHERE run_artifact.run_id = ? AND role = ? AND state = 'COMMITTED' ORDER BY run_artifact.id"
        )
        return info.context.db.page(query, [row["id"], role], first, after)

    return resolve


def used_by(row: Row, info: GraphQLResolveInfo) -> Row:
    query = (
        "SELECT run.* FROM run JOIN run_artifact ON run_artifact.run_id = run.id"
        " WHERE run_artifact.artifact_id = ? AND role = 'input' ORDER BY run_artifact.id"
    )
    return info.context.db.page(query, [row["id"]], None, None)


def aliases(row: Row, info: GraphQLResolveInfo) -> list[Row]:
    """Of a version, in all of its collections."""
    query = (
        "SELECT alias.* FROM alias JOIN membership ON membership.id = alias.membership_id"
        " WHERE membership.artifact_id = ? ORDER BY alias.id"
    )
    return info.context.db.all(query, row["id"])


def memberships(row: Row, info: GraphQLResolveInfo) -> Row:
    query = "SELECT * FROM membership WHERE artifact_id = ? ORDER BY id"
    return info.context.db.page(query, [row["id"]], None, None)


def tags_of(column: str) -> Any:
    return lambda row, info: info.context.db.all(
        f"SELECT * FROM tag WHERE {column} = ? ORDER BY id", row["id"]
    )


def current_manifest(row: Row, info: GraphQLResolveInfo) -> Row | None:
    return artifacts.manifest_of(info.context.db, row)


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
        "SELECT artifact_id || '/' || path AS id, path AS name, path AS storage_path, digest, digest AS md5,"
        " manifest_entry.size, ref, blob_id, uploaded_at FROM manifest_entry"
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
        blob = artifacts.uploaded(info.context.db, entry.get("digest") or "")
        if blob is not None:
            files.append(blob | {"name": entry["name"], "blob_id": blob["id"]})
    edges = [{"node": file, "cursor": str(i)} for i, file in enumerate(files, start=1)]
    page_info = {"end_cursor": None, "has_next_page": False}
    return {"edges": edges, "page_info": page_info, "total_count": len(files)}


def by_column(table: str, column: str) -> Any:
    return lambda row, info: info.context.db.get(table, row[column])


def opaque_id(kind: str) -> Any:
    return lambda row, _info: encode_id(kind, row["id"])


RESOLVERS = {
    "Query": {
        "artifact": artifact,
        "clientIDMapping": client_id_mapping,
    },
    "Mutation": {
        "createArtifact": create_artifact,
        "createArtifactManifest": create_manifest,
        "updateArtifactManifest": update_manifest,
        "createArtifactFiles": create_files,
        "commitArtifact": commit_artifact,
        "updateArtifact": update_artifact,
        "deleteArtifact": delete_artifact,
        "useArtifact": use_artifact,
        "addAliases": add_aliases,
        "deleteAliases": delete_aliases,
    },
    "Project": {
        "artifact": artifact_named,
        "artifactCollectionMembership": membership_named,
    },
    "Run": {"outputArtifacts": _related("output"), "inputArtifacts": _related("input")},
    "Artifact": {
        "id": opaque_id("Artifact"),
        "artifactSequence": by_column("collection", "sequence_id"),
        "artifactType": lambda row, info: info.context.db.one(
            "SELECT artifact_type.* FROM artifact_type"
            " JOIN collection ON collection.type_id = artifact_type.id WHERE collection.id = ?",
            row["sequence_id"],
        ),
        "tags": tags_of("artifact_id"),
        "ttlDurationSeconds": lambda row, _: -2 if row["ttl_seconds"] is None else row["ttl_seconds"],
        "ttlIsInherited": lambda row, _: row["ttl_seconds"] is None,
        "metadata": lambda row, _: row["metadata"] or json.dumps({}),
        "aliases": aliases,
        "artifactMemberships": memberships,
        "createdBy": by_column("run", "created_by"),
        "usedBy": used_by,
        "currentManifest": current_manifest,
        "files": entries,
        "filesByManifestEntries": entries_by_manifest,
    },
    "ArtifactAlias": {
        "id": opaque_id("ArtifactAlias"),
        "artifactCollection": by_column("collection", "collection_id"),
    },
    "Tag": {"id": opaque_id("Tag")},
    "ArtifactManifest": {"id": opaque_id("ArtifactManifest"), "file": manifest_file},
    "ArtifactFile": {
        "id": lambda row, _: encode_id("ArtifactFile", 0) + row["blob"],
        "storagePath": lambda row, _: f"wandb_artifacts/{row['blob']}",
        "uploadUrl": lambda row, _: row["url"],
        "uploadHeaders": lambda *_: [],
    },
    "ArtifactCollectionMembership": {
        "id": opaque_id("ArtifactCollectionMembership"),
        "artifactCollection": by_column("collection", "collection_id"),
        "artifact": by_column("artifact", "artifact_id"),
        "aliases": lambda row, info: info.context.db.all(
            "SELECT * FROM alias WHERE membership_id = ? ORDER BY id", row["id"]
        ),
        "files": entries,
    },
}
