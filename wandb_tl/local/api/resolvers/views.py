"""Views: reports and saved workspaces. Their contents are stored as the client sent them."""

from __future__ import annotations

from wandb_tl.local.api.context import Info, Payload, Resolvers
from wandb_tl.local.api.inputs import IdInput, UpsertViewInput
from wandb_tl.local.api.resolvers import projects, viewer
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.json_path import json_object
from wandb_tl.local.records.names import decode_id, encode_id, ensure_project, project_named
from wandb_tl.local.records.rows import ProjectRow, ViewRow
from wandb_tl.local.records.transaction import Page, Transaction

TYPES = ("runs", "runs/draft", "project-view")


def view(_row: object, info: Info, id: str) -> ViewRow | None:
    return info.context.db.get("saved_view", decode_id("View", id))


def by_id(db: Transaction, view_id: str) -> ViewRow:
    view = db.get("saved_view", decode_id("View", view_id))
    if view is None:
        raise RequestError("there is no such view; it may have been deleted")
    return view


def all_views(
    row: ProjectRow,
    info: Info,
    viewType: str | None = None,
    viewName: str | None = None,
    first: int | None = None,
    after: str | None = None,
    **_: object,
) -> Page:
    query = (
        "SELECT * FROM saved_view WHERE project_id = ?1 AND (?2 IS NULL OR type = ?2)"
        " AND (?3 IS NULL OR name = ?3) ORDER BY id DESC"
    )
    return info.context.db.page(query, [row["id"], viewType, viewName], first, after)


def upsert_view(_row: object, info: Info, input: UpsertViewInput) -> Payload:
    db = info.context.db
    check(input)
    fields = {
        "type": input.get("type"),
        "name": input.get("name"),
        "display_name": input.get("displayName"),
        "description": input.get("description"),
        "spec": input.get("spec"),
    }
    columns = {column: value for column, value in fields.items() if value is not None}
    view_id = input.get("id")
    view = by_id(db, view_id) if view_id else _named(db, input)
    if view:
        _check_name_is_free(db, view, columns.get("type", view["type"]), columns.get("name", view["name"]))
        db.update("saved_view", view["id"], **columns, updated_at=db.now)
        return {"view": db.get("saved_view", view["id"]), "inserted": False}
    if not columns.get("type") or not columns.get("name") or "spec" not in columns:
        raise RequestError("a new view needs a type, a name and a spec")
    project = ensure_project(db, input.get("entityName"), input.get("projectName"))
    columns = {"display_name": "", "description": ""} | columns
    times = {"created_at": db.now, "updated_at": db.now}
    new = db.insert("saved_view", project_id=project["id"], **columns, **times)
    return {"view": db.get("saved_view", new), "inserted": True}


def check(input: UpsertViewInput) -> None:
    """Raises RequestError for a type of view that this server does not support, and for an invalid spec."""
    kind, spec = input.get("type"), input.get("spec")
    if kind is not None and kind not in TYPES:
        raise RequestError(f"there are no views of type {kind} here, only of {', '.join(TYPES)}")
    if spec is not None and json_object(spec) is None:
        raise RequestError("the spec of a view is not a valid JSON object")


def _named(db: Transaction, input: UpsertViewInput) -> ViewRow | None:
    project = project_named(db, input.get("entityName"), input.get("projectName"))
    if project is None:
        return None
    query = "SELECT * FROM saved_view WHERE project_id = ? AND type = ? AND name = ?"
    return db.one(query, project["id"], input.get("type"), input.get("name"), row=ViewRow)


def _check_name_is_free(db: Transaction, view: ViewRow, kind: str, name: str) -> None:
    query = "SELECT id FROM saved_view WHERE project_id = ? AND type = ? AND name = ? AND id != ?"
    if db.one(query, view["project_id"], kind, name, view["id"]):
        raise RequestError(f"the project has another view named {name}")


def delete_view(_row: object, info: Info, input: IdInput) -> Payload:
    view = by_id(info.context.db, input["id"])
    info.context.db.run("DELETE FROM saved_view WHERE id = ?", view["id"])
    return {"success": True}


RESOLVERS: Resolvers = {
    "Query": {"view": view},
    "Project": {"allViews": all_views},
    "Mutation": {"upsertView": upsert_view, "deleteView": delete_view},
    "View": {
        "id": lambda row, _: encode_id("View", row["id"]),
        "project": projects.of_row,
        "user": viewer.user,
    },
}
