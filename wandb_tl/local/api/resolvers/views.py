"""Views: reports and saved workspaces. What they show is the client's own affair, kept as it was sent."""

from __future__ import annotations

from typing import Any

from graphql import GraphQLResolveInfo

from wandb_tl.local.api.resolvers import projects, viewer
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.json_path import json_object
from wandb_tl.local.records.names import decode_id, encode_id, ensure_project, project_named

TYPES = ("runs", "runs/draft", "project-view")


def view(_row: Any, info: GraphQLResolveInfo, id: str) -> Row | None:
    return info.context.db.get("saved_view", decode_id("View", id))


def by_id(db: Transaction, view_id: str) -> Row:
    found = db.get("saved_view", decode_id("View", view_id))
    if found is None:
        raise RequestError("there is no such view; it may have been deleted")
    return found


def all_views(
    row: Row,
    info: GraphQLResolveInfo,
    viewType: str | None = None,
    viewName: str | None = None,
    first: int | None = None,
    after: str | None = None,
    **_: Any,
) -> Row:
    query = (
        "SELECT * FROM saved_view WHERE project_id = ?1 AND (?2 IS NULL OR type = ?2)"
        " AND (?3 IS NULL OR name = ?3) ORDER BY id DESC"
    )
    return info.context.db.page(query, [row["id"], viewType, viewName], first, after)


def upsert_view(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    check(input)
    given = {
        "type": input.get("type"),
        "name": input.get("name"),
        "display_name": input.get("displayName"),
        "description": input.get("description"),
        "spec": input.get("spec"),
    }
    given = {column: value for column, value in given.items() if value is not None}
    found = by_id(db, input["id"]) if input.get("id") else _named(db, input)
    if found:
        _keep_apart(db, found, found | given)
        db.update("saved_view", found["id"], **given, updated_at=db.now)
        return {"view": db.get("saved_view", found["id"]), "inserted": False}
    if not given.get("type") or not given.get("name") or "spec" not in given:
        raise RequestError("a new view needs a type, a name and a spec")
    project = ensure_project(db, input.get("entityName"), input.get("projectName"))
    texts = {"display_name": "", "description": ""} | given
    times = {"created_at": db.now, "updated_at": db.now}
    made = db.insert("saved_view", project_id=project["id"], **texts, **times)
    return {"view": db.get("saved_view", made), "inserted": True}


def check(input: Row) -> None:
    """Refuse what is no view of a kind that this server knows."""
    kind, spec = input.get("type"), input.get("spec")
    if kind is not None and kind not in TYPES:
        raise RequestError(f"there are no views of type {kind} here, only of {', '.join(TYPES)}")
    if spec is not None and json_object(spec) is None:
        raise RequestError("the spec of a view is the JSON text of an object; this is none")


def _named(db: Transaction, input: Row) -> Row | None:
    project = project_named(db, input.get("entityName"), input.get("projectName"))
    if project is None:
        return None
    query = "SELECT * FROM saved_view WHERE project_id = ? AND type = ? AND name = ?"
    return db.one(query, project["id"], input.get("type"), input.get("name"))


def _keep_apart(db: Transaction, found: Row, changed: Row) -> None:
    query = "SELECT id FROM saved_view WHERE project_id = ? AND type = ? AND name = ? AND id != ?"
    if db.one(query, found["project_id"], changed["type"], changed["name"], found["id"]):
        raise RequestError(f"the project has another view named {changed['name']}")


def delete_view(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    found = by_id(info.context.db, input["id"])
    info.context.db.run("DELETE FROM saved_view WHERE id = ?", found["id"])
    return {"success": True}


RESOLVERS = {
    "Query": {"view": view},
    "Project": {"allViews": all_views},
    "Mutation": {"upsertView": upsert_view, "deleteView": delete_view},
    "View": {
        "id": lambda row, _: encode_id("View", row["id"]),
        "project": projects.of_row,
        "user": viewer.user,
    },
}
