"""Projects: name spaces that come into being when something is written to them."""

from __future__ import annotations

from typing import Any

from graphql import GraphQLResolveInfo

from wandb_tl.local.api.resolvers import viewer
from wandb_tl.local.records.database import Row
from wandb_tl.local.records.names import DEFAULT_ENTITY, encode_id, ensure_project, project_named


def project(
    _row: Any, info: GraphQLResolveInfo, name: str | None = None, entityName: str | None = None
) -> Row | None:
    return project_named(info.context.db, entityName, name)


def models(
    _row: Any,
    info: GraphQLResolveInfo,
    entityName: str | None = None,
    after: str | None = None,
    first: int | None = None,
) -> Row:
    query = "SELECT * FROM project WHERE entity = ? ORDER BY id DESC"
    return info.context.db.page(query, [entityName or DEFAULT_ENTITY], first, after)


def upsert_model(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    existed = project_named(db, input.get("entityName"), input.get("name"))
    found = ensure_project(db, input.get("entityName"), input.get("name"))
    if input.get("description") is not None:
        db.update("project", found["id"], description=input["description"])
        found = db.get("project", found["id"])
    return {"project": found, "model": found, "inserted": existed is None}


def of_row(row: Row, info: GraphQLResolveInfo) -> Row:
    """The project that a run, a sweep or a collection belongs to."""
    return info.context.db.get("project", row["project_id"])


RESOLVERS = {
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
