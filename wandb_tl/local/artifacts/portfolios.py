"""Links: versions as members of portfolios, in whatever project and name space these are."""

from __future__ import annotations

from wandb_tl.local.artifacts import collections
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.names import decode_id, ensure_project


def link(db: Transaction, artifact: Row, wanted: Row) -> Row:
    """The membership of a version in the portfolio that a LinkArtifactInput names, made if there is none.

    It takes the aliases given and becomes the portfolio's latest. RequestError if the name belongs to a
    sequence or to a collection of another type.
    """
    if artifact["state"] != "COMMITTED":
        raise RequestError("the version is not complete yet; link it when it is logged")
    type_name = collections.type_of(db, db.get("collection", artifact["sequence_id"]))
    known = wanted.get("artifactPortfolioID")
    if known:
        found = db.get("collection", decode_id("ArtifactCollection", known))
        if found is None:
            raise RequestError("there is no such collection to link to; it may have been deleted")
        project, name = db.get("project", found["project_id"]), found["name"]
    else:
        project = ensure_project(db, wanted.get("entityName"), wanted.get("projectName"))
        name = wanted.get("artifactPortfolioName") or ""
    portfolio = collections.ensure(db, project, collections.PORTFOLIO, type_name, name)
    found = collections.join(db, portfolio, artifact)
    names = [item["alias"] for item in wanted.get("aliases") or []]
    collections.add_aliases(db, artifact, portfolio, [*names, "latest"])
    return found


def unlink(db: Transaction, artifact: Row, portfolio: Row | None) -> None:
    """Take a version out of a portfolio. Raises RequestError where it is not linked there."""
    found = portfolio and collections.membership(db, portfolio, artifact)
    if not found or portfolio["kind"] != collections.PORTFOLIO:
        raise RequestError("the version is not linked to that collection")
    collections.leave(db, portfolio["id"], artifact)
