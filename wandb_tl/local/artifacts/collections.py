"""Collections: named series of versions, their types, aliases and tags.

A sequence holds the versions that are logged to it, a portfolio links to versions of sequences. Each numbers
its own versions; a number is never reused.
"""

from __future__ import annotations

import re

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.filters import Compiled, Kind
from wandb_tl.local.records.rows import (
    ArtifactRow,
    ArtifactTypeRow,
    CollectionRow,
    MembershipRow,
    ProjectRow,
)
from wandb_tl.local.records.transaction import Transaction, existing

SEQUENCE, PORTFOLIO = "ArtifactSequence", "ArtifactPortfolio"

VERSION = re.compile("v([0-9]{1,18})")


def ensure_type(db: Transaction, project_id: int, name: str) -> ArtifactTypeRow:
    """The artifact type of this name, created if there is none."""
    db.run(
        "INSERT INTO artifact_type (project_id, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        project_id,
        name,
        db.now,
    )
    query = "SELECT * FROM artifact_type WHERE project_id = ? AND name = ?"
    return existing(db.one(query, project_id, name, row=ArtifactTypeRow))


def ensure(db: Transaction, project: ProjectRow, kind: str, type_name: str, name: str) -> CollectionRow:
    """The collection of this kind (SEQUENCE or PORTFOLIO), type and name, created if there is none.

    Raises RequestError if a collection of another kind or type has the name.
    """
    _check_name(name)
    collection = named(db, project, name)
    if collection is None:
        _check_type(db, project, type_name)
        type_id = ensure_type(db, project["id"], type_name)["id"]
        times = {"created_at": db.now, "updated_at": db.now}
        new = db.insert(
            "collection", project_id=project["id"], type_id=type_id, kind=kind, name=name, **times
        )
        return existing(db.get("collection", new))
    if collection["kind"] != kind:
        if kind == SEQUENCE:
            raise RequestError(f"{name} is a collection of links; log the artifact under another name")
        raise RequestError(f"{name} is a collection that versions are logged to; link to one of another name")
    other = type_of(db, collection)
    if other != type_name:
        raise RequestError(f"artifact {name} is of type {other}; it cannot also be of type {type_name}")
    return collection


def _check_type(db: Transaction, project: ProjectRow, name: str) -> None:
    """Raises RequestError if the project is a registry that does not accept artifacts of a type."""
    if project["any_type"]:
        return
    rows = db.all("SELECT name FROM artifact_type WHERE project_id = ? ORDER BY id", project["id"])
    accepted = [row["name"] for row in rows]
    if name not in accepted:
        types = f"artifacts of type {', '.join(accepted)}" if accepted else "no artifacts yet"
        raise RequestError(f"{project['name']} accepts {types}, not {name}")


def _check_name(name: str) -> None:
    if not name or ":" in name or "/" in name:
        raise RequestError(f"{name!r} is not a valid collection name: it must not be empty or contain : or /")


def named(db: Transaction, project: ProjectRow, name: str) -> CollectionRow | None:
    query = "SELECT * FROM collection WHERE project_id = ? AND name = ?"
    return db.one(query, project["id"], name, row=CollectionRow)


def type_of(db: Transaction, collection: CollectionRow) -> str:
    """The name of a collection's artifact type."""
    return existing(db.get("artifact_type", collection["type_id"]))["name"]


def sequence_of(db: Transaction, artifact: ArtifactRow) -> CollectionRow:
    """The sequence that a version was logged to."""
    return existing(db.get("collection", artifact["sequence_id"]))


# ---- members ---------------------------------------------------------------------------------------------


def join(db: Transaction, collection: CollectionRow, artifact: ArtifactRow) -> MembershipRow:
    """Make a version a member of a collection, under the collection's next number, if it is not one yet."""
    member = membership(db, collection, artifact)
    if member is not None:
        return member
    # The number of a deleted version is not reused.
    number = db.value("SELECT next_version FROM collection WHERE id = ?", collection["id"])
    db.update("collection", collection["id"], next_version=number + 1, updated_at=db.now)
    new = db.insert(
        "membership",
        collection_id=collection["id"],
        artifact_id=artifact["id"],
        version_index=number,
        created_at=db.now,
    )
    return existing(db.get("membership", new))


