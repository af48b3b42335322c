"""The error of a command whose input cannot be used, and errors in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class InputError(Exception):
    """Something the user gave cannot be used. Its message is one line that says what and why."""


def one_line(error: BaseException) -> str:
    """What an error says, on one line; its kind if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def nearest(name: str, names: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str | None:
    """The name that was probably meant: a synonym's, else the most similar one; None if none is similar."""
    folded = {candidate.lower(): candidate for candidate in names}
    spelling = name.lower()
    if synonym := (synonyms or {}).get(spelling.replace("-", "_")):
        return synonym
    matches = difflib.get_close_matches(spelling, folded, n=1)
    return folded[matches[0]] if matches else None
