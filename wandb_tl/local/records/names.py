"""How rows are named: the default entity, opaque ids, and projects and runs by their names."""

from __future__ import annotations

import base64
import binascii
import getpass
import re

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.rows import ProjectRow, RunRow
from wandb_tl.local.records.transaction import Transaction, existing

DEFAULT_ENTITY = "local"
# A number that SQLite can hold.
ROW_ID = re.compile("[0-9]{1,18}")


def user_name() -> str:
    """The only user: the account that the server runs under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return DEFAULT_ENTITY


def encode_id(kind: str, row_id: int) -> str:
    """The opaque id of a row as clients see it: base64 of "Kind:7"."""
    return base64.b64encode(f"{kind}:{row_id}".encode()).decode()


def decode_id(kind: str, text: str) -> int | None:
    """The row id inside an opaque id, or None if the string is not an id of this kind."""
    try:
        prefix, _, number = base64.b64decode(text, validate=True).decode().partition(":")
        return int(number) if prefix == kind and ROW_ID.fullmatch(number) else None
    except (binascii.Error, ValueError):
        return None


def project_named(db: Transaction, entity: str | None, name: str | None) -> ProjectRow | None:
    """The project of this name, None if there is none. An empty entity is the default one."""
    return db.one(
        "SELECT * FROM project WHERE entity = ? AND name = ?",
        entity or DEFAULT_ENTITY,
        name or "uncategorized",
        row=ProjectRow,
    )


def ensure_project(db: Transaction, entity: str | None, name: str | None) -> ProjectRow:
    """The project of this name, created if there is none. An empty entity is the default one.

    Raises RequestError for `.` and `..`, which clients cannot write into an address.
    """
    entity, name = entity or DEFAULT_ENTITY, name or "uncategorized"
    if {entity, name} & {".", ".."}:
        raise RequestError(
            f"{entity}/{name} is not a valid project name: neither part can be a single or a double dot"
        )
    db.run(
        "INSERT INTO project (entity, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        entity,
        name,
        db.now,
    )
    return existing(project_named(db, entity, name))


def run_named(db: Transaction, project: ProjectRow | None, name: str | None) -> RunRow | None:
    """The run that clients know by this name (its id in an address), None if there is none."""
    if project is None:
        return None
    return db.one("SELECT * FROM run WHERE project_id = ? AND name = ?", project["id"], name, row=RunRow)
