"""The states of a run that has ended, as every W&B server names them. No other module spells them.

The embedded server has a table of all states and moves of its own: local/records/run_states.py.
"""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    # Its process ended with an exit code other than 0.
    FAILED = "failed"
    # Its process is gone and has not reported how it ended.
    CRASHED = "crashed"
    # A user, a sweep or hyperband stopped it.
    KILLED = "killed"


# A preempted run is not among them: its sweep hands it out again.
ENDED = frozenset(RunState)
# A run that has not begun: a sweep has handed it out, or its scheduler has queued it.
PENDING = "pending"
