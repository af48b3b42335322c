"""The JSON of a Table's file, parsed one row after the other.

json.loads lets no other thread run before it is through with a whole file.
"""

from __future__ import annotations

import json
import re
from typing import Any

from wandb_tl.local.records.json_path import JsonObject, is_storable, storable

_SCANNER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\n\r]*")


class TooManyCellsError(Exception):
    """A Table has more values than a page can show."""


def members(text: str, most: int) -> JsonObject:
    """The members of the object in a Table's file; "data" is a list of lists.

    Raises TooManyCellsError for more values than `most`, ValueError or LookupError for other text.
    """
    members: JsonObject = {}
    place = _after(text, 0, "{")
    while True:
        key, place = _value(text, place)
        place = _after(text, place, ":")
        members[key], place = _rows(text, place, most) if key == "data" else _value(text, place)
        if text[_skip(text, place)] == "}":
            return members
        place = _after(text, place, ",")


def _rows(text: str, place: int, most: int) -> tuple[list[list[Any]], int]:
    """The rows of a list at a place of the text, and the place after it."""
    rows: list[list[Any]] = []
    cells = 0
    place = _after(text, place, "[")
    while text[place] != "]":
        row, place = _value(text, _after(text, place, ",") if rows else place)
        if not isinstance(row, list):
            raise ValueError("a row is not a list")
        rows.append(row)
        cells += len(row) + 1
        if cells > most:
            raise TooManyCellsError
        place = _skip(text, place)
    return rows, place + 1


def _value(text: str, start: int) -> tuple[Any, int]:
    value, end = _SCANNER.raw_decode(text, start)
    return (value if is_storable(text, start, end) else storable(value)), end


def _after(text: str, place: int, character: str) -> int:
    """The place of what follows a character, and blanks on both sides of it."""
    place = _skip(text, place)
    if text[place] != character:
        raise ValueError(f"{text[place]} in place of {character}")
    return _skip(text, place + 1)


def _skip(text: str, place: int) -> int:
    blank = _BLANK.match(text, place)
    return blank.end() if blank else place
