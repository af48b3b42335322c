"""python -m tests.fuzz.parsers: coverage-guided bytes for the parsers, with atheris (pip install atheris).

Takes the options of libFuzzer, such as -max_total_time=600 or -seed=1. A parser may refuse a text with one of
REFUSALS; any other exception ends the search, and its input is written to a file.
"""

from __future__ import annotations

import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["wandb_tl", "yaml"]):
    from wandb_tl.local.errors import RequestError
    from wandb_tl.local.pages import markdown, run_filter, table_file
    from wandb_tl.local.records import filters, json_path
    from wandb_tl.local.runs import console, lines
    from wandb_tl.local.sweeps import config_check

REFUSALS = (RequestError, run_filter.FilterError, table_file.TooManyCellsError, ValueError, LookupError)


def parse(data: bytes) -> None:
    """The first byte chooses the parser."""
    provider = atheris.FuzzedDataProvider(data)
    chosen = provider.ConsumeIntInRange(0, len(PARSERS) - 1)
    text = provider.ConsumeUnicodeNoSurrogates(provider.remaining_bytes())
    try:
        PARSERS[chosen](text)
    except REFUSALS:
        if chosen < NEVER_REFUSES:
            raise


def _object(text: str) -> Any:
    return list(lines.flat(json_path.json_object(text) or {}))


# Those at the start take any text.
PARSERS = (
    _object,
    lambda text: console.log_line(0, text),
    markdown.render,
    filters.where,
    filters.order_by,
    lambda text: run_filter.parse(text, []),
    lambda text: table_file.members(text, 1000),
    config_check.check,
)
NEVER_REFUSES = 3


if __name__ == "__main__":
    atheris.Setup(sys.argv, parse)
    atheris.Fuzz()
