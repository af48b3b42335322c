"""Artifacts: uploaded by wandb-core in five steps, read by wandb.Api()."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Literal

from wandb_tl.local.api.context import Info, Payload, Resolver, Resolvers
from wandb_tl.local.api.inputs import (
    AliasesInput,
    ArtifactIdInput,
    CollectionNameInput,
    DeleteArtifactInput,
    UnlinkArtifactInput,
    UseArtifactInput,
)
from wandb_tl.local.artifacts import collections, portfolios, versions
from wandb_tl.local.artifacts.inputs import CreateArtifactInput, LinkArtifactInput, UpdateArtifactInput
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.names import decode_id, encode_id, ensure_project, project_named, run_named
from wandb_tl.local.records.rows import (
    AliasRow,
    ArtifactRow,
    ArtifactTypeRow,
    CollectionRow,
    MembershipRow,
    ProjectRow,
    RunRow,
    TagRow,
)
from wandb_tl.local.records.transaction import Page, Transaction


def by_id(db: Transaction, artifact_id: str) -> ArtifactRow:
    """The version for an id: the server's own, or one that the client invented."""
    version = db.get("artifact", decode_id("Artifact", artifact_id)) or versions.by_client_id(db, artifact_id)
    if version is None:
        raise RequestError("there is no such artifact; it may have been deleted")
    return version


# ---- writing ---------------------------------------------------------------------------------------------


def create_artifact(_row: object, info: Info, input: CreateArtifactInput) -> Payload:
    db = info.context.db
    project = ensure_project(db, input.get("entityName"), input.get("projectName"))
    run = run_named(db, project, input.get("runName"))
    return {"artifact": versions.create(db, project, run, input)}


def commit_artifact(_row: object, info: Info, input: ArtifactIdInput) -> Payload:
    db = info.context.db
    return {"artifact": versions.commit(db, info.context.blobs, by_id(db, input["artifactID"]))}


def update_artifact(_row: object, info: Info, input: UpdateArtifactInput) -> Payload:
    db = info.context.db
    return {"artifact": versions.update(db, by_id(db, input["artifactID"]), input)}


def delete_artifact(_row: object, info: Info, input: DeleteArtifactInput) -> Payload:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    unused = versions.delete(db, artifact, with_aliases=bool(input.get("deleteAliases")))
    info.context.unused_blobs.extend(unused)
    return {"artifact": artifact}


def use_artifact(_row: object, info: Info, input: UseArtifactInput) -> Payload:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    run = run_named(
        db, project_named(db, input.get("entityName"), input.get("projectName")), input["runName"]
    )
    if run is None:
        raise RequestError(f"there is no run {input['runName']} that could use the artifact")
    versions.relate(db, run, artifact, "input")
    return {"artifact": artifact}


def add_aliases(_row: object, info: Info, input: AliasesInput) -> Payload:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    for item in input["aliases"]:
        collections.add_aliases(db, artifact, collection_of(db, item), [item["alias"]])
    return {"success": True}


def delete_aliases(_row: object, info: Info, input: AliasesInput) -> Payload:
    db = info.context.db
    artifact = by_id(db, input["artifactID"])
    for item in input["aliases"]:
        collections.remove_aliases(db, artifact, collection_of(db, item), [item["alias"]])
    return {"success": True}


def link_artifact(_row: object, info: Info, input: LinkArtifactInput) -> Payload:
    db = info.context.db
    membership = portfolios.link(db, by_id(db, input.get("artifactID") or input.get("clientID") or ""), input)
    return {"version_index": membership["version_index"], "artifact_membership": membership}


def unlink_artifact(_row: object, info: Info, input: UnlinkArtifactInput) -> Payload:
    db = info.context.db
    portfolio = db.get("collection", decode_id("ArtifactCollection", input["artifactPortfolioID"]))
    portfolios.unlink(db, by_id(db, input["artifactID"]), portfolio)
    return {"success": True}


def collection_of(db: Transaction, input: CollectionNameInput) -> CollectionRow:
    """The collection that an input names."""
    project = project_named(db, input.get("entityName"), input.get("projectName"))
    collection = project and collections.named(db, project, input["artifactCollectionName"])
    if collection is None:
        raise RequestError(f"there is no artifact collection {input['artifactCollectionName']}")
    return collection


# ---- reading ---------------------------------------------------------------------------------------------


def artifact(_row: object, info: Info, id: str) -> ArtifactRow | None:
    db = info.context.db
    return db.get("artifact", decode_id("Artifact", id)) or versions.by_client_id(db, id)


def client_id_mapping(_row: object, info: Info, clientID: str) -> Payload | None:
    version = versions.by_client_id(info.context.db, clientID)
    return None if version is None else {"server_id": encode_id("Artifact", version["id"])}


def membership_named(row: ProjectRow, info: Info, name: str) -> MembershipRow | None:
    return collections.member_named(info.context.db, row, name)


def artifact_named(row: ProjectRow, info: Info, name: str) -> ArtifactRow | None:
    membership = collections.member_named(info.context.db, row, name)
    return membership and info.context.db.get("artifact", membership["artifact_id"])


