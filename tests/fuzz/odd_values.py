"""Strategies of hypothesis: JSON that nobody should send, and what clients send with parts of it replaced."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

TEXTS = [
    "",
    " ",
    ".",
    "..",
    "a.b",
    "a/b",
    "_type",
    "NaN",
    "\ud800",
    "\0",
    "ünï",
    "x" * 3000,
    "http://[",
    "{{7*7}}",
]
TEXTS += [
    "%00",
    "<script>",
    "-1",
    "1e400",
    "latest",
    "v99999999999999999999",
    "=1+1",
    "[",
    "null",
    "\r\n",
    "٣",
]
NUMBERS = [0, -1, 1, 0.5, 2**31, 2**53, 2**63, -(2**63) - 1, 10**400, 1e308, -1e308, 5e-324]
NUMBERS += [math.nan, math.inf, -math.inf]


def nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=8))
scalars = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), texts)
deep = st.builds(nested, st.sampled_from([30, 150, 400]), st.sampled_from(["list", "object"]))
values = st.one_of(
    scalars,
    deep,
    st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
        max_leaves=6,
    ),
)


@st.composite
def mutated(draw: st.DrawFn, template: Any, odds: int = 12) -> Any:
    """A template in which one of `odds` parts is replaced, left out, doubled, or gets another name."""
    if draw(st.integers(1, odds)) == odds:
        return draw(values)
    if isinstance(template, dict):
        changed = {}
        for key, value in template.items():
            change = draw(st.integers(1, 3 * odds))
            if change == 1:
                continue
            changed[draw(texts) if change == 2 else key] = draw(mutated(value, odds))
        return changed
    if isinstance(template, list):
        items = [draw(mutated(item, odds)) for item in template]
        return items + items if draw(st.integers(1, 3 * odds)) == 1 else items
    return template
