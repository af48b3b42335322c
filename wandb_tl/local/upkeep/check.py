"""python -m wandb_tl.local check: what is wrong with a folder, and its repair.

A check reads beside the server of the folder. A repair needs the folder for itself, and deletes no bytes that
a run or a version had: damaged files are moved to ROOT/damaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from wandb_tl.local import root as roots
from wandb_tl.local.errors import ExitCode, RequestError, RootError
from wandb_tl.local.records.database import Database
from wandb_tl.local.upkeep import file_check, record_check
from wandb_tl.local.upkeep.finding import Finding


def check(root: Path, repair: bool) -> ExitCode:
    """Print a line for each thing that is wrong; FAILED if something is, and stays so.

    Raises RootError if the folder cannot be checked, and RootServedError for a repair while it is served.
    """
    if not (root / "wandb.sqlite").exists():
        raise RootError(f"there are no records in {root}")
    count = left = 0
    with roots.lock(root) if repair else nullcontext():
        try:
            database = Database(root / "wandb.sqlite", read_only=not repair)
            for finding in findings(database, root, not repair and roots.server_url(root) is not None):
                count += 1
                done = _repaired(database, finding) if repair else None
                left += done is None
                print(f"{finding.text}{f': {done}' if done else ''}", flush=True)
            database.close()
        except (RequestError, sqlite3.DatabaseError, OSError) as error:
            raise RootError(f"cannot check {root}: {error}") from None
    if not count:
        print(f"{root} is in order")
    elif not repair:
        print(f"{count} found; stop the server, and repair with --repair what can be repaired")
    return ExitCode.FAILED if left else ExitCode.OK


def _repaired(database: Database, finding: Finding) -> str | None:
    """What a repair did; None if it could not."""
    if finding.repair is None:
        return None
    try:
        with database.transaction() as db:
            return finding.repair(db)
    except RequestError:
        return None


def findings(database: Database, root: Path, is_served: bool) -> Iterator[Finding]:
    """All that is wrong; a finding is repaired before the next one is looked for."""
    yield from record_check.database_file(database)
    yield from file_check.litter(database, root, is_served)
    yield from file_check.contents(database, root)
    yield from record_check.versions(database, root)
    yield from record_check.runs(database)