def membership(db: Transaction, collection: CollectionRow, artifact: ArtifactRow) -> MembershipRow | None:
    query = "SELECT * FROM membership WHERE collection_id = ? AND artifact_id = ?"
    return db.one(query, collection["id"], artifact["id"], row=MembershipRow)


def member(db: Transaction, collection_id: int, alias: str) -> MembershipRow | None:
    """The membership that an alias, or a version such as v3, names in a collection."""
    by_alias = db.one(
        "SELECT membership.* FROM membership JOIN alias ON alias.membership_id = membership.id"
        " WHERE alias.collection_id = ? AND alias.alias = ?",
        collection_id,
        alias,
        row=MembershipRow,
    )
    number = VERSION.fullmatch(alias)
    if by_alias is not None or not number:
        return by_alias
    query = "SELECT * FROM membership WHERE collection_id = ? AND version_index = ?"
    return db.one(query, collection_id, int(number[1]), row=MembershipRow)


def member_named(db: Transaction, project: ProjectRow, name: str) -> MembershipRow | None:
    """The membership that NAME:ALIAS, NAME:vN or NAME (its latest) stands for."""
    collection_name, _, alias = name.partition(":")
    collection = named(db, project, collection_name)
    return collection and member(db, collection["id"], alias or "latest")


def latest(db: Transaction, collection_id: int) -> ArtifactRow | None:
    """The version that the alias latest names."""
    newest = member(db, collection_id, "latest")
    return newest and db.get("artifact", newest["artifact_id"])


# ---- aliases ---------------------------------------------------------------------------------------------


def add_aliases(db: Transaction, artifact: ArtifactRow, collection: CollectionRow, names: list[str]) -> None:
    """Move aliases of a collection to a version of it. Raises RequestError if it is not a member."""
    member = membership(db, collection, artifact)
    if member is None:
        raise RequestError(f"this version does not belong to {collection['name']}")
    for name in dict.fromkeys(names):
        if VERSION.fullmatch(name):
            continue  # A version's number names it without an alias.
        db.run(
            "INSERT INTO alias (collection_id, membership_id, alias) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (collection_id, alias) DO UPDATE SET membership_id = ?2",
            collection["id"],
            member["id"],
            name,
        )


def remove_aliases(
    db: Transaction, artifact: ArtifactRow, collection: CollectionRow, names: list[str] | None = None
) -> None:
    """Remove these aliases, or all of them, from a version of a collection; other versions keep theirs."""
    member = membership(db, collection, artifact)
    if member is None:
        return
    if names is None:
        db.run("DELETE FROM alias WHERE membership_id = ?", member["id"])
    else:
        rows = [(member["id"], name) for name in names]
        db.many("DELETE FROM alias WHERE membership_id = ? AND alias = ?", rows)


def leave(db: Transaction, collection_id: int, artifact: ArtifactRow) -> None:
    """Delete a membership with its aliases. If it was the latest, the newest remaining one becomes that."""
    newest = member(db, collection_id, "latest")
    db.run(
        "DELETE FROM membership WHERE collection_id = ? AND artifact_id = ?", collection_id, artifact["id"]
    )
    if newest is not None and newest["artifact_id"] == artifact["id"]:
        db.run(
            "INSERT INTO alias (collection_id, membership_id, alias)"
            " SELECT collection_id, id, 'latest' FROM membership WHERE collection_id = ?"
            " ORDER BY version_index DESC LIMIT 1",
            collection_id,
        )


# ---- changes ---------------------------------------------------------------------------------------------


