"""A run's state after its last finished epoch, on disk, so that a killed run resumes from there."""

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
    """The finished part of a run: one row of metrics per epoch, and the seconds and watt-hours it took."""

    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    step_seconds: float = 0.0
    energy_wh: float = 0.0


class Checkpoint:
    """The checkpoint file of one run: every stateful object of the training loop, by name.

    key: identifies the run, such as ("entity", "project", "run id"). identity: must be the same when the run
    resumes. With $WANDB_TL_CACHE on a shared folder, a run can resume on another machine.
    """

    def __init__(self, key: tuple[str, ...], identity: dict[str, Any], **stateful: Any) -> None:
        # quote() escapes commas, so that no two keys have the same name.
        name = ",".join(quote(part, safe="") for part in key)
        self.path = Path(cache_dir(), "checkpoints", f"{name}.pt")
        self._identity = identity
        self._stateful = stateful

    def save(self, progress: Progress) -> None:
        """Replace the file by the present state; a kill meanwhile leaves the old file intact."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: stateful.state_dict() for name, stateful in self._stateful.items()}
        temporary = self.path.with_suffix(f".{os.getpid()}")
        try:
            torch.save({"identity": self._identity, "progress": vars(progress), **state}, temporary)
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self) -> Progress:
        """Restore the saved state of the objects; an empty Progress if none of this identity is saved."""
        try:
            # To the CPU: each object moves its tensors to its own device.
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return Progress()
        except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
            print(f"{self.path} cannot be read ({one_line(error)[:200]}): the run starts over")
            return Progress()
        if state["identity"] != self._identity:
            print(f"{self.path} has other hyperparameters or another precision: the run starts over")
            return Progress()
        for name, stateful in self._stateful.items():
            stateful.load_state_dict(state[name])
        return Progress(**state["progress"])

    def discard(self) -> None:
        """Remove the file of a finished run."""
        self.path.unlink(missing_ok=True)
