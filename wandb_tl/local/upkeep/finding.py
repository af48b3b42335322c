"""What a check finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wandb_tl.local.records.transaction import Transaction


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, in one line.

    repair: makes it right, and returns what it did; None where only a backup helps.
    """

    text: str
    repair: Callable[[Transaction], str] | None = None
