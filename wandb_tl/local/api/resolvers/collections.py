"""Artifact types and collections: what versions are sorted into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphql import GraphQLResolveInfo

from wandb_tl.local.api.resolvers import projects
from wandb_tl.local.api.resolvers.artifacts import by_column, collection_of, opaque_id, tags_of
from wandb_tl.local.artifacts import collections
from wandb_tl.local.artifacts import versions as version_rows
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import filters
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.names import decode_id


def by_id(db: Transaction, collection_id: str, kind: str) -> Row:
    """The collection of a kind behind an id."""
    found = db.get("collection", decode_id("ArtifactCollection", collection_id))
    if found is None or found["kind"] != kind:
        raise RequestError("there is no such artifact collection; it may have been deleted")
    return found


# ---- writing ---------------------------------------------------------------------------------------------


def _update(kind: str, id_name: str) -> Callable[..., Row]:
    def resolve(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
        db = info.context.db
        found = by_id(db, input[id_name], kind)
        collections.change(db, found, input.get("name"), input.get("description"))
        return {"artifact_collection": db.get("collection", found["id"])}

    return resolve


def _delete(kind: str, id_name: str) -> Callable[..., Row]:
    def resolve(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
        db = info.context.db
        found = by_id(db, input[id_name], kind)
        info.context.dead_blobs.extend(version_rows.delete_collection(db, found))
        return {"artifact_collection": found | {"state": "DELETED"}}

    return resolve


def move_sequence(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    found = by_id(db, input["artifactSequenceID"], collections.SEQUENCE)
    collections.move(db, found, input["destinationArtifactTypeName"])
    return {"artifact_collection": db.get("collection", found["id"])}


def add_tags(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    found = collection_of(info.context.db, input)
    names = [item["tagName"] for item in input["tags"]]
    collections.tag(info.context.db, "collection_id", found, names)
    return {"tags": [tag for tag in tags_of("collection_id")(found, info) if tag["name"] in names]}


def delete_tags(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    found = collection_of(info.context.db, input)
    collections.untag(info.context.db, "collection_id", found, [item["tagName"] for item in input["tags"]])
    return {"success": True}


# ---- reading ---------------------------------------------------------------------------------------------


def artifact_type(row: Row, info: GraphQLResolveInfo, name: str) -> Row | None:
    query = "SELECT * FROM artifact_type WHERE project_id = ? AND name = ?"
    return info.context.db.one(query, row["id"], name)


def artifact_types(
    row: Row, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None
) -> Row:
    query = "SELECT * FROM artifact_type WHERE project_id = ? ORDER BY id"
    return info.context.db.page(query, [row["id"]], first, after)


def _collections(column: str) -> Callable[..., Row]:
    """The collections of a project or of a type, newest first unless told otherwise."""

    def resolve(
        row: Row,
        info: GraphQLResolveInfo,
        first: int | None = None,
        after: str | None = None,
        # A parameter `filters` would hide the module.
        **wanted: str | None,
    ) -> Row:
        condition, values = filters.where(wanted.get("filters"), collections.COLLECTIONS)
        terms, bound = filters.order_by(wanted.get("order") or "-id", collections.COLLECTIONS)
        query = f"SELECT * FROM collection WHERE {column} = ? AND {condition} ORDER BY {terms}"
        return info.context.db.page(query, [row["id"], *values, *bound], first, after)

    return resolve


def _collection(column: str) -> Callable[..., Row | None]:
    query = f"SELECT * FROM collection WHERE {column} = ? AND name = ?"
    return lambda row, info, name: info.context.db.one(query, row["id"], name)


def collection_by_id(_row: Any, info: GraphQLResolveInfo, id: str) -> Row | None:
    return info.context.db.get("collection", decode_id("ArtifactCollection", id))


def versions(
    row: Row,
    info: GraphQLResolveInfo,
    first: int | None = None,
    after: str | None = None,
    **wanted: str | None,
) -> Row:
    """A collection's versions, newest first unless told otherwise."""
    condition, values = filters.where(wanted.get("filters"), collections.VERSIONS)
    terms, bound = filters.order_by(wanted.get("order") or "-version_index", collections.VERSIONS)
    query = (
        "SELECT artifact.*, membership.version_index AS number FROM artifact"
        " JOIN membership ON membership.artifact_id = artifact.id"
        f" WHERE membership.collection_id = ? AND {condition} ORDER BY {terms}"
    )
    page = info.context.db.page(query, [row["id"], *values, *bound], first, after)
    page["edges"] = [edge | {"version": f"v{edge['node']['number']}"} for edge in page["edges"]]
    return page


def collection_aliases(
    row: Row, info: GraphQLResolveInfo, first: int | None = None, after: str | None = None
) -> Row:
    query = "SELECT * FROM alias WHERE collection_id = ? ORDER BY id"
    return info.context.db.page(query, [row["id"]], first, after)


def membership(row: Row, info: GraphQLResolveInfo, aliasName: str) -> Row | None:
    return collections.member(info.context.db, row["id"], aliasName)


def digest_algorithm(row: Row, info: GraphQLResolveInfo) -> str:
    """That of its newest version: core hashes the next one likewise."""
    query = "SELECT digest_algorithm FROM artifact WHERE sequence_id = ? ORDER BY id DESC LIMIT 1"
    return info.context.db.value(query, row["id"]) or "MANIFEST_MD5"


COLLECTION = {
    "id": opaque_id("ArtifactCollection"),
    "state": lambda row, _info: row.get("state", "READY"),
    "project": projects.of_row,
    "defaultArtifactType": by_column("artifact_type", "type_id"),
    "tags": lambda row, info: {"edges": [{"node": tag} for tag in tags_of("collection_id")(row, info)]},
    "aliases": collection_aliases,
    "artifacts": versions,
    "artifactMembership": membership,
}

RESOLVERS = {
    "Query": {"artifactCollection": collection_by_id},
    "Mutation": {
        "updateArtifactSequence": _update(collections.SEQUENCE, "artifactSequenceID"),
        "updateArtifactPortfolio": _update(collections.PORTFOLIO, "artifactPortfolioID"),
        "deleteArtifactSequence": _delete(collections.SEQUENCE, "artifactSequenceID"),
        "deleteArtifactPortfolio": _delete(collections.PORTFOLIO, "artifactPortfolioID"),
        "moveArtifactSequence": move_sequence,
        "createArtifactCollectionTagAssignments": add_tags,
        "deleteArtifactCollectionTagAssignments": delete_tags,
    },
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
        "latestArtifact": lambda row, info: collections.latest(info.context.db, row["id"]),
        "digestAlgorithm": digest_algorithm,
    },
    "ArtifactPortfolio": COLLECTION,
}
