"""GraphQL documents that the schema allows, with arguments that it mostly does not."""

from __future__ import annotations

from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
)
from hypothesis import strategies as st

from .odd_values import NUMBERS, texts, values

# How deep the fields of a document lie in each other, and how many of a type are chosen.
DEPTH, FIELDS = 5, 5


@st.composite
def documents(
    draw: st.DrawFn, schema: GraphQLSchema, known: dict[str, list[Any]]
) -> tuple[str, dict[str, Any]]:
    """A document with one field at its top, and its variables. known: values by the names of arguments."""
    kind = draw(st.sampled_from(["query", "query", "mutation"]))
    top = schema.query_type if kind == "query" else schema.mutation_type
    assert top
    variables: dict[str, tuple[str, Any]] = {}
    fields = draw(selections(top, known, variables, DEPTH, most=1))
    declared = ", ".join(f"${name}: {kind}" for name, (kind, _) in variables.items())
    document = f"{kind} {f'({declared})' if declared else ''} {{ {fields} }}"
    return document, {name: value for name, (_, value) in variables.items()}


@st.composite
def selections(
    draw: st.DrawFn,
    kind: GraphQLObjectType | GraphQLInterfaceType,
    known: dict[str, list[Any]],
    variables: dict[str, tuple[str, Any]],
    depth: int,
    most: int = FIELDS,
) -> str:
    """Some fields of a type, with their arguments as variables and the fields of theirs."""
    chosen = []
    names = draw(st.lists(st.sampled_from(sorted(kind.fields)), min_size=1, max_size=most, unique=True))
    for name in names:
        field = kind.fields[name]
        arguments = []
        for argument, definition in field.args.items():
            required = isinstance(definition.type, GraphQLNonNull)
            if required or draw(st.booleans()):
                variable = f"v{len(variables)}"
                variables[variable] = (str(definition.type), draw(inputs(definition.type, argument, known)))
                arguments.append(f"{argument}: ${variable}")
        inner = get_named_type(field.type)
        below = "__typename"
        if isinstance(inner, (GraphQLObjectType, GraphQLInterfaceType)):
            if depth:
                below = draw(selections(inner, known, variables, depth - 1))
        elif not isinstance(inner, GraphQLUnionType):
            below = ""
        call = f"({', '.join(arguments)})" if arguments else ""
        chosen.append(f"{name}{call} {f'{{ {below} }}' if below else ''}")
    return " ".join(chosen)


@st.composite
def inputs(draw: st.DrawFn, kind: Any, name: str, known: dict[str, list[Any]]) -> Any:
    """A value for an argument or a field of an input: a known one, one of its type, or any."""
    if isinstance(kind, GraphQLNonNull):
        return draw(inputs(kind.of_type, name, known))
    if draw(st.integers(1, 12)) == 1:
        return draw(values)
    if name in known and not isinstance(kind, GraphQLList) and draw(st.integers(1, 4)) > 1:
        return draw(st.sampled_from(known[name]))
    if isinstance(kind, GraphQLList):
        return draw(st.lists(inputs(kind.of_type, name, known), max_size=2))
    if isinstance(kind, GraphQLInputObjectType):
        return {
            field: draw(inputs(definition.type, field, known))
            for field, definition in kind.fields.items()
            if isinstance(definition.type, GraphQLNonNull) or draw(st.booleans())
        }
    if isinstance(kind, GraphQLEnumType):
        return draw(st.sampled_from(sorted(kind.values)))
    if kind.name in ("Int", "Int64", "Duration"):
        return draw(st.one_of(st.sampled_from([0, 1, -1, 2, 2**31 - 1, -(2**31)]), st.sampled_from(NUMBERS)))
    if kind.name == "Float":
        return draw(st.sampled_from(NUMBERS))
    if kind.name == "Boolean":
        return draw(st.booleans())
    return draw(st.one_of(texts, st.sampled_from(["{}", "[]", "null", "{", '{"a": 1e400}', '"\\ud800"'])))
