"""What the schema's own scalars take, and arguments that are JSON in a string."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphql import GraphQLError, GraphQLScalarType, GraphQLSchema

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.json_path import DEEPEST, JsonObject, json_object, whole


def bind(schema: GraphQLSchema) -> None:
    """Let the scalars of a schema check their values, which graphql-core otherwise takes as they come."""
    for name, parse in SCALARS.items():
        scalar = schema.type_map[name]
        assert isinstance(scalar, GraphQLScalarType)
        # The second is what newer releases of graphql-core call.
        for method in ("parse_value", "coerce_input_value"):
            setattr(scalar, method, parse)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise GraphQLError("JSONString takes a string")
    return value


def _integer(value: Any) -> int:
    number = None if isinstance(value, bool) else whole(value)
    if number is None or number != value:
        raise GraphQLError("Int64 takes a whole number of 64 bits")
    return number


SCALARS: dict[str, Callable[[Any], Any]] = {"JSONString": _string, "Int64": _integer, "Duration": _integer}


def argument(text: str, name: str) -> JsonObject:
    """The JSON object in an argument. Raises RequestError for any other text."""
    value = json_object(text)
    if value is None:
        raise RequestError(f"{name} must be the JSON of an object, at most {DEEPEST} levels deep")
    return value
