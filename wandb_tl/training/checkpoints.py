"""A run's state after its last finished epoch, on disk, so that a killed run goes on from there."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch

from wandb_tl.cache_folder import cache_dir
from wandb_tl.errors import one_line


@dataclass
class Progress:
    """What a run has done so far: one row of metrics a finished epoch, and the time and energy they took."""

    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    step_seconds: float = 0.0
    energy_wh: float = 0.0


class Checkpoint:
    """The checkpoint file of one run: every stateful object of the training loop, by name.

    key: what tells the run from all others, such as ("entity", "project", "run id"). identity: what must be
    the same when it goes on. Set $WANDB_TL_CACHE to a shared folder and a run can go on on another machine.
    """

    def __init__(self, key: tuple[str, ...], identity: dict[str, Any], **stateful: Any) -> None:
        # quote() escapes a comma, so that no two keys make one name.
        name = ",".join(quote(part, safe="") for part in key)
        self.path = Path(cache_dir(), "checkpoints", f"{name}.pt")
        self._identity = identity
        self._stateful = stateful

    def save(self, progress: Progress) -> None:
        """Replace the file by the present state; a kill in between leaves the old one whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: thing.state_dict() for name, thing in self._stateful.items()}
        temporary = self.path.with_suffix(f".{os.getpid()}")
        try:
            torch.save({"identity": self._identity, "progress": vars(progress), **state}, temporary)
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self) -> Progress:
        """Bring the objects to the saved state; a fresh Progress if there is none of this identity."""
        try:
            # To the CPU: each object puts its tensors where it computes.
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return Progress()
        except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
            print(f"{self.path} cannot be read ({one_line(error)[:200]}): the run starts over")
            return Progress()
        if state["identity"] != self._identity:
            print(f"{self.path} is of other hyperparameters or another precision: the run starts over")
            return Progress()
        for name, thing in self._stateful.items():
            thing.load_state_dict(state[name])
        return Progress(**state["progress"])

    def discard(self) -> None:
        """Remove the file: the run is done."""
        self.path.unlink(missing_ok=True)
