"""Pull a project or a sweep of another W&B server: python -m wandb_tl.local pull, `push` the other way.

It is read into ROOT/pulling, and pushed from there to the server that serves the root. Started again, it
resumes; a sweep that was pulled before is the same sweep here.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from argparse import Namespace
from contextlib import closing
from pathlib import Path

from wandb_tl.local import root as roots
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import ExitCode, RemoteError, RequestError, RootError
from wandb_tl.local.push import answers
from wandb_tl.local.push.artifact_pull import ArtifactPull
from wandb_tl.local.push.remote import Remote
from wandb_tl.local.push.run_pull import RunPull
from wandb_tl.local.push.sweep_push import WHO, SweepPush, alone
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.rows import RunRow, SweepRow


def pull(options: Namespace) -> ExitCode:
    """Print the address of what was pulled; after an error of one line returns FAILED."""
    try:
        print(bring(options.root, options.path, options.source, options.into))
    except (RemoteError, RequestError, RootError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        print("interrupted; to resume, pull again", file=sys.stderr)
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def bring(root: Path, path: str, source: str, into: str | None) -> str:
    """Pull ENTITY/PROJECT or ENTITY/PROJECT/SWEEP; returns the address of its page here.

    Raises RemoteError, RequestError or RootError, with a message of one line.
    """
    parts = [part for part in path.strip("/").split("/") if part != "sweeps"]
    if len(parts) not in (2, 3) or not all(parts):
        raise RequestError(f"what to pull is written as ENTITY/PROJECT or ENTITY/PROJECT/SWEEP, not {path}")
    entity, project, *sweep = parts
    own_entity, _, own_project = (into or f"local/{project}").rpartition("/")
    if not own_entity or not own_project or "/" in own_entity:
        raise RequestError(f"--as takes ENTITY/PROJECT, not {into}")
    if not root.is_dir():
        raise RootError(f"there is no folder {root}")
    here = Remote(roots.wait_for_server(root), roots.read_key(root))
    there = Remote(source)
    if not there.graphql(answers.Who, WHO)["viewer"]:
        raise RemoteError(f"{there.url} does not know this API key: run `wandb login --relogin`")
    own = here.graphql(answers.Who, WHO)["serverInfo"]["features"]
    features = {item["name"] for item in own if item["isEnabled"]}
    key = hashlib.sha256(f"{there.url} {path}".encode()).hexdigest()[:16]
    folder = root / "pulling" / key
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone(folder, "pull"):
        with closing(Database(folder / "wandb.sqlite")) as database:
            runs = RunPull(database, Blobs(folder / "blobs", ""), there, entity, project)
            for name in runs.pull(sweep[0] if sweep else None):
                # A name may have characters that a terminal would obey.
                print(f"warning: run {name!r} has not ended and is left out", file=sys.stderr)
            with database.transaction() as db:
                run_rows = db.all("SELECT * FROM run ORDER BY id", row=RunRow)
                sweep_rows = db.all("SELECT * FROM sweep ORDER BY id", row=SweepRow)
            ArtifactPull(runs).pull(run_rows)
            target = (here, features, own_entity, own_project)
            address = SweepPush(folder, database, sweep_rows, run_rows, *target, name="here").push()
        # Which sweeps were made here is kept: pushed.json.
        shutil.rmtree(folder / "blobs")
        for file in folder.glob("wandb.sqlite*"):
            file.unlink()
    return address
