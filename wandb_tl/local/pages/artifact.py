"""Artifacts: a project's collections, one collection's versions, one version's files and lineage."""

from __future__ import annotations

import json

from wandb_tl.local.artifacts import collections
from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.view import Answer, Asked, Page

FILES = 200


def listing(asked: Asked) -> Answer:
    """A project's collections by type."""
    project = asked.project()
    rows = asked.db.all(
        "SELECT collection.*, artifact_type.name AS type, count(membership.id) AS versions,"
        " sum(artifact.size) AS size, max(membership.created_at) AS last FROM collection"
        " JOIN artifact_type ON artifact_type.id = collection.type_id"
        " JOIN membership ON membership.collection_id = collection.id"
        " JOIN artifact ON artifact.id = membership.artifact_id"
        " WHERE collection.project_id = ? GROUP BY collection.id ORDER BY type, last DESC",
        project["id"],
    )
    return Page("artifacts.html", {"project": project, "collections": rows, "live": False})


def version(asked: Asked) -> Answer:
    """One version, or the latest one where the address names only the collection."""
    project = asked.project()
    name, alias = asked.names[4], asked.names[5] if len(asked.names) > 5 else "latest"
    collection = collections.named(asked.db, project, name)
    membership = collection and collections.member(asked.db, collection["id"], alias)
    if membership is None:
        raise RequestError(f"There is no artifact {name}:{alias} in this project.", 404)
    db, found = asked.db, asked.db.get("artifact", membership["artifact_id"])
    files = db.all(
        "SELECT path, manifest_entry.size, ref, blob_id FROM manifest_entry WHERE artifact_id = ?"
        " ORDER BY path LIMIT ?",
        found["id"],
        FILES,
    )
    for file in files:
        file["url"] = file["ref"] or asked.blobs.url("", "GET", file["blob_id"])
    versions = db.all(
        "SELECT membership.*, (SELECT group_concat(alias, ', ') FROM alias"
        " WHERE membership_id = membership.id) AS aliases"
        " FROM membership WHERE collection_id = ? ORDER BY version_index DESC",
        collection["id"],
    )
    people = (
        "SELECT run.name AS id, run.display_name AS name, project.entity, project.name AS project FROM run"
        " JOIN project ON project.id = run.project_id WHERE run.id"
    )
    users = f"{people} IN (SELECT run_id FROM run_artifact WHERE artifact_id = ? AND role = 'input')"
    return Page(
        "artifact.html",
        {
            "project": project,
            "collection": collection,
            "type": db.get("artifact_type", collection["type_id"])["name"],
            "membership": membership,
            "artifact": found,
            "metadata": json.loads(found["metadata"] or "{}"),
            "files": files,
            "versions": versions,
            "made_by": db.all(f"{people} = ?", found["created_by"]),
            "used_by": db.all(users, found["id"]),
            "links": db.all(
                "SELECT collection.name, version_index, artifact_type.name AS type, project.entity,"
                " project.name AS project FROM membership"
                " JOIN collection ON collection.id = membership.collection_id"
                " JOIN artifact_type ON artifact_type.id = collection.type_id"
                " JOIN project ON project.id = collection.project_id"
                " WHERE membership.artifact_id = ? AND membership.id != ? ORDER BY membership.id",
                found["id"],
                membership["id"],
            ),
            "live": False,
        },
    )
