"""What a GraphQL document may ask for: limits on its text, on its fields, and on its answer.

A document of a few lines can ask for millions of fields, by fragments that use one another and by names given
to the same field. The documents of the wandb client have up to 5,000 characters and 200 fields.
"""

from __future__ import annotations

import time

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from wandb_tl.local.errors import RequestError

MOST_CHARACTERS = 20_000
# Of a document, with those of a fragment counted wherever it is used; and how deeply they are nested.
MOST_FIELDS, DEEPEST = 1000, 50
# Of a list in the variables, such as names of files. wandb-core asks for up to 2,000 addresses at once.
MOST_ITEMS = 100_000
# Of an answer. The client repeats a query that takes longer than 20 s.
ANSWER_FIELDS, ANSWER_CHARACTERS, ANSWER_SECONDS = 1_000_000, 64 * 2**20, 20.0
# Fields between two looks at the clock.
CLOCK_FIELDS = 100


def check_text(text: str) -> None:
    """Raises RequestError for a document that is too long to be parsed."""
    if len(text) > MOST_CHARACTERS:
        raise RequestError(f"a query can have {MOST_CHARACTERS:,} characters, not {len(text):,}")


def check_lists(value: object, name: str = "variables") -> None:
    """Raises RequestError for a list in the variables that is too long, by the name that it has there."""
    if isinstance(value, list):
        if len(value) > MOST_ITEMS:
            raise RequestError(
                f"{name[:40]!r} can have {MOST_ITEMS:,} items, not {len(value):,}: send fewer at once"
            )
        for item in value:
            check_lists(item, name)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_lists(item, key)


def check(document: DocumentNode) -> None:
    """Raises RequestError for a document that asks for too many fields. It need not be valid otherwise."""
    fragments = {
        one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)
    }
    sizes: dict[str, tuple[int, int]] = {}

    def size(selected: SelectionSetNode | None) -> tuple[int, int]:
        """The number of fields, and of their levels."""
        fields = deepest = 0
        for one in selected.selections if selected else ():
            is_field = isinstance(one, FieldNode)
            if isinstance(one, FragmentSpreadNode):
                inner, levels = of_fragment(one.name.value)
            elif isinstance(one, (FieldNode, InlineFragmentNode)):
                inner, levels = size(one.selection_set)
            fields, deepest = fields + inner + is_field, max(deepest, levels + is_field)
        return fields, deepest

    def of_fragment(name: str) -> tuple[int, int]:
        if name not in sizes:
            # A fragment that uses itself, which is not valid.
            sizes[name] = 0, 0
            fragment = fragments.get(name)
            sizes[name] = size(fragment.selection_set if fragment else None)
        return sizes[name]

    operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
    # A document may also have neither, such as one that defines types.
    counts = [(0, 0), *(size(one.selection_set) for one in [*operations, *fragments.values()])]
    fields, levels = (max(each) for each in zip(*counts, strict=True))
    if fields > MOST_FIELDS:
        raise RequestError(f"a query can ask for {MOST_FIELDS:,} fields, not {fields:,}")
    if levels > DEEPEST:
        raise RequestError(f"a query can be nested {DEEPEST} levels deep, not {levels}")


class TooLargeError(BaseException):
    """Ends the execution of a document; after an Exception, graphql-core goes on with other fields."""


class Allowance:
    """What an answer may still hold."""

    def __init__(self) -> None:
        self.fields = self.characters = 0
        self.deadline = time.monotonic() + ANSWER_SECONDS

    def spend(self, value: object) -> None:
        """Count a field and its value. Raises TooLargeError if the answer has become too large."""
        self.fields += 1
        if isinstance(value, str):
            self.characters += len(value)
        elif isinstance(value, list):
            self.characters += sum(len(item) for item in value if isinstance(item, str))
        if self.fields > ANSWER_FIELDS or self.characters > ANSWER_CHARACTERS:
            raise TooLargeError("the answer would be too large: ask for fewer rows at once")
        if self.fields % CLOCK_FIELDS == 0:
            self.check_time()

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise TooLargeError(
                f"the query took longer than {ANSWER_SECONDS:.0f} s: ask for fewer rows at once"
            )
