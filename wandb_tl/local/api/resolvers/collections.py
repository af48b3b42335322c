"""Artifact types and collections."""

from __future__ import annotations

from wandb_tl.local.api.context import Info, Payload, Resolver, Resolvers
from wandb_tl.local.api.inputs import CollectionTagsInput, MoveArtifactSequenceInput
from wandb_tl.local.api.resolvers import projects
from wandb_tl.local.api.resolvers.artifacts import by_column, collection_of, opaque_id, tags_of
from wandb_tl.local.artifacts import collections
from wandb_tl.local.artifacts import versions as version_rows
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import filters
from wandb_tl.local.records.names import decode_id
from wandb_tl.local.records.rows import ArtifactTypeRow, CollectionRow, MembershipRow, ProjectRow
from wandb_tl.local.records.transaction import Page, Transaction


def by_id(db: Transaction, collection_id: str, kind: str) -> CollectionRow:
    """The collection of this kind with an id."""
    collection = db.get("collection", decode_id("ArtifactCollection", collection_id))
    if collection is None or collection["kind"] != kind:
        raise RequestError("there is no such artifact collection; it may have been deleted")
    return collection


# ---- writing ---------------------------------------------------------------------------------------------


def _update(kind: str, id_name: str) -> Resolver:
    """A resolver of a mutation whose input is {id_name, "name"?, "description"?}."""

    def resolve(_row: object, info: Info, input: dict[str, str]) -> Payload:
        db = info.context.db
        collection = by_id(db, input[id_name], kind)
        collections.change(db, collection, input.get("name"), input.get("description"))
        return {"artifact_collection": db.get("collection", collection["id"])}

    return resolve


def _delete(kind: str, id_name: str) -> Resolver:
    """A resolver of a mutation whose input is {id_name}."""

    def resolve(_row: object, info: Info, input: dict[str, str]) -> Payload:
        db = info.context.db
        collection = by_id(db, input[id_name], kind)
        info.context.unused_blobs.extend(version_rows.delete_collection(db, collection))
        return {"artifact_collection": {**collection, "state": "DELETED"}}

    return resolve


def move_sequence(_row: object, info: Info, input: MoveArtifactSequenceInput) -> Payload:
    db = info.context.db
    sequence = by_id(db, input["artifactSequenceID"], collections.SEQUENCE)
    collections.move(db, sequence, input["destinationArtifactTypeName"])
    return {"artifact_collection": db.get("collection", sequence["id"])}


def add_tags(_row: object, info: Info, input: CollectionTagsInput) -> Payload:
    collection = collection_of(info.context.db, input)
    names = [item["tagName"] for item in input["tags"]]
    collections.tag(info.context.db, "collection_id", collection["id"], names)
    return {"tags": [tag for tag in tags_of("collection_id")(collection, info) if tag["name"] in names]}


def delete_tags(_row: object, info: Info, input: CollectionTagsInput) -> Payload:
    collection = collection_of(info.context.db, input)
    names = [item["tagName"] for item in input["tags"]]
    collections.untag(info.context.db, "collection_id", collection["id"], names)
    return {"success": True}


# ---- reading ---------------------------------------------------------------------------------------------


def artifact_type(row: ProjectRow, info: Info, name: str) -> ArtifactTypeRow | None:
    query = "SELECT * FROM artifact_type WHERE project_id = ? AND name = ?"
    return info.context.db.one(query, row["id"], name, row=ArtifactTypeRow)


def artifact_types(
    row: ProjectRow, info: Info, first: int | None = None, after: str | None = None, **_: object
) -> Page:
    query = "SELECT * FROM artifact_type WHERE project_id = ? ORDER BY id"
    return info.context.db.page(query, [row["id"]], first, after)


def _collections(column: str) -> Resolver:
    """A resolver of the collections of a project or of a type, by default newest first."""

    def resolve(
        row: ProjectRow | ArtifactTypeRow,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        # A parameter `filters` would hide the module.
        **options: str | None,
    ) -> Page:
        condition, values = filters.where(options.get("filters"), collections.COLLECTIONS)
        terms, bound = filters.order_by(options.get("order") or "-id", collections.COLLECTIONS)
        query = f"SELECT * FROM collection WHERE {column} = ? AND {condition} ORDER BY {terms}"
        return info.context.db.page(query, [row["id"], *values, *bound], first, after)

    return resolve


def _collection(column: str) -> Resolver:
    query = f"SELECT * FROM collection WHERE {column} = ? AND name = ?"
    return lambda row, info, name: info.context.db.one(query, row["id"], name)


def collection_by_id(_row: object, info: Info, id: str) -> CollectionRow | None:
    return info.context.db.get("collection", decode_id("ArtifactCollection", id))


def versions(
    row: CollectionRow,
    info: Info,
    first: int | None = None,
    after: str | None = None,
    **options: str | None,
) -> Page:
    """A collection's versions, by default newest first."""
    condition, values = filters.where(options.get("filters"), collections.VERSIONS)
    terms, bound = filters.order_by(options.get("order") or "-version_index", collections.VERSIONS)
    query = (
        "SELECT artifact.*, membership.version_index AS number FROM artifact"
        " JOIN membership ON membership.artifact_id = artifact.id"
        f" WHERE membership.collection_id = ? AND {condition} ORDER BY {terms}"
    )
    page = info.context.db.page(query, [row["id"], *values, *bound], first, after)
    for edge in page["edges"]:
        edge["version"] = f"v{edge['node']['number']}"
    return page


def collection_aliases(
    row: CollectionRow, info: Info, first: int | None = None, after: str | None = None
) -> Page:
    query = "SELECT * FROM alias WHERE collection_id = ? ORDER BY id"
    return info.context.db.page(query, [row["id"]], first, after)


def membership(row: CollectionRow, info: Info, aliasName: str) -> MembershipRow | None:
    return collections.member(info.context.db, row["id"], aliasName)


def digest_algorithm(row: CollectionRow, info: Info) -> str:
    """The algorithm of the newest version: wandb-core uses it for the next one."""
    query = "SELECT digest_algorithm FROM artifact WHERE sequence_id = ? ORDER BY id DESC LIMIT 1"
    return info.context.db.value(query, row["id"]) or "MANIFEST_MD5"


COLLECTION: dict[str, Resolver] = {
    "id": opaque_id("ArtifactCollection"),
    "state": lambda row, _info: row.get("state", "READY"),
    "project": projects.of_row,
    "defaultArtifactType": by_column("artifact_type", "type_id"),
    "tags": lambda row, info: {"edges": [{"node": tag} for tag in tags_of("collection_id")(row, info)]},
    "aliases": collection_aliases,
    "artifacts": versions,
    "artifactMembership": membership,
}

RESOLVERS: Resolvers = {
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
