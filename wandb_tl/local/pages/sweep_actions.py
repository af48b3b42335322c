"""What a person can do with a sweep on its page: set its state, and change how many runs it makes."""

from __future__ import annotations

from typing import NamedTuple

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.rows import SweepRow
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.sweeps import sweep_rows
from wandb_tl.local.sweeps.sweep_states import SweepState


class Button(NamedTuple):
    """A button that sets the sweep's state. warning: what it destroys, "" for nothing; it asks first then."""

    label: str
    state: SweepState
    title: str
    warning: str = ""


PAUSE = Button("Pause", SweepState.PAUSED, "Starts no more runs until the sweep is resumed")
RESUME = Button("Resume", SweepState.RUNNING, "Lets agents start runs again")
STOP = Button(
    "Stop",
    SweepState.FINISHED,
    "Lets the running runs end, and starts no more",
    "Its agents exit when their runs have ended. Resume continues the sweep, with new agents.",
)
CANCEL = Button(
    "Cancel",
    SweepState.CANCELED,
    "Stops the running runs too",
    "This cannot be undone: a cancelled sweep cannot be resumed.",
)
BUTTONS = {
    SweepState.PENDING: (PAUSE, STOP, CANCEL),
    SweepState.RUNNING: (PAUSE, STOP, CANCEL),
    SweepState.PAUSED: (RESUME, STOP, CANCEL),
    SweepState.FINISHED: (RESUME,),
    SweepState.CANCELED: (),
}


def act(db: Transaction, sweep: SweepRow, form: dict[str, str]) -> None:
    """Change the sweep's state, as `wandb sweep --pause` and its other options do, or its run_cap.

    Raises RequestError for a state or a number that is not valid, and for a cancellation without the field
    that confirms it.
    """
    if "cap" in form:
        sweep_rows.cap_runs(db, sweep, run_cap(form.get("run_cap", "")))
        return
    if form.get("state", "").upper() == SweepState.CANCELED and "sure" not in form:
        raise RequestError("Nothing was cancelled: the cancellation was not confirmed.", 400)
    sweep_rows.change(db, sweep, None, form.get("state"))


def run_cap(text: str) -> int | None:
    """The number that was typed, None for an empty field."""
    digits = text.strip().replace(",", "")
    if not digits:
        return None
    if not (digits.isdecimal() and digits.isascii() and len(digits) < 10 and int(digits) > 0):
        raise RequestError(
            f"run_cap is the number of runs, 1 or more, not {text[:40]}; leave it empty for no limit", 400
        )
    return int(digits)
