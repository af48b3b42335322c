"""What the server looks after by itself, whether or not anybody asks."""

from __future__ import annotations

import logging
import threading
import time

from wandb_tl.local.artifacts import versions
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.run_states import give_up_silent

log = logging.getLogger("wandb_tl.local")

# With silence.SILENCE_SECONDS, a run whose process died is marked within a minute. The server's own absences
# are noticed as database.AWAY_SECONDS, which is to be some of these.
WATCH_SECONDS = 5
CLEAN_SECONDS = 3600


def keep_watch(database: Database, blobs: Blobs, over: threading.Event) -> None:
    """Close silent runs and forget abandoned uploads until the server is over.

    It also shows the database that the server itself was awake all the while.
    """
    # Not at once: while the server was down, nobody could send what is missing.
    clean_at = time.monotonic() + CLEAN_SECONDS
    while not over.wait(WATCH_SECONDS):
        try:
            with database.transaction() as db:
                give_up_silent(db)
            if time.monotonic() >= clean_at:
                clean_at = time.monotonic() + CLEAN_SECONDS
                clean(database, blobs)
        except Exception:
            # A full disk, say: it may have room the next time. Without a watch no run is ever missed.
            log.exception("silent runs and abandoned uploads cannot be looked after now")


def clean(database: Database, blobs: Blobs) -> None:
    """Forget what clients that died have left, and delete its files."""
    with database.transaction() as db:
        dead = versions.forget_abandoned(db)
    for blob_id in dead:
        blobs.delete(blob_id)