def change(db: Transaction, collection: CollectionRow, name: str | None, description: str | None) -> None:
    """Rename or describe a collection; None changes nothing. Raises RequestError for a name that is taken."""
    name = collection["name"] if name is None else name
    holder = db.one(
        "SELECT id FROM collection WHERE project_id = ? AND name = ?", collection["project_id"], name
    )
    if holder is not None and holder["id"] != collection["id"]:
        raise RequestError(f"the project already has a collection {name}")
    _check_name(name)
    description = collection["description"] if description is None else description
    db.update("collection", collection["id"], name=name, description=description, updated_at=db.now)


def move(db: Transaction, sequence: CollectionRow, type_name: str) -> None:
    """Change a sequence's type. Raises RequestError if its versions are linked: a portfolio has one type."""
    portfolio = db.one(
        "SELECT collection.name FROM membership JOIN artifact ON artifact.id = membership.artifact_id"
        " JOIN collection ON collection.id = membership.collection_id"
        " WHERE artifact.sequence_id = ?1 AND collection.id != ?1",
        sequence["id"],
    )
    if portfolio and type_name != type_of(db, sequence):
        raise RequestError(
            f"versions of {sequence['name']} are linked to {portfolio['name']}; unlink them first"
        )
    kind = ensure_type(db, sequence["project_id"], type_name)
    db.update("collection", sequence["id"], type_id=kind["id"], updated_at=db.now)


def tag(db: Transaction, column: str, row_id: int, names: list[str]) -> None:
    """Tag a version (column artifact_id) or a collection (collection_id)."""
    rows = [(row_id, name) for name in names]
    db.many(f"INSERT INTO tag ({column}, name) VALUES (?, ?) ON CONFLICT DO NOTHING", rows)


def untag(db: Transaction, column: str, row_id: int, names: list[str]) -> None:
    db.many(f"DELETE FROM tag WHERE {column} = ? AND name = ?", [(row_id, name) for name in names])


# ---- filters and orders ----------------------------------------------------------------------------------

ALIASES = "(SELECT alias AS value FROM alias WHERE alias.collection_id = collection.id) AS item"
TAGS = "(SELECT tag.name AS value FROM tag WHERE tag.collection_id = collection.id) AS item"
TYPE = "(SELECT artifact_type.name FROM artifact_type WHERE artifact_type.id = collection.type_id)"

COLLECTIONS = Kind(
    "collection",
    "artifact collections",
    {
        "id": "collection.id",
        "name": "collection.name",
        "description": "collection.description",
        "state": "'READY'",
        "type": TYPE,
    },
    {key: f"collection.{key}" for key in ("created_at", "updated_at")}
    | {"createdAt": "collection.created_at", "updatedAt": "collection.updated_at"},
    {"tags": TAGS, "tag": TAGS, "aliases": ALIASES, "alias": ALIASES},
)


def _of_version(key: str) -> Compiled | None:
    root, _, path = key.partition(".")
    return ("pluck(artifact.metadata, ?)", [path]) if root == "metadata" and path else None


VERSION_ALIASES = "(SELECT alias AS value FROM alias WHERE alias.membership_id = membership.id) AS item"
VERSION_TAGS = "(SELECT tag.name AS value FROM tag WHERE tag.artifact_id = artifact.id) AS item"

VERSIONS = Kind(
    "artifact",
    "artifact versions",
    {key: f"artifact.{key}" for key in ("id", "state", "digest", "size", "description", "file_count")}
    | {
        "fileCount": "artifact.file_count",
        "version": "('v' || membership.version_index)",
        "version_index": "membership.version_index",
        "versionIndex": "membership.version_index",
    },
    {key: f"artifact.{key}" for key in ("created_at", "updated_at")}
    | {"createdAt": "artifact.created_at", "updatedAt": "artifact.updated_at"},
    {"tags": VERSION_TAGS, "tag": VERSION_TAGS, "aliases": VERSION_ALIASES, "alias": VERSION_ALIASES},
    _of_version,
)
