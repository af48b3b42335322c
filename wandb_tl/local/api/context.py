"""What resolvers get besides their row, and the types of what they return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphql import GraphQLResolveInfo

from wandb_tl.local.api.limits import Allowance
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.records.transaction import Transaction


@dataclass
class Context:
    """`info.context` of a resolver.

    `base_url` is the server's address as this client wrote it, so that the addresses in answers work for the
    client. `unused_blobs` collects the ids of blobs whose files to delete after the commit. `shared`: the
    client is one of several processes that write a run together.
    """

    db: Transaction
    blobs: Blobs
    base_url: str
    unused_blobs: list[str]
    shared: bool = False
    allowance: Allowance = field(default_factory=Allowance)


# Older releases of graphql-core have no type for the context.
if TYPE_CHECKING:
    Info = GraphQLResolveInfo[Context]
else:
    Info = GraphQLResolveInfo

# A GraphQL object that is not a row: names of fields in snake_case -> values, or functions that return them.
Payload = dict[str, object]

Resolver = Callable[..., object]
# Type -> field -> function(row, info, **arguments).
Resolvers = dict[str, dict[str, Resolver]]
