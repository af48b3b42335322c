"""The states of a sweep.

| state | what it means | who moves a sweep to it |
|:--|:--|:--|
| PENDING | no run has been handed out | whoever makes the sweep |
| RUNNING | runs are handed out | the first hand-out; `wandb sweep --resume` |
| PAUSED | runs go on, and no further ones are handed out | `wandb sweep --pause` |
| FINISHED | all runs have ended or the target is reached; agents exit | the server; `wandb sweep --stop` |
| CANCELED | its runs are stopped; this state is final | `wandb sweep --cancel` |

The sweep's page has buttons for the same moves.
"""

from __future__ import annotations

from enum import StrEnum


class SweepState(StrEnum):
    """A sweep's state as the database and the clients spell it."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    FINISHED = "FINISHED"
    CANCELED = "CANCELED"


# No run of the sweep will be handed out, unless somebody resumes it.
OVER = (SweepState.FINISHED, SweepState.CANCELED)
# Agents get runs.
HANDED_OUT = (SweepState.PENDING, SweepState.RUNNING)
