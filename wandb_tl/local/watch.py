"""What the server does periodically: give up silent runs, delete abandoned uploads."""

from __future__ import annotations

import logging
import threading
import time

from wandb_tl.local.artifacts import versions
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.run_states import give_up_silent

log = logging.getLogger("wandb_tl.local")

# With run_states.SILENCE_SECONDS, a run whose process died is marked within a minute. database.AWAY_SECONDS,
# after which the server notices its own absence, must be several times as long.
WATCH_SECONDS = 5
CLEAN_SECONDS = 3600


def keep_watch(database: Database, blobs: Blobs, stop: threading.Event) -> None:
    """Give up silent runs and delete abandoned uploads until `stop` is set.

    Its transactions also tell the database that the server itself was awake.
    """
    # Not at once: clients could not continue their uploads while the server was down.
    clean_at = time.monotonic() + CLEAN_SECONDS
    while not stop.wait(WATCH_SECONDS):
        try:
            with database.transaction() as db:
                give_up_silent(db)
            if time.monotonic() >= clean_at:
                clean_at = time.monotonic() + CLEAN_SECONDS
                clean(database, blobs)
        except Exception:
            # For example a full disk, which may have room at the next attempt.
            log.exception("cannot check for silent runs and abandoned uploads now")


def clean(database: Database, blobs: Blobs) -> None:
    """Delete abandoned uploads and expired versions with their files."""
    with database.transaction() as db:
        unused = versions.delete_expired(db)
    for blob_id in unused:
        blobs.delete(blob_id)
