"""A run's state after one of its last epochs, on disk, so that a killed run resumes from there.

The file of a checkpoint ends with its SHA-256. The file before it stays beside it until the next one: a
damaged file is set aside, and the run resumes from the other.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import torch

from wandb_tl.cache_folder import cache_dir
from wandb_tl.errors import one_line

DIGEST_BYTES = hashlib.sha256().digest_size
CHUNK_BYTES = 2**20
# Largest share of a run's time that saving takes, apart from its first and last epoch. Of shorter epochs, not
# all are saved.
SAVING_SHARE = 0.1
# How the name of a checkpoint ends that is being written: RUN.UUID.draft. One of another run may be in use on
# another machine or in another container; it is abandoned when it is older than this.
DRAFT = ".draft"
DRAFT_SECONDS = 24 * 3600


@dataclass
class Progress:
    """The finished part of a run: one row of metrics per epoch, and the seconds and watt-hours it took.

    step_seconds: of training steps alone. preparation_seconds: before the first epoch, such as of calibrating
    and computing frozen layers, and of waiting for another run that computes them. frozen_seconds: of
    computing them here.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    step_seconds: float = 0.0
    preparation_seconds: float = 0.0
    frozen_seconds: float = 0.0
    energy_wh: float = 0.0


class Copy(Protocol):
    """A copy of a checkpoint elsewhere."""

    def fetch_into(self, checkpoint: Checkpoint) -> None:
        """Give the checkpoint the copy, if there is one."""

    def upload_if_due(self) -> None:
        """Renew the copy, if it is time."""

    def discard(self) -> None:
        """Remove the copy."""


