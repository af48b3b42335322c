"""What the server does in the background: give up silent runs, delete abandoned uploads, store columns."""

from __future__ import annotations

import logging
import threading
import time

from wandb_tl.local.artifacts import versions
from wandb_tl.local.artifacts.blobs import Blobs, delete_never_sent
from wandb_tl.local.errors import why_not_stored
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.run_states import give_up_silent
from wandb_tl.local.runs import history_columns

log = logging.getLogger("wandb_tl.local")

# With run_states.SILENCE_SECONDS, a run whose process died is marked within a minute. database.AWAY_SECONDS,
# after which the server notices its own absence, must be several times as long.
WATCH_SECONDS = 5
CLEAN_SECONDS = 3600
# Between looks for new lines of histories to store as columns, and between two transactions that store some:
# without a pause, the lock of the database would go to the same thread again.
COLUMN_SECONDS, PAUSE_SECONDS = 2, 0.01


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
        except Exception as error:
            # A full disk may have room at the next attempt.
            reason = why_not_stored(error)
            log.error("cannot look for silent runs now: %s", reason or error, exc_info=not reason)


def keep_columns(database: Database, stop: threading.Event) -> None:
    """Store the numbers of histories as columns until `stop` is set.

    Charts are read from the lines until there are columns. A run whose columns cannot be stored is left out
    until the server starts again, so that the others have theirs.
    """
    skipped: set[int] = set()
    while not stop.wait(COLUMN_SECONDS):
        try:
            while store_columns(database, skipped) and not stop.wait(PAUSE_SECONDS):
                pass
        except Exception as error:
            reason = why_not_stored(error)
            log.error("cannot store the columns of histories now: %s", reason or error, exc_info=not reason)


def store_columns(database: Database, skipped: set[int]) -> bool:
    """Store the next columns of one run; False if there are none. A run that fails is added to `skipped`."""
    with database.transaction() as db:
        lines = history_columns.unstored(db, skipped)
    if lines is None:
        return False
    try:
        # Outside of a transaction: clients do not wait until the lines are parsed.
        columns = [history_columns.columns_of(block) for block in lines.blocks]
        with database.transaction() as db:
            history_columns.store(db, lines, columns)
    except Exception as error:
        # A full disk may have room at the next attempt.
        if why_not_stored(error):
            raise
        skipped.add(lines.run_id)
        log.exception("cannot store the columns of the run with the id %d: it is left out", lines.run_id)
    return True


def clean(database: Database, blobs: Blobs) -> None:
    """Delete abandoned uploads and expired versions with their files."""
    for blob_id in database.repeat(versions.delete_expired):
        blobs.delete(blob_id)
    with database.transaction() as db:
        delete_never_sent(db)