def _related(role: str) -> Resolver:
    def resolve(row: RunRow, info: Info, first: int | None = None, after: str | None = None) -> Page:
        query = (
            "SELECT artifact.* FROM artifact JOIN run_artifact ON run_artifact.artifact_id = artifact.id"
            " WHERE run_artifact.run_id = ? AND role = ? AND state = 'COMMITTED' ORDER BY run_artifact.id"
        )
        return info.context.db.page(query, [row["id"], role], first, after)

    return resolve


def used_by(row: ArtifactRow, info: Info) -> Page:
    query = (
        "SELECT run.* FROM run JOIN run_artifact ON run_artifact.run_id = run.id"
        " WHERE run_artifact.artifact_id = ? AND role = 'input' ORDER BY run_artifact.id"
    )
    return info.context.db.page(query, [row["id"]], None, None)


def aliases(row: ArtifactRow, info: Info) -> list[AliasRow]:
    """The aliases of a version in all of its collections, with its numbers there as vN.

    The client reads the number of a version in a portfolio from these.
    """
    query = (
        "SELECT alias.* FROM alias JOIN membership ON membership.id = alias.membership_id"
        " WHERE membership.artifact_id = ?1 UNION ALL"
        " SELECT -id, collection_id, id, 'v' || version_index FROM membership WHERE artifact_id = ?1"
    )
    return info.context.db.all(query, row["id"], row=AliasRow)


def artifact_type(row: ArtifactRow, info: Info) -> ArtifactTypeRow | None:
    query = (
        "SELECT artifact_type.* FROM artifact_type"
        " JOIN collection ON collection.type_id = artifact_type.id WHERE collection.id = ?"
    )
    return info.context.db.one(query, row["sequence_id"], row=ArtifactTypeRow)


def memberships(row: ArtifactRow, info: Info) -> Page:
    query = "SELECT * FROM membership WHERE artifact_id = ? ORDER BY id"
    return info.context.db.page(query, [row["id"]], None, None)


def commit_hash(row: ArtifactRow, _info: Info) -> str | None:
    """A hash that is unique to each committed version."""
    if row["state"] != "COMMITTED":
        return None
    return hashlib.sha1(f"{row['id']} {row['digest']}".encode(), usedforsecurity=False).hexdigest()[:20]


def tags_of(column: str) -> Callable[[Any, Info], list[TagRow]]:
    """A resolver of the tags of a version (column artifact_id) or of a collection (collection_id)."""
    query = f"SELECT * FROM tag WHERE {column} = ? ORDER BY id"
    return lambda row, info: info.context.db.all(query, row["id"], row=TagRow)


def by_column(table: Literal["collection", "artifact", "artifact_type", "run"], column: str) -> Resolver:
    """A resolver of the row that a column refers to."""
    return lambda row, info: info.context.db.get(table, row[column])


def opaque_id(kind: str) -> Resolver:
    return lambda row, _info: encode_id(kind, row["id"])


RESOLVERS: Resolvers = {
    "Query": {
        "artifact": artifact,
        "clientIDMapping": client_id_mapping,
    },
    "Mutation": {
        "createArtifact": create_artifact,
        "commitArtifact": commit_artifact,
        "updateArtifact": update_artifact,
        "deleteArtifact": delete_artifact,
        "useArtifact": use_artifact,
        "addAliases": add_aliases,
        "deleteAliases": delete_aliases,
        "linkArtifact": link_artifact,
        "unlinkArtifact": unlink_artifact,
    },
    "Project": {
        "artifact": artifact_named,
        "artifactCollectionMembership": membership_named,
    },
    "Run": {"outputArtifacts": _related("output"), "inputArtifacts": _related("input")},
    "Artifact": {
        "id": opaque_id("Artifact"),
        "artifactSequence": by_column("collection", "sequence_id"),
        "artifactType": artifact_type,
        "tags": tags_of("artifact_id"),
        "ttlDurationSeconds": lambda row, _: -2 if row["ttl_seconds"] is None else row["ttl_seconds"],
        "ttlIsInherited": lambda row, _: row["ttl_seconds"] is None,
        "metadata": lambda row, _: row["metadata"] or json.dumps({}),
        "commitHash": commit_hash,
        "aliases": aliases,
        "artifactMemberships": memberships,
        "createdBy": by_column("run", "created_by"),
        "usedBy": used_by,
    },
    "ArtifactAlias": {
        "id": opaque_id("ArtifactAlias"),
        "artifactCollection": by_column("collection", "collection_id"),
    },
    "Tag": {"id": opaque_id("Tag")},
    "ArtifactCollectionMembership": {
        "id": opaque_id("ArtifactCollectionMembership"),
        "artifactCollection": by_column("collection", "collection_id"),
        "artifact": by_column("artifact", "artifact_id"),
        "aliases": lambda row, info: info.context.db.all(
            "SELECT * FROM alias WHERE membership_id = ? ORDER BY id", row["id"]
        ),
    },
}
