"""Options of jobs as the user writes them: KEY=VALUE[,KEY=VALUE…]."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wandb_tl.errors import UsageError, nearest

Value = str | int
Options = dict[str, Value]
# Reads a value. ValueError says what it takes.
Reader = Callable[[str], Value]


def parse(
    flag: str, text: str, keys: Mapping[str, Reader], synonyms: Mapping[str, str], example: str
) -> Options:
    """The options in KEY=VALUE[,KEY=VALUE…]. UsageError for unknown keys and for bad values.

    A part without "=" belongs to the value before it, as in partition=a,b. keys: the function that reads the
    value of each key. synonyms: the keys for other words. example: what the flag takes, for its errors.
    """
    pairs: list[tuple[str, str]] = []
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals:
            pairs.append((key.strip().lstrip("-").replace("-", "_"), value))
        elif pairs:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]},{part}")
        else:
            raise UsageError(f"{flag} {text}: takes KEY=VALUE[,KEY=VALUE…], such as {example}")
    options: Options = {}
    for key, value in pairs:
        if key not in keys:
            close = nearest(key, keys, synonyms)
            hint = f"did you mean {close}?" if close else f"it takes {', '.join(keys)}"
            raise UsageError(f"{flag}: {key} is not a known option; {hint}")
        try:
            options[key] = keys[key](value.strip())
        except ValueError as error:
            raise UsageError(f"{flag}: {key}: got {value}, {error}") from None
    return options


def positive(text: str) -> int:
    """A positive integer. ValueError for others."""
    if not text.isdecimal() or int(text) == 0:
        raise ValueError("takes an integer >= 1")
    return int(text)


def not_negative(text: str) -> int:
    """An integer that is not negative. ValueError for others."""
    if not text.isdecimal():
        raise ValueError("takes an integer >= 0")
    return int(text)
