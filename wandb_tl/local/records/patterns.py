"""Regular expressions of clients, searched in a time that grows with the text alone.

Python's own engine can take longer than the age of the universe for thirty letters, and no other thread runs
meanwhile. RE2 knows neither look-around nor references to groups.
"""

from __future__ import annotations

import re2

from wandb_tl.local.errors import RequestError

# Characters of an expression, and the memory of a compiled one, of which 128 are kept.
LONGEST = 1000
OPTIONS = re2.Options()
OPTIONS.max_mem = 2**20
OPTIONS.log_errors = False


def check(pattern: object) -> str:
    """The regular expression. Raises RequestError for one that is not valid, or too long."""
    if not isinstance(pattern, str):
        raise RequestError(f"{pattern} is not a valid regular expression")
    if len(pattern) > LONGEST:
        raise RequestError(f"a regular expression may have {LONGEST} characters, not {len(pattern)}")
    try:
        re2.compile(pattern, OPTIONS)
    except (re2.error, UnicodeEncodeError) as error:
        raise RequestError(f"{pattern} is not a valid regular expression: {reason(error)}") from None
    return pattern


def reason(error: Exception) -> str:
    """What RE2 says about an expression that it cannot use."""
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else "it is not valid Unicode"


def matches(pattern: str, value: object) -> bool:
    """SQL function: whether an expression occurs in a value."""
    return value is not None and re2.search(pattern, str(value), OPTIONS) is not None
