"""The console of a run as pages show it: plain lines, and the one that says why the run failed."""

from __future__ import annotations

import re
from typing import TypedDict

from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import console
from wandb_tl.local.runs.console import LogLine

# The colours and cursor movements that programs write for terminals.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# The lines from the end among which the reason of a failure is searched, and the length of a reason.
REASON_LINES, LONGEST_REASON = 50, 300
# Of a line that a page shows.
LONGEST_LINE = 10_000


class ConsoleLine(TypedDict):
    text: str
    error: bool


def console_line(line: LogLine) -> ConsoleLine:
    """A console line without the codes for terminals; of a progress bar, the last state."""
    text = ESCAPES.sub("", line["line"][:LONGEST_LINE]).rstrip("\r\n").rpartition("\r")[2]
    return {"text": text, "error": line["level"] == "error"}


def last_lines(db: Transaction, run_id: int, count: int) -> list[tuple[int, ConsoleLine]]:
    """The last lines of a run's console with their numbers, from 0."""
    edges = console.log_lines(db, run_id, None, None, count)["edges"]
    return [(edge["node"]["number"], console_line(edge["node"])) for edge in edges]


def reason(db: Transaction, run_id: int) -> str:
    """The last line that a run wrote to stderr, else the last one to stdout; "" without any.

    That of a Python program that failed is the end of its traceback.
    """
    lines = [line for _, line in last_lines(db, run_id, REASON_LINES) if line["text"].strip()]
    # The client's own messages come after those of the program.
    own = [line for line in lines if not line["text"].startswith("wandb:")]
    chosen = [line for line in own if line["error"]] or own
    return chosen[-1]["text"].strip()[:LONGEST_REASON] if chosen else ""
