"""A copy of a run's checkpoint among the run's files on the server, with which it resumes on another machine.

The frozen layers are not in it. W&B uploads it in the background, seldom, and when the run is preempted, so
that a run without interruption pays nearly nothing for it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
import wandb
from wandb import Run

from wandb_tl.errors import InputError, one_line
from wandb_tl.signals import Terminated
from wandb_tl.training import weights_file
from wandb_tl.training.checkpoints import Checkpoint
from wandb_tl.wandb_process import REQUEST_ERRORS

NAME = "checkpoint.pt"
# Between two uploads: this, or longer for a large checkpoint, so that it takes this bandwidth on average.
PAUSE_SECONDS = 300
BYTES_PER_SECOND = 10**6
# Of a larger one, a preempted run could not send all in the time that it has.
PREEMPTED_BYTES = 50 * 10**6


class CheckpointCopy:
    """The copy of the checkpoint of a run. Without a server, its methods do nothing."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._is_online = not (run.offline or run.disabled)
        # Whether there may be one on the server.
        self._exists = self._is_online and run.resumed
        self._uploaded_at = time.monotonic()
        self._checkpoint: Checkpoint | None = None

    def fetch_into(self, checkpoint: Checkpoint) -> None:
        """Take the copy of a resumed run for its checkpoint, unless that one has as many epochs."""
        self._checkpoint = checkpoint
        if not self._exists:
            return
        with TemporaryDirectory() as folder:
            try:
                file = self._file()
                if file.name != NAME:
                    return
                if file.size > weights_file.MAX_BYTES:
                    raise InputError(f"{NAME}: takes {file.size:,} bytes, more than any model")
                file.download(folder, replace=True)
                weights_file.check_zip(Path(folder, NAME))
                checkpoint.take_over(Path(folder, NAME))
            # Before REQUEST_ERRORS, of which it is one.
            except InputError as error:
                print(f"the checkpoint of the server is not used: {one_line(error)}", flush=True)
            except (*REQUEST_ERRORS, requests.RequestException):
                # The run ended before its first upload.
                return
            except OSError as error:
                print(f"the checkpoint of the server is not used: {one_line(error)}", flush=True)

    def upload_if_due(self) -> None:
        """Upload the checkpoint in the background, unless that was done a short time ago."""
        if self._checkpoint is not None and self._checkpoint.path.exists():
            size = self._checkpoint.path.stat().st_size
            if time.monotonic() - self._uploaded_at >= max(PAUSE_SECONDS, size / BYTES_PER_SECOND):
                self._upload(self._checkpoint.path)

    @contextmanager
    def uploaded_if_preempted(self) -> Iterator[None]:
        """Upload the checkpoint if the run is preempted in the block. W&B sends it before the run ends."""
        try:
            yield
        except Terminated:
            path = self._checkpoint.path if self._checkpoint is not None else None
            if path is not None and path.exists() and path.stat().st_size <= PREEMPTED_BYTES:
                self._upload(path)
            raise

    def discard(self) -> None:
        """Remove the copy of a finished run from the server."""
        if self._exists:
            with suppress(*REQUEST_ERRORS, requests.RequestException):
                self._file().delete()

    def _upload(self, path: Path) -> None:
        if not self._is_online:
            return
        target = Path(self._run.dir, NAME)
        draft = target.with_suffix(".draft")
        try:
            # W&B may still read the copy before: it must not change meanwhile.
            shutil.copyfile(path, draft)
            draft.replace(target)
            self._run.save(str(target), base_path=self._run.dir, policy="now")
        except (*REQUEST_ERRORS, OSError) as error:
            print(f"the checkpoint is not uploaded: {one_line(error)}", flush=True)
            return
        self._exists, self._uploaded_at = True, time.monotonic()

    def _file(self) -> Any:
        return wandb.Api().run(f"{self._run.entity}/{self._run.project}/{self._run.id}").file(NAME)
