"""GraphQL: the schema files, bound to the resolvers.

Documents are executed as they are written, never dispatched by their operation names: the client uses one
name for several documents. A field without a resolver of its own reads the row's column of the same name in
snake_case.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLEnumType,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    GraphQLUnionType,
    OperationType,
    build_schema,
    execute_sync,
    get_named_type,
    get_operation_ast,
    parse,
    validate,
)

from wandb_tl.local.api.resolvers import (
    artifacts,
    collections,
    files,
    manifests,
    projects,
    runs,
    sweeps,
    viewer,
    views,
)
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Database, Transaction

log = logging.getLogger("wandb_tl.local")


@dataclass
class Request:
    """What a resolver may need besides its row: info.context.

    `base_url` is the server's address as this client wrote it, so that the addresses handed to it work for
    it. `dead_blobs` are the files to delete once the transaction is through. `shared`: the client is one of
    several processes that write a run together.
    """

    db: Transaction
    blobs: Blobs
    base_url: str
    dead_blobs: list[str]
    shared: bool = False


def _column(name: str) -> Callable[[Any, GraphQLResolveInfo], Any]:
    column = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()

    def resolve(row: Any, _info: GraphQLResolveInfo, **_arguments: Any) -> Any:
        value = (row or {}).get(column)
        return value() if callable(value) else value

    return resolve


def _as_time(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """A resolver of Unix seconds, made to answer in ISO 8601."""

    def resolve_time(row: Any, info: GraphQLResolveInfo) -> str | None:
        seconds = resolve(row, info)
        if seconds is None:
            return None
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    return resolve_time


def load_schema() -> GraphQLSchema:
    """The schema with every resolver bound. Raises KeyError for a resolver that the schema does not know."""
    subjects = sorted((Path(__file__).parent / "schema").glob("*.graphql"))
    schema = build_schema("\n".join(subject.read_text(encoding="utf-8") for subject in subjects))
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__"):
            for name, field in kind.fields.items():
                field.resolve = _column(name)
        elif isinstance(kind, (GraphQLInterfaceType, GraphQLUnionType)):
            kind.resolve_type = lambda row, _info, _kind: row.get("kind", "Run")
        elif isinstance(kind, GraphQLEnumType):
            # Inputs and rows both hold the names.
            for name, value in kind.values.items():
                value.value = name
    for module in (viewer, projects, runs, files, sweeps, artifacts, manifests, collections, views):
        for type_name, fields in module.RESOLVERS.items():
            for name, resolver in fields.items():
                schema.type_map[type_name].fields[name].resolve = resolver
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__"):
            for field in kind.fields.values():
                if get_named_type(field.type) is schema.type_map["DateTime"]:
                    field.resolve = _as_time(field.resolve)
    return schema


class Graph:
    """Executes documents: queries on a connection that only reads, so that they hold up no writer."""

    def __init__(self, database: Database, reading: Database, blobs: Blobs) -> None:
        self.database, self.reading = database, reading
        self.blobs = blobs
        self.schema = load_schema()
        # Parsing and validating cost more than most executions, and clients send few different documents.
        self.checked = lru_cache(maxsize=512)(self._check)
        self.reported: set[str] = set()

    def _check(self, text: str) -> tuple[DocumentNode | None, list[GraphQLError]]:
        try:
            document = parse(text)
        except GraphQLError as error:
            return None, [error]
        return document, validate(self.schema, document)

    def answer(self, body: dict[str, Any], base_url: str, shared: bool = False) -> tuple[int, dict[str, Any]]:
        """Execute {query, variables, operationName} in one transaction; returns (HTTP status, response).

        A mutation with an error changes nothing.
        """
        # Some of the client's documents come with an empty name.
        text, name = body.get("query"), body.get("operationName") or None
        if not isinstance(text, str):
            return 400, {"errors": [{"message": "the request holds no GraphQL query"}]}
        document, errors = self.checked(text)
        if errors:
            self._report(errors)
            what = "not supported here: " if document else ""
            return 200, {"errors": [{"message": what + error.message} for error in errors]}
        operation = get_operation_ast(document, name)
        changes = operation is not None and operation.operation == OperationType.MUTATION
        dead_blobs: list[str] = []
        result = None
        try:
            with (self.database if changes else self.reading).transaction() as db:
                result = execute_sync(
                    self.schema,
                    document,
                    context_value=Request(db, self.blobs, base_url, dead_blobs, shared),
                    variable_values=body.get("variables") or {},
                    operation_name=name,
                )
                if result.errors and changes:
                    raise _Undo
        except _Undo:
            dead_blobs.clear()
        for blob_id in dead_blobs:
            self.blobs.delete(blob_id)
        status, response = 200, {"data": result.data}
        if result.errors:
            response["errors"] = [{"message": error.message, "path": error.path} for error in result.errors]
            for error in result.errors:
                cause = error.original_error
                if isinstance(cause, RequestError):
                    status = max(status, cause.status)
                elif cause is not None:
                    log.error("%s failed at %s", name, error.path, exc_info=cause)
        return status, response

    def _report(self, errors: list[GraphQLError]) -> None:
        for message in {error.message for error in errors} - self.reported:
            if len(self.reported) < 1000:
                self.reported.add(message)
                log.warning("a client asked for something that this server does not have: %s", message)


class _Undo(Exception):
    """Rolls the transaction back after a mutation's error."""
