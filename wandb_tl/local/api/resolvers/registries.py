"""Registries, which wandb.Api() lists, makes, changes and deletes."""

from __future__ import annotations

from wandb_tl.local.api.context import Info, Payload, Resolvers
from wandb_tl.local.api.inputs import IdInput, RenameProjectInput
from wandb_tl.local.artifacts import registries
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.names import decode_id, project_named
from wandb_tl.local.records.rows import ProjectRow
from wandb_tl.local.records.transaction import Page, existing


def project(row: Payload, info: Info, name: str | None = None) -> ProjectRow | None:
    return project_named(info.context.db, str(row["name"]), name)


def listed(
    row: Payload,
    info: Info,
    filters: str | None = None,
    order: str | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Page:
    return registries.listed(info.context.db, str(row["name"]), filters, order, first, after)


def portfolios(
    row: Payload,
    info: Info,
    projectFilters: str | None = None,
    filters: str | None = None,
    order: str | None = None,
    first: int | None = None,
    after: str | None = None,
    **_: object,
) -> Page:
    texts = (projectFilters, filters)
    return registries.portfolios(info.context.db, str(row["name"]), texts, order, first, after)


def memberships(
    row: Payload,
    info: Info,
    projectFilters: str | None = None,
    collectionFilters: str | None = None,
    filters: str | None = None,
    order: str | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Page:
    texts = (projectFilters, collectionFilters, filters)
    return registries.memberships(info.context.db, str(row["name"]), texts, order, first, after)


def rename_project(_row: object, info: Info, input: RenameProjectInput) -> Payload:
    db, name = info.context.db, input["oldProjectName"]
    named = project_named(db, input["entityName"], name)
    if named is None or not registries.is_registry(named):
        raise RequestError(f"there is no registry {name}; other projects cannot be renamed")
    registries.rename(db, named, input["newProjectName"])
    return {"project": existing(db.get("project", named["id"])), "inserted": False}


def delete_model(_row: object, info: Info, input: IdInput) -> Payload:
    registry = info.context.db.get("project", decode_id("Project", input["id"]))
    if registry is None:
        raise RequestError("there is no such registry; it may have been deleted")
    info.context.unused_blobs.extend(registries.delete(info.context.db, registry))
    return {"success": True}


RESOLVERS: Resolvers = {
    "Entity": {
        "project": project,
        "projects": listed,
        "artifactCollections": portfolios,
        "artifactMemberships": memberships,
    },
    # With ClickHouse, W&B searches versions of registries by more keys.
    "Organization": {"advancedRegistryFeatures": lambda *_: {"advanced_search": False}},
    "Project": {"allowAllArtifactTypesInRegistry": lambda row, _: bool(row["any_type"])},
    "Mutation": {"renameProject": rename_project, "deleteModel": delete_model},
}
