"""Collections: named series of versions, their types, aliases and tags.

A sequence makes its versions, a portfolio links to those of sequences. Both count their versions for
themselves; a number is never given twice.
"""

from __future__ import annotations

import re

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.filters import Compiled, Kind

SEQUENCE, PORTFOLIO = "ArtifactSequence", "ArtifactPortfolio"

VERSION = re.compile(r"v(\d+)")


def ensure_type(db: Transaction, project: Row, name: str) -> Row:
    db.run(
        "INSERT INTO artifact_type (project_id, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        project["id"],
        name,
        db.now,
    )
    return db.one("SELECT * FROM artifact_type WHERE project_id = ? AND name = ?", project["id"], name)


def ensure(db: Transaction, project: Row, kind: str, type_name: str, name: str) -> Row:
    """The collection of this kind (SEQUENCE or PORTFOLIO), type and name, made if there is none.

    Raises RequestError where the name is taken by one of another kind or type.
    """
    _check_name(name)
    found = named(db, project, name)
    if found is None:
        type_id = ensure_type(db, project, type_name)["id"]
        times = {"created_at": db.now, "updated_at": db.now}
        new = db.insert(
            "collection", project_id=project["id"], type_id=type_id, kind=kind, name=name, **times
        )
        return db.get("collection", new)
    if found["kind"] != kind:
        if kind == SEQUENCE:
            raise RequestError(f"{name} is a collection of links; log the artifact under another name")
        raise RequestError(f"{name} is a collection that versions are logged to; link to one of another name")
    other = type_of(db, found)
    if other != type_name:
        raise RequestError(f"artifact {name} is of type {other}; it cannot also be of type {type_name}")
    return found


def _check_name(name: str) -> None:
    if not name or ":" in name or "/" in name:
        raise RequestError(f"{name!r} is not a valid collection name: it must not be empty or contain : or /")


def named(db: Transaction, project: Row, name: str) -> Row | None:
    return db.one("SELECT * FROM collection WHERE project_id = ? AND name = ?", project["id"], name)


def type_of(db: Transaction, collection: Row) -> str:
    return db.get("artifact_type", collection["type_id"])["name"]


# ---- members ---------------------------------------------------------------------------------------------


def join(db: Transaction, collection: Row, artifact: Row) -> Row:
    """Make a version a member of a collection, under the collection's next number; twice does no harm."""
    found = membership(db, collection, artifact)
    if found is not None:
        return found
    # A deleted version's number is not given again.
    number = db.value("SELECT next_version FROM collection WHERE id = ?", collection["id"])
    db.update("collection", collection["id"], next_version=number + 1, updated_at=db.now)
    new = db.insert(
        "membership",
        collection_id=collection["id"],
        artifact_id=artifact["id"],
        version_index=number,
        created_at=db.now,
    )
    return db.get("membership", new)


def membership(db: Transaction, collection: Row, artifact: Row) -> Row | None:
    query = "SELECT * FROM membership WHERE collection_id = ? AND artifact_id = ?"
    return db.one(query, collection["id"], artifact["id"])


def member(db: Transaction, collection_id: int, alias: str) -> Row | None:
    """The membership that an alias, or a version such as v3, names within a collection."""
    found = db.one(
        "SELECT membership.* FROM membership JOIN alias ON alias.membership_id = membership.id"
        " WHERE alias.collection_id = ? AND alias.alias = ?",
        collection_id,
        alias,
    )
    number = VERSION.fullmatch(alias)
    if found is None and number:
        query = "SELECT * FROM membership WHERE collection_id = ? AND version_index = ?"
        found = db.one(query, collection_id, int(number[1]))
    return found


def member_named(db: Transaction, project: Row, name: str) -> Row | None:
    """The membership that NAME:ALIAS, NAME:vN or NAME (its latest) stands for."""
    collection_name, _, alias = name.partition(":")
    collection = named(db, project, collection_name)
    return collection and member(db, collection["id"], alias or "latest")


def latest(db: Transaction, collection_id: int) -> Row | None:
    found = member(db, collection_id, "latest")
    return found and db.get("artifact", found["artifact_id"])


# ---- aliases ---------------------------------------------------------------------------------------------


