"""What a client posts to the file stream of a run, and the rows that it logs."""

from __future__ import annotations

import json
from typing import Any

from wandb_tl.local.records.names import ensure_project, run_named
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import file_stream


def post(db: Transaction, name: str = "r", writer: str | None = None, **body: Any) -> dict:
    """The answer to a request of a run."""
    answer = {}
    for part in file_stream.parts(body):
        answer = file_stream.receive(db, "local", "p", name, part, writer)
    return answer


def chunk(stream: str, offset: int, *lines: str) -> dict:
    return {stream: {"offset": offset, "content": list(lines)}}


def run(db: Transaction) -> dict:
    return run_named(db, ensure_project(db, None, "p"), "r")


def rows(*steps: int, **values: Any) -> list[str]:
    return [json.dumps({"_step": step, **values}) for step in steps]
