"""Projects: namespaces that are created when something is written to them."""

from __future__ import annotations

from wandb_tl.local.api.context import Info, Payload, Resolvers
from wandb_tl.local.api.inputs import UpsertModelInput
from wandb_tl.local.api.resolvers import viewer
from wandb_tl.local.artifacts import registries
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.names import DEFAULT_ENTITY, encode_id, ensure_project, project_named
from wandb_tl.local.records.rows import CollectionRow, ProjectRow, RunRow, SweepRow, ViewRow
from wandb_tl.local.records.transaction import Page, existing


def project(
    _row: object, info: Info, name: str | None = None, entityName: str | None = None
) -> ProjectRow | None:
    return project_named(info.context.db, entityName, name)


def models(
    _row: object,
    info: Info,
    entityName: str | None = None,
    after: str | None = None,
    first: int | None = None,
) -> Page:
    query = "SELECT * FROM project WHERE entity = ? ORDER BY id DESC"
    return info.context.db.page(query, [entityName or DEFAULT_ENTITY], first, after)


def upsert_model(_row: object, info: Info, input: UpsertModelInput) -> Payload:
    db = info.context.db
    existed = project_named(db, input.get("entityName"), input.get("name"))
    project = ensure_project(db, input.get("entityName"), input.get("name"))
    if input.get("access") == "RESTRICTED":
        raise RequestError("this server has one user, who sees every registry: it cannot be restricted")
    if input.get("description") is not None:
        db.update("project", project["id"], description=input["description"], updated_at=db.now)
    if registries.is_registry(project):
        types = [item["name"] for item in input.get("artifactTypes") or []]
        registries.restrict(db, project, input.get("allowAllArtifactTypesInRegistry"), types)
    project = existing(db.get("project", project["id"]))
    return {"project": project, "model": project, "inserted": existed is None}


def of_row(row: RunRow | SweepRow | CollectionRow | ViewRow, info: Info) -> ProjectRow:
    """The project that a run, a sweep, a collection or a view belongs to."""
    return existing(info.context.db.get("project", row["project_id"]))


RESOLVERS: Resolvers = {
    "Query": {"project": project, "model": project, "models": models},
    "Mutation": {"upsertModel": upsert_model},
    "Project": {
        "id": lambda row, _: encode_id("Project", row["id"]),
        "internalId": lambda row, _: encode_id("ProjectInternalId", row["id"]),
        "entityName": lambda row, _: row["entity"],
        "entity": lambda row, info: viewer.entity(row, info, row["entity"]),
        "access": lambda *_: "PRIVATE",
        "isBenchmark": lambda *_: False,
        "readOnly": lambda *_: False,
        "user": viewer.user,
    },
}
