"""Registries: projects named wandb-registry-NAME, whose portfolios link to versions of other projects.

A registry that is not made first is made by the first link into it, and accepts artifacts of any type.
"""

from __future__ import annotations

from wandb_tl.local.artifacts import collections, versions
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import filters
from wandb_tl.local.records.filters import Kind
from wandb_tl.local.records.rows import CollectionRow, ProjectRow, SqlValue
from wandb_tl.local.records.transaction import Page, Transaction

PREFIX = "wandb-registry-"
OF_ENTITY = f"project.entity = ? AND substr(project.name, 1, {len(PREFIX)}) = '{PREFIX}'"

UPDATED = "coalesce(project.updated_at, project.created_at)"
REGISTRIES = Kind(
    "project",
    "registries",
    {key: f"project.{key}" for key in ("id", "name", "description")},
    {
        "created_at": "project.created_at",
        "createdAt": "project.created_at",
        "updated_at": UPDATED,
        "updatedAt": UPDATED,
    },
    {},
)


def is_registry(project: ProjectRow) -> bool:
    return project["name"].startswith(PREFIX)


# ---- lists -----------------------------------------------------------------------------------------------


def listed(
    db: Transaction, entity: str, text: str | None, order: str | None, first: int | None, after: str | None
) -> Page:
    """A page of the registries of an entity, by default newest first."""
    condition, values = filters.where(text, REGISTRIES)
    terms, bound = filters.order_by(order or "-created_at", REGISTRIES)
    query = f"SELECT * FROM project WHERE {OF_ENTITY} AND {condition} ORDER BY {terms}"
    return db.page(query, [entity, *values, *bound], first, after)


def portfolios(
    db: Transaction,
    entity: str,
    texts: tuple[str | None, str | None],
    order: str | None,
    first: int | None,
    after: str | None,
) -> Page:
    """A page of the portfolios in the registries of an entity, by default newest first.

    texts: the filters of the registries and of the portfolios.
    """
    condition, values = _both(*texts)
    terms, bound = filters.order_by(order or "-created_at", collections.COLLECTIONS)
    query = (
        "SELECT collection.* FROM collection JOIN project ON project.id = collection.project_id"
        f" WHERE {OF_ENTITY} AND collection.kind = '{collections.PORTFOLIO}' AND {condition} ORDER BY {terms}"
    )
    return db.page(query, [entity, *values, *bound], first, after)


def memberships(
    db: Transaction,
    entity: str,
    texts: tuple[str | None, str | None, str | None],
    order: str | None,
    first: int | None,
    after: str | None,
) -> Page:
    """A page of the links in the registries of an entity, by default those of the newest versions first.

    texts: the filters of the registries, of the portfolios and of the versions.
    """
    condition, values = _both(texts[0], texts[1])
    of_version, more = filters.where(texts[2], collections.VERSIONS)
    terms, bound = filters.order_by(order or "-created_at", collections.VERSIONS)
    query = (
        "SELECT membership.* FROM membership JOIN artifact ON artifact.id = membership.artifact_id"
        " JOIN collection ON collection.id = membership.collection_id"
        " JOIN project ON project.id = collection.project_id"
        f" WHERE {OF_ENTITY} AND collection.kind = '{collections.PORTFOLIO}' AND {condition} AND {of_version}"
        f" ORDER BY {terms}, membership.id"
    )
    return db.page(query, [entity, *values, *more, *bound], first, after)


def _both(registries: str | None, of_portfolios: str | None) -> tuple[str, list[SqlValue]]:
    """The condition of two filters, and its values."""
    first, values = filters.where(registries, REGISTRIES)
    second, more = filters.where(of_portfolios, collections.COLLECTIONS)
    return f"{first} AND {second}", [*values, *more]


# ---- changes ---------------------------------------------------------------------------------------------


def restrict(db: Transaction, project: ProjectRow, any_type: bool | None, types: list[str]) -> None:
    """Set whether a registry accepts all types of artifacts, and add types that it accepts.

    None changes nothing.
    """
    for name in types:
        collections.ensure_type(db, project["id"], name)
    if any_type is not None:
        db.update("project", project["id"], any_type=int(any_type))
    if types or any_type is not None:
        db.update("project", project["id"], updated_at=db.now)


def rename(db: Transaction, project: ProjectRow, name: str) -> None:
    """Raises RequestError for a name that is taken or is not a registry's."""
    if not name.startswith(PREFIX) or name == PREFIX:
        raise RequestError(f"{name} is not a valid name of a registry: it begins with {PREFIX}")
    if db.one("SELECT 1 FROM project WHERE entity = ? AND name = ?", project["entity"], name):
        raise RequestError(f"there is already a registry {name.removeprefix(PREFIX)}")
    db.update("project", project["id"], name=name, updated_at=db.now)


def delete(db: Transaction, project: ProjectRow) -> list[str]:
    """Delete a registry with its links and its reports; the versions stay where they were logged.

    Returns the ids of blobs whose files to delete after the commit. Raises RequestError for other projects,
    and for one to which runs were logged.
    """
    if not is_registry(project):
        raise RequestError(f"{project['name']} is not a registry; other projects cannot be deleted")
    if db.value("SELECT 1 FROM run WHERE project_id = ?", project["id"]):
        raise RequestError(f"{project['name']} has runs; delete them first")
    unused = []
    query = "SELECT * FROM collection WHERE project_id = ?"
    for collection in db.all(query, project["id"], row=CollectionRow):
        unused += versions.delete_collection(db, collection)
    db.run("DELETE FROM project WHERE id = ?", project["id"])
    return unused
