"""Artifacts: a project's collections, one collection's versions, one version's files and lineage."""

from __future__ import annotations

from wandb_tl.local.artifacts import collections
from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import table_page
from wandb_tl.local.pages.view import Answer, Page, PageRequest
from wandb_tl.local.records.json_path import json_object
from wandb_tl.local.records.names import project_named
from wandb_tl.local.records.rows import ManifestEntryRow, Row
from wandb_tl.local.records.transaction import existing

FILES = 200

RUNS = (
    "SELECT run.name AS id, run.display_name AS name, project.entity, project.name AS project FROM run"
    " JOIN project ON project.id = run.project_id WHERE run.id"
)
LINKS = (
    "SELECT collection.name, version_index, artifact_type.name AS type, project.entity,"
    " project.name AS project FROM membership"
    " JOIN collection ON collection.id = membership.collection_id"
    " JOIN artifact_type ON artifact_type.id = collection.type_id"
    " JOIN project ON project.id = collection.project_id"
    " WHERE membership.artifact_id = ? AND membership.id != ? ORDER BY membership.id"
)


class ListedFile(ManifestEntryRow):
    """A file and its address, which for a reference is outside of the server."""

    url: str


def listing(request: PageRequest) -> Answer:
    """A project's collections by type."""
    project = request.project()
    rows = request.db.all(
        "SELECT collection.*, artifact_type.name AS type, count(membership.id) AS versions,"
        " sum(artifact.size) AS size, max(membership.created_at) AS last FROM collection"
        " JOIN artifact_type ON artifact_type.id = collection.type_id"
        " JOIN membership ON membership.collection_id = collection.id"
        " JOIN artifact ON artifact.id = membership.artifact_id"
        " WHERE collection.project_id = ? GROUP BY collection.id ORDER BY type, last DESC",
        project["id"],
    )
    return Page("artifacts.html", {"project": project, "collections": rows, "live": False})


def linked(request: PageRequest) -> Answer:
    """The address of a version to which a registry links, from the address that the client prints for it.

    That is orgs/ORGANIZATION/registry/NAME, or ENTITY/registry/model, with the collection and the version in
    its query.
    """
    path = request.query["selectionPath"].rsplit("/", 2)
    if len(path) != 3:
        raise RequestError("There is no page at this address.", 404)
    entity, project_name, name = path
    project = project_named(request.db, entity, project_name)
    collection = collections.named(request.db, project, name) if project else None
    if collection is None:
        raise RequestError("There is no such collection here.", 404)
    kind = collections.type_of(request.db, collection)
    number = request.query.get("version", "latest")
    return request.path(entity, project_name, "artifacts", kind, name, number)


def version(request: PageRequest) -> Answer:
    """One version, the latest one if the address names only the collection; with ?table= a Table in it."""
    db, project = request.db, request.project()
    name, alias = request.names[4], request.names[5] if len(request.names) > 5 else "latest"
    collection = collections.named(db, project, name)
    membership = collections.member(db, collection["id"], alias) if collection else None
    if collection is None or membership is None:
        raise RequestError(f"There is no artifact {name}:{alias} in this project.", 404)
    artifact = existing(db.get("artifact", membership["artifact_id"]))
    if place := request.query.get("table"):
        return table_page.of_artifact(request, request.blobs, artifact["id"], place)
    users = f"{RUNS} IN (SELECT run_id FROM run_artifact WHERE artifact_id = ? AND role = 'input')"
    return Page(
        "artifact.html",
        {
            "project": project,
            "collection": collection,
            "type": collections.type_of(db, collection),
            "membership": membership,
            "artifact": artifact,
            "metadata": json_object(artifact["metadata"] or "{}") or {},
            "files": files(request, artifact["id"]),
            "versions": versions(request, collection["id"]),
            "made_by": db.all(f"{RUNS} = ?", artifact["created_by"]),
            "used_by": db.all(users, artifact["id"]),
            "links": db.all(LINKS, artifact["id"], membership["id"]),
            "live": False,
        },
    )


def files(request: PageRequest, artifact_id: int) -> list[ListedFile]:
    """The first FILES files of a version."""
    query = "SELECT * FROM manifest_entry WHERE artifact_id = ? ORDER BY path LIMIT ?"
    listed: list[ListedFile] = []
    for entry in request.db.all(query, artifact_id, FILES, row=ManifestEntryRow):
        url = entry["ref"] or request.file(existing(entry["blob_id"]))
        listed.append({**entry, "url": url})
    return listed


def versions(request: PageRequest, collection_id: int) -> list[Row]:
    """The versions of a collection with their aliases, newest first."""
    return request.db.all(
        "SELECT membership.*, (SELECT group_concat(alias, ', ') FROM alias"
        " WHERE membership_id = membership.id) AS aliases"
        " FROM membership WHERE collection_id = ? ORDER BY version_index DESC",
        collection_id,
    )
