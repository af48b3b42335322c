"""Long JSON texts, parsed within limits and while other threads run."""

from __future__ import annotations

import json
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

from wandb_tl.local.errors import RequestError

# Of objects and lists in a text, counted also inside of strings. Python's garbage collector looks through all
# of them at once.
MOST_CONTAINERS = 2_000_000
# The parser that json.loads uses does not let another thread run before it is through; for longer texts, the
# one in Python does.
PARSED_AT_ONCE = 100_000


def check(body: bytes, name: str) -> None:
    """Raises RequestError (413) for a text with too many objects and lists. name: what the text is."""
    if body.count(b"{") + body.count(b"[") > MOST_CONTAINERS:
        raise RequestError(f"{name} has more than {MOST_CONTAINERS:,} objects and lists", 413)


def loads(text: str) -> Any:
    """What json.loads returns. Raises ValueError, or RecursionError, as it does."""
    return json.loads(text, cls=None if len(text) < PARSED_AT_ONCE else PatientDecoder)


class PatientDecoder(json.JSONDecoder):
    """A decoder that lets other threads run between two values."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.parse_object, self.parse_array = json.decoder.JSONObject, json.decoder.JSONArray  # type: ignore
        self.scan_once = py_make_scanner(self)
