"""Links: versions as members of portfolios, which may be in another project or entity."""

from __future__ import annotations

from wandb_tl.local.artifacts import collections
from wandb_tl.local.artifacts.inputs import LinkArtifactInput
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.names import decode_id, ensure_project
from wandb_tl.local.records.rows import ArtifactRow, CollectionRow, MembershipRow
from wandb_tl.local.records.transaction import Transaction, existing


def link(db: Transaction, artifact: ArtifactRow, input: LinkArtifactInput) -> MembershipRow:
    """The membership of a version in the portfolio that the input names, created if there is none.

    The version gets the input's aliases and becomes the portfolio's latest. Raises RequestError if the name
    belongs to a sequence or to a collection of another type.
    """
    if artifact["state"] != "COMMITTED":
        raise RequestError("the version is not complete yet; link it after it is logged")
    type_name = collections.type_of(db, collections.sequence_of(db, artifact))
    portfolio_id = input.get("artifactPortfolioID")
    if portfolio_id:
        collection = db.get("collection", decode_id("ArtifactCollection", portfolio_id))
        if collection is None:
            raise RequestError("there is no such collection to link to; it may have been deleted")
        project, name = existing(db.get("project", collection["project_id"])), collection["name"]
    else:
        project = ensure_project(db, input.get("entityName"), input.get("projectName"))
        name = input.get("artifactPortfolioName") or ""
    portfolio = collections.ensure(db, project, collections.PORTFOLIO, type_name, name)
    membership = collections.join(db, portfolio, artifact)
    names = [item["alias"] for item in input.get("aliases") or []]
    collections.add_aliases(db, artifact, portfolio, [*names, "latest"])
    return membership


def unlink(db: Transaction, artifact: ArtifactRow, portfolio: CollectionRow | None) -> None:
    """Remove a version from a portfolio. Raises RequestError if it is not linked there."""
    if (
        portfolio is None
        or portfolio["kind"] != collections.PORTFOLIO
        or collections.membership(db, portfolio, artifact) is None
    ):
        raise RequestError("the version is not linked to that collection")
    collections.leave(db, portfolio["id"], artifact)
