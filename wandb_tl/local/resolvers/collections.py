"""Artifact types and collections: what versions are sorted into."""

from __future__ import annotations

from typing import Any

from graphql import GraphQLResolveInfo

from wandb_tl.local import artifacts
from wandb_tl.local.resolvers import projects
from wandb_tl.local.resolvers.artifacts import by_column, opaque_id, tags_of
from wandb_tl.local.store import Row, decode_id


def artifact_type(row: Row, info: GraphQLResolveInfo, name: str) -> Row | None:
    query = "SELECT * FROM artifact_type WHERE project_id = ? AND name = ?"
    return info.context.db.one(query, row["id"], name)


def artifact_types(
    row: Row, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None
) -> Row:
    query = "SELECT * FROM artifact_type WHERE project_id = ? ORDER BY id"
    return info.context.db.page(query, [row["id"]], first, after)


def _collections(column: str) -> Any:
    def resolve(
        row: Row, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None, **_: Any
    ) -> Row:
        query = f"SELECT * FROM collection WHERE {column} = ? ORDER BY id"
        return info.context.db.page(query, [row["id"]], first, after)

    return resolve


def _collection(column: str) -> Any:
    query = f"SELECT * FROM collection WHERE {column} = ? AND name = ?"
    return lambda row, info, name: info.context.db.one(query, row["id"], name)


def collection_by_id(_row: Any, info: GraphQLResolveInfo, id: str) -> Row | None:
    return info.context.db.get("collection", decode_id("ArtifactCollection", id))


def versions(
    row: Row, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None, **_: Any
) -> Row:
    """A collection's versions, newest first."""
    query = (
        "SELECT artifact.*, membership.version_index AS number FROM artifact"
        " JOIN membership ON membership.artifact_id = artifact.id"
        " WHERE membership.collection_id = ? ORDER BY membership.version_index DESC"
    )
    page = info.context.db.page(query, [row["id"]], first, after)
    page["edges"] = [edge | {"version": f"v{edge['node']['number']}"} for edge in page["edges"]]
    return page


def collection_aliases(
    row: Row, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None
) -> Row:
    query = "SELECT * FROM alias WHERE collection_id = ? ORDER BY id"
    return info.context.db.page(query, [row["id"]], first, after)


def membership(row: Row, info: GraphQLResolveInfo, aliasName: str) -> Row | None:
    return artifacts.member(info.context.db, row["id"], aliasName)


COLLECTION = {
    "id": opaque_id("ArtifactCollection"),
    "state": lambda *_: "READY",
    "project": projects.of_row,
    "defaultArtifactType": by_column("artifact_type", "type_id"),
    "tags": lambda row, info: {"edges": [{"node": tag} for tag in tags_of("collection_id")(row, info)]},
    "aliases": collection_aliases,
    "artifacts": versions,
    "artifactMembership": membership,
}

RESOLVERS = {
    "Query": {"artifactCollection": collection_by_id},
    "Project": {
        "artifactCollection": _collection("project_id"),
        "artifactCollections": _collections("project_id"),
        "artifactType": artifact_type,
        "artifactTypes": artifact_types,
    },
    "ArtifactType": {
        "id": opaque_id("ArtifactType"),
        "artifactCollections": _collections("type_id"),
        "artifactCollection": _collection("type_id"),
    },
    "ArtifactSequence": COLLECTION
    | {
        "latestArtifact": lambda row, info: artifacts.latest(info.context.db, row["id"]),
        "digestAlgorithm": lambda *_: "MANIFEST_MD5",
    },
    "ArtifactPortfolio": COLLECTION,
}
