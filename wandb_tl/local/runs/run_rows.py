"""What a person says of a run: its name, tags and notes."""

from __future__ import annotations

import json

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.rows import RunRow
from wandb_tl.local.records.transaction import Transaction

# W&B's limit of names and tags.
LONGEST_NAME = 128
LONGEST_TAG = 64


def describe(db: Transaction, run: RunRow, name: str, tags: list[str], notes: str) -> None:
    """Set the name, tags and notes of a run. RequestError for a name or a tag that W&B does not take."""
    name, tags = name.strip(), list(dict.fromkeys(tag for tag in map(str.strip, tags) if tag))
    if not 0 < len(name) <= LONGEST_NAME:
        raise RequestError(f"the name of a run has 1 to {LONGEST_NAME} characters, not {len(name)}")
    if long := next((tag for tag in tags if len(tag) > LONGEST_TAG), None):
        raise RequestError(f"a tag has at most {LONGEST_TAG} characters: {long[:LONGEST_TAG]}…")
    db.update("run", run["id"], display_name=name, tags=json.dumps(tags), notes=notes.strip())
