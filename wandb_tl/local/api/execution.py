"""GraphQL: the schema files, bound to the resolvers, and the execution of documents.

Documents are executed as they are written, not dispatched by their operation names: the client uses one name
for several documents. A field without its own resolver reads the row's column of the same name in snake_case.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLEnumType,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    OperationType,
    build_schema,
    execute_sync,
    get_named_type,
    get_operation_ast,
    is_introspection_type,
    parse,
    validate,
)

from wandb_tl.local.api import limits, refusals, scalars
from wandb_tl.local.api.context import Context, Info, Resolver
from wandb_tl.local.api.resolvers import (
    artifacts,
    collections,
    files,
    manifests,
    projects,
    registries,
    runs,
    sweeps,
    viewer,
    views,
)
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError, one_line, why_not_stored
from wandb_tl.local.records.database import Database, Readers
from wandb_tl.local.records.json_path import storable
from wandb_tl.local.records.transaction import Transaction

log = logging.getLogger("wandb_tl.local")

# Parsed documents that are kept, and the length of the longest one: 30 MB at most.
KEPT_DOCUMENTS, KEPT_CHARACTERS = 128, 3000


# Where clients name their version.
AGENT = re.compile(r"(?:W&B Public Client |wandb-core/)([0-9]{1,4}(?:\.[0-9]{1,4}){1,3})")
CONFIG = re.compile(r'"cli_version": ?"([0-9]{1,4}(?:\.[0-9]{1,4}){1,3})')


class GraphQLBody(TypedDict, total=False):
    """The body of a request. The comments say what clients send; each value is checked where it is used."""

    query: Any  # str
    variables: Any  # an object, or null
    operationName: Any  # str, null or empty


Answer = dict[str, Any]


def _column(name: str) -> Resolver:
    column = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()

    def resolve(row: Any, _info: Info, **_arguments: object) -> Any:
        value = (row or {}).get(column)
        return value() if callable(value) else value

    return resolve


def _as_time(resolve: Callable[..., Any]) -> Resolver:
    """A resolver that returns ISO 8601, from one that returns Unix seconds."""

    def resolve_time(row: Any, info: Info) -> str | None:
        seconds = resolve(row, info)
        if seconds is None:
            return None
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    return resolve_time


def _counted(resolve: Resolver) -> Resolver:
    """The resolver, whose value is counted against what an answer may hold."""

    def resolve_counted(row: Any, info: Info, **arguments: object) -> object:
        value = resolve(row, info, **arguments)
        info.context.allowance.spend(value)
        return value

    return resolve_counted


def load_schema() -> GraphQLSchema:
    """The schema with every resolver bound. Raises KeyError for a resolver that is not in the schema."""
    subjects = sorted((Path(__file__).parent / "schema").glob("*.graphql"))
    schema = build_schema("\n".join(subject.read_text(encoding="utf-8") for subject in subjects))
    scalars.bind(schema)
    resolvers = _resolvers()
    object_types = {}
    # The types of introspection have resolvers and values of their own, which all schemas of a process share.
    kinds = [kind for kind in schema.type_map.values() if not is_introspection_type(kind)]
    for kind in kinds:
        if isinstance(kind, GraphQLObjectType):
            object_types[kind.name] = kind
        elif isinstance(kind, (GraphQLInterfaceType, GraphQLUnionType)):
            kind.resolve_type = lambda row, _info, _kind: row.get("kind", "Run")
        elif isinstance(kind, GraphQLEnumType):
            # Inputs and rows both hold the names.
            for name, value in kind.values.items():
                value.value = name
    for type_name, name in resolvers:
        if name not in object_types[type_name].fields:
            raise KeyError(f"{type_name}.{name}")
    for type_name, kind in object_types.items():
        for name, field in kind.fields.items():
            resolve = resolvers.get((type_name, name)) or _column(name)
            is_time = get_named_type(field.type) is schema.type_map["DateTime"]
            field.resolve = _counted(_as_time(resolve) if is_time else resolve)
    return schema


def _resolvers() -> dict[tuple[str, str], Resolver]:
    """(type, field) -> the resolver of that field."""
    resolvers = {}
    modules = (viewer, projects, runs, files, sweeps, artifacts, manifests, collections, registries, views)
    for module in modules:
        for type_name, fields in module.RESOLVERS.items():
            for name, resolver in fields.items():
                resolvers[type_name, name] = resolver
    return resolvers


class Graph:
    """Executes documents: queries on read-only connections, so that they do not hold up writers."""

    def __init__(self, database: Database, reading: Readers, blobs: Blobs) -> None:
        self.database, self.reading = database, reading
        self.blobs = blobs
        self.schema = load_schema()
        # Parsing and validation cost more than most executions, and clients send few different documents.
        self.kept = lru_cache(maxsize=KEPT_DOCUMENTS)(self._check)
        self.reported: set[str] = set()
        self.newer_reported = False

    def _check(self, text: str) -> tuple[DocumentNode | None, list[GraphQLError]]:
        """The parsed document and its errors; None for a document that cannot be parsed."""
        try:
            document = parse(text)
        except GraphQLError as error:
            return None, [error]
        limits.check(document)
        return document, validate(self.schema, document)

    def checked(self, text: str) -> tuple[DocumentNode | None, list[GraphQLError]]:
        """As _check, or what it returned before. Raises RequestError for a document beyond the limits."""
        limits.check_text(text)
        try:
            return self.kept(text) if len(text) <= KEPT_CHARACTERS else self._check(text)
        except RecursionError:
            raise RequestError("the query is nested too deeply") from None

    def answer(
        self, body: GraphQLBody, base_url: str, shared: bool = False, agent: str = ""
    ) -> tuple[int, Answer]:
        """Execute a document in one transaction; returns (HTTP status, response).

        A mutation with an error changes nothing. agent: the User-Agent of the client.
        """
        try:
            body = storable(body)
        except ValueError as problem:
            return 400, {"errors": [{"message": f"the request cannot be read: {problem}"}]}
        # Some of the client's documents come with an empty name.
        text, name, variables = (
            body.get("query"),
            body.get("operationName") or None,
            body.get("variables") or {},
        )
        if not isinstance(text, str):
            return 400, {"errors": [{"message": "the request has no GraphQL query"}]}
        if not isinstance(variables, dict) or not isinstance(name, str | None):
            message = "variables of a GraphQL request are an object, and operationName is a string"
            return 400, {"errors": [{"message": message}]}
        try:
            limits.check_lists(variables)
            document, errors = self.checked(text)
        except RequestError as refusal:
            return 200, {"errors": [{"message": str(refusal)}]}
        if document is None or errors:
            self._report(errors)
            why = refusals.reason(error.message for error in errors)
            if document:
                why = f"not supported here: {why}{self._newer(agent, variables)}"
            return 200, {"errors": [{"message": why}]}
        try:
            result = self._execute(document, name, variables, base_url, shared)
        except limits.TooLargeError as too_large:
            return 200, {"errors": [{"message": str(too_large)}]}
        if not result.errors:
            return 200, {"data": result.data}
        status = 200
        for error in result.errors:
            cause = error.original_error
            if isinstance(cause, RequestError):
                status = max(status, cause.status)
            elif cause is not None and (reason := why_not_stored(cause)):
                # The client repeats a request that has such a status.
                status = 503
                log.error("%s", reason)
            elif cause is not None and not isinstance(cause, GraphQLError):
                log.error("%s failed at %s", name, error.path, exc_info=cause)
        messages = [{"message": error.message, "path": error.path} for error in result.errors]
        return status, {"data": result.data, "errors": messages}

    def _execute(
        self, document: DocumentNode, name: str | None, variables: Any, base_url: str, shared: bool
    ) -> ExecutionResult:
        operation = get_operation_ast(document, name)
        is_mutation = operation is not None and operation.operation == OperationType.MUTATION
        unused_blobs: list[str] = []

        def execute(db: Transaction) -> ExecutionResult:
            unused_blobs.clear()
            context = Context(db, self.blobs, base_url, unused_blobs, shared)
            result = execute_sync(
                self.schema, document, context_value=context, variable_values=variables, operation_name=name
            )
            if not is_mutation:
                context.allowance.check_time()
            elif result.errors:
                raise _RollbackError(result)
            return result

        if not is_mutation:
            with self.reading.transaction(limits.ANSWER_SECONDS + 0.1) as db:
                return execute(db)
        try:
            result = self.database.repeat(execute)
        except _RollbackError as error:
            return error.result
        for blob_id in unused_blobs:
            self.blobs.delete(blob_id)
        return result

    def _newer(self, agent: str, variables: Any) -> str:
        """The end of a refusal for a client that is newer than those that this server knows; else empty."""
        version = client_version(agent, variables)
        known = viewer.CLI_VERSIONS["max_cli_version"]
        if version is None or _numbers(version) <= _numbers(known):
            return ""
        words = f"wandb {version} is newer than {known}, the newest that this server knows"
        if not self.newer_reported:
            self.newer_reported = True
            log.warning("%s: update wandb-tl, or install wandb %s", words, known)
        return f" ({words})"

    def _report(self, errors: list[GraphQLError]) -> None:
        for message in {one_line(error.message) for error in errors} - self.reported:
            if len(self.reported) < 1000:
                self.reported.add(message)
                log.warning("a client sent a document that this server does not support: %s", message)


def client_version(agent: str, variables: Any) -> str | None:
    """The version of the wandb client that sent a document, by its User-Agent or the config of its run."""
    config = variables.get("config") if isinstance(variables, dict) else None
    texts = [(AGENT, agent), (CONFIG, config if isinstance(config, str) else "")]
    return next((match[1] for pattern, text in texts if (match := pattern.search(text))), None)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


class _RollbackError(Exception):
    """Rolls the transaction back after an error of a mutation."""

    def __init__(self, result: ExecutionResult) -> None:
        self.result = result
