"""The streams of lines that a run logs, under the names that the client uses."""

from __future__ import annotations

from wandb_tl.local.records.transaction import Transaction

HISTORY = "wandb-history.jsonl"
EVENTS = "wandb-events.jsonl"
SUMMARY = "wandb-summary.json"
OUTPUT = "output.log"


def line_count(db: Transaction, run_id: int, stream: str) -> int:
    """How many lines of a stream a run has."""
    last = db.value("SELECT max(line) FROM stream_line WHERE run_id = ? AND stream = ?", run_id, stream)
    return 0 if last is None else int(last) + 1