def add_aliases(db: Transaction, artifact: Row, collection: Row, names: list[str]) -> None:
    """Point aliases of a collection at a version of it, away from the one that had them."""
    found = membership(db, collection, artifact)
    if found is None:
        raise RequestError(f"this version does not belong to {collection['name']}")
    for name in dict.fromkeys(names):
        if VERSION.fullmatch(name):
            continue  # Versions answer to their numbers without an alias.
        db.run(
            "INSERT INTO alias (collection_id, membership_id, alias) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (collection_id, alias) DO UPDATE SET membership_id = ?2",
            collection["id"],
            found["id"],
            name,
        )


def remove_aliases(db: Transaction, artifact: Row, collection: Row, names: list[str] | None = None) -> None:
    """Take these aliases, or all, from a version of a collection; those that it does not have stay."""
    found = membership(db, collection, artifact)
    if found is None:
        return
    if names is None:
        db.run("DELETE FROM alias WHERE membership_id = ?", found["id"])
    else:
        rows = [(found["id"], name) for name in names]
        db.many("DELETE FROM alias WHERE membership_id = ? AND alias = ?", rows)


def leave(db: Transaction, collection_id: int, artifact: Row) -> None:
    """End a membership with its aliases; where it was the latest, the newest one left is that now."""
    found = member(db, collection_id, "latest")
    db.run(
        "DELETE FROM membership WHERE collection_id = ? AND artifact_id = ?", collection_id, artifact["id"]
    )
    if found is not None and found["artifact_id"] == artifact["id"]:
        db.run(
            "INSERT INTO alias (collection_id, membership_id, alias)"
            " SELECT collection_id, id, 'latest' FROM membership WHERE collection_id = ?"
            " ORDER BY version_index DESC LIMIT 1",
            collection_id,
        )


# ---- changes ---------------------------------------------------------------------------------------------


def change(db: Transaction, collection: Row, name: str | None, description: str | None) -> None:
    """Rename or describe a collection; None changes nothing. RequestError for a name that is taken."""
    name = collection["name"] if name is None else name
    holder = db.one(
        "SELECT id FROM collection WHERE project_id = ? AND name = ?", collection["project_id"], name
    )
    if holder is not None and holder["id"] != collection["id"]:
        raise RequestError(f"the project already has a collection {name}")
    _check_name(name)
    described = collection["description"] if description is None else description
    db.update("collection", collection["id"], name=name, description=described, updated_at=db.now)


def move(db: Transaction, sequence: Row, type_name: str) -> None:
    """Change a sequence's type. RequestError while its versions are linked: a portfolio has one type."""
    linked = db.one(
        "SELECT collection.name FROM membership JOIN artifact ON artifact.id = membership.artifact_id"
        " JOIN collection ON collection.id = membership.collection_id"
        " WHERE artifact.sequence_id = ?1 AND collection.id != ?1",
        sequence["id"],
    )
    if linked and type_name != type_of(db, sequence):
        raise RequestError(
            f"versions of {sequence['name']} are linked to {linked['name']}; unlink them first"
        )
    project = db.get("project", sequence["project_id"])
    kind = ensure_type(db, project, type_name)
    db.update("collection", sequence["id"], type_id=kind["id"], updated_at=db.now)


def tag(db: Transaction, column: str, row: Row, names: list[str]) -> None:
    """Tag a version (column artifact_id) or a collection (collection_id)."""
    rows = [(row["id"], name) for name in names]
    db.many(f"INSERT INTO tag ({column}, name) VALUES (?, ?) ON CONFLICT DO NOTHING", rows)


def untag(db: Transaction, column: str, row: Row, names: list[str]) -> None:
    db.many(f"DELETE FROM tag WHERE {column} = ? AND name = ?", [(row["id"], name) for name in names])


# ---- what they can be filtered and ordered by ------------------------------------------------------------

ALIASES = "(SELECT alias AS value FROM alias WHERE alias.collection_id = collection.id) AS item"
TAGS = "(SELECT tag.name AS value FROM tag WHERE tag.collection_id = collection.id) AS item"
ITS_TYPE = "(SELECT artifact_type.name FROM artifact_type WHERE artifact_type.id = collection.type_id)"

COLLECTIONS = Kind(
    "collection",
    "artifact collections",
    {
        "id": "collection.id",
        "name": "collection.name",
        "description": "collection.description",
        "state": "'READY'",
        "type": ITS_TYPE,
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