class Checkpoint:
    """The checkpoint file of one run: every stateful object of the training loop, by name.

    key: identifies the run, such as ("entity", "project", "run id"). identity: must be the same when the run
    resumes. With a copy, or $WANDB_TL_CACHE on a shared folder, a run can resume on another machine.
    """

    def __init__(
        self, key: tuple[str, ...], identity: dict[str, Any], copy: Copy | None = None, **stateful: Any
    ) -> None:
        # quote() escapes commas, so that no two keys have the same name.
        name = ",".join(quote(part, safe="") for part in key)
        self.path = Path(cache_dir(), "checkpoints", f"{name}.pt")
        self._identity = identity
        self._copy = copy
        self._stateful = stateful
        # When the state was last saved, and how long that took.
        self._saved_at, self._saving_seconds = -math.inf, 0.0

    def save_if_due(self, progress: Progress, in_any_case: bool) -> None:
        """Save the state after an epoch, unless the epochs since the last time are too short to be worth it.

        in_any_case: save it though they are, as after a run's last epoch. The first one is always saved.
        """
        began = time.monotonic()
        if in_any_case or SAVING_SHARE * (began - self._saved_at) >= self._saving_seconds:
            self.save(progress)
            self._saved_at = time.monotonic()
            self._saving_seconds = self._saved_at - began

    def save(self, progress: Progress) -> None:
        """Replace the file by the present state; a kill meanwhile leaves the old file intact.

        If it cannot be written, as on a full disk, it says so: the run itself does not need it.
        """
        try:
            self._write(progress)
            if self._copy is not None:
                self._copy.upload_if_due()
        # PyTorch raises RuntimeError if a write fails.
        except (OSError, RuntimeError) as error:
            print(
                f"the checkpoint {self.path} cannot be written: {one_line(error)[:200]}; "
                "if this run is killed, it repeats its epochs since the last one",
                flush=True,
            )

    def _write(self, progress: Progress) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: stateful.state_dict() for name, stateful in self._stateful.items()}
        self._remove_drafts()
        temporary = self._new_draft()
        try:
            torch.save({"identity": self._identity, "progress": vars(progress), **state}, temporary)
            with temporary.open("r+b") as file:
                # Reading has moved to the end of the file.
                digest = hashlib.file_digest(file, "sha256").digest()
                file.write(digest)
            with suppress(FileNotFoundError):
                self.path.replace(self._earlier)
            temporary.replace(self.path)
        finally:
            # On a read-only file system, also of a file that is not there.
            with suppress(OSError):
                temporary.unlink()

    def load(self) -> Progress:
        """Restore the saved state of the objects; an empty Progress if none of this identity is saved."""
        if self._copy is not None:
            self._copy.fetch_into(self)
        is_damaged = False
        for path in (self.path, self._earlier):
            try:
                _verify(path)
                # To the CPU: each object moves its tensors to its own device.
                state = torch.load(path, map_location="cpu", weights_only=True)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (EOFError, IsADirectoryError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
                _set_aside(path, one_line(error))
                is_damaged = True
                continue
            if state["identity"] != self._identity:
                print(f"{path} has other hyperparameters or another precision: the run starts over")
                return Progress()
            for name, stateful in self._stateful.items():
                stateful.load_state_dict(state[name])
            return Progress(**state["progress"])
        if is_damaged:
            print("no earlier checkpoint is left: the run starts over", flush=True)
        return Progress()

    def take_over(self, copy: Path) -> None:
        """Use a copy of this checkpoint, as of another machine, if it is intact and has more epochs."""
        if _epochs(copy) > max(map(_epochs, (self.path, self._earlier))):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._new_draft()
            shutil.copyfile(copy, draft)
            draft.replace(self.path)

    def discard(self) -> None:
        """Remove the files of a finished run."""
        if self._copy is not None:
            self._copy.discard()
            # It refers to this checkpoint, and so the model would stay in memory during the next runs.
            self._copy = None
        self._remove_drafts()
        shutil.rmtree(self._images, ignore_errors=True)
        for path in (self.path, self._earlier):
            # There is none, or none could be written.
            with suppress(OSError):
                path.unlink()

    def images(self, epoch: float) -> Path:
        """The folder for images of an epoch, which stay until the run is finished."""
        return self._images / f"{epoch:.0f}"

    @property
    def _images(self) -> Path:
        return self.path.with_suffix(".images")

    @property
    def _earlier(self) -> Path:
        return self.path.with_suffix(".earlier.pt")

    def _new_draft(self) -> Path:
        return self.path.with_suffix(f".{uuid.uuid4().hex}{DRAFT}")

    def _remove_drafts(self) -> None:
        """Remove what killed processes were writing: drafts of this run, which no other process trains, and
        old ones.
        """
        for draft in self.path.parent.glob(f"*{DRAFT}"):
            # Another process may remove it first.
            with suppress(OSError):
                is_old = draft.stat().st_mtime < time.time() - DRAFT_SECONDS
                if is_old or draft.name.rsplit(".", 2)[0] == self.path.stem:
                    draft.unlink()


def _set_aside(path: Path, reason: str) -> None:
    """Rename what is not a checkpoint, so that it is not read again, and say so."""
    damaged, place = path.with_suffix(".damaged"), ""
    # Another damaged checkpoint may be there already, or the folder may be read-only.
    with suppress(OSError):
        path.replace(damaged)
        place = f"; it is {damaged} now"
    print(f"{path} is damaged and not used ({reason[:200]}){place}", flush=True)


def _epochs(path: Path) -> int:
    """The finished epochs of a checkpoint; 0 if it is absent or damaged."""
    try:
        _verify(path)
        return len(torch.load(path, map_location="cpu", weights_only=True)["progress"]["rows"])
    except (OSError, EOFError, KeyError, RuntimeError, ValueError, pickle.UnpicklingError):
        return 0


def _verify(path: Path) -> None:
    """ValueError if the file does not end with the SHA-256 of what is before; OSError if it is not a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = max(path.stat().st_size - DIGEST_BYTES, 0)
        while left and (chunk := file.read(min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
        if file.read() != digest.digest():
            raise ValueError("its SHA-256 differs")
