"""InputError, errors and foreign text as one line, exit codes, and suggestions for mistyped names."""

from __future__ import annotations

import difflib
import enum
import unicodedata
from collections.abc import Iterable, Mapping


class ExitCode(enum.IntEnum):
    """Exit codes of every command, and of a run as its agent sees it."""

    OK = 0
    # A run crashed, or not all runs of a sweep finished.
    FAILED = 1
    BAD_INPUT = 2
    # 128 + the number of the signal, as shells count it.
    INTERRUPTED = 130
    HUNG_UP = 129
    TERMINATED = 143


class InputError(ValueError):
    """Input of the user that cannot be used. Its message is one line that says what is wrong and why."""


class FailedError(Exception):
    """Work that failed, although its input can be used. Its message is one line that says what to do."""


class UsageError(InputError):
    """An argument that a command cannot use. The command adds a pointer to its --help to the message."""


def one_line(error: BaseException) -> str:
    """The message of an error on one line; its class if it has none."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def printable(text: str) -> str:
    """The text with an escape in place of each byte that is not UTF-8, so that it can be printed and sent.

    Line breaks and other control characters are escaped too: a terminal would obey them.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(repr(char)[1:-1] if unicodedata.category(char) == "Cc" else char for char in text)


def nearest(name: str, names: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str | None:
    """The name that a mistyped one stands for, by a synonym or by similarity; None if none is similar."""
    folded = {candidate.lower(): candidate for candidate in names}
    spelling = name.lower()
    if synonym := (synonyms or {}).get(spelling.replace("-", "_")):
        return synonym
    matches = difflib.get_close_matches(spelling, folded, n=1)
    return folded[matches[0]] if matches else None
