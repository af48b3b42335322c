"""Push a finished sweep of a root to another W&B server: python -m wandb_tl.local push.

Runs keep their ids. To resume an interrupted push, start it again. ROOT/pushed.json remembers the sweep that
an earlier push made on the other server: only the server of the root may write to the database.

The protocol cannot tell when a run was created, which agent ran it, or that it crashed: a pushed run is
created now, has no agent, and failed if it crashed. Links of versions to other collections are not pushed.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import portalocker
from portalocker import LockFlags
from tqdm import tqdm

from wandb_tl.local import root as roots
from wandb_tl.local.errors import ExitCode, RemoteError, RequestError, RootError
from wandb_tl.local.push import answers
from wandb_tl.local.push.answers import SweepThere
from wandb_tl.local.push.artifact_push import ArtifactPush
from wandb_tl.local.push.remote import Remote
from wandb_tl.local.push.run_push import RunPush
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import project_named
from wandb_tl.local.records.rows import RunRow, SweepRow
from wandb_tl.local.records.run_states import IS_LIVE, LIVE
from wandb_tl.local.sweeps.sweep_states import SweepState

WHO = "query PushViewer { viewer { entity } serverInfo { features { name isEnabled } } }"

SWEEP = """query PushSweep($entity: String, $project: String, $sweep: String!) {
  project(name: $project, entityName: $entity) { sweep(sweepName: $sweep) { id name } } }"""

UPSERT_SWEEP = """mutation UpsertSweep($id: ID, $config: String, $description: String, $entity: String,
    $project: String, $displayName: String, $state: String) {
  upsertSweep(input: {id: $id, config: $config, description: $description, entityName: $entity,
      projectName: $project, displayName: $displayName, state: $state}) {
    sweep { id name project { name entity { name } } } configValidationWarnings } }"""


def push(options: Namespace) -> ExitCode:
    """Print the address of the pushed sweep; after an error of one line returns FAILED."""
    try:
        print(prepare(options.root, options.sweep, options.to, options.into).push())
    except (RemoteError, RequestError, RootError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        print("interrupted; to resume, push again", file=sys.stderr)
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def prepare(root: Path, path: str, to: str, into: str | None) -> SweepPush:
    """The push of the sweep at `path`, after checks of this root and of the other server.

    Raises RemoteError, RequestError or RootError, with a message of one line, if the sweep cannot be pushed.
    """
    if not (root / "wandb.sqlite").exists():
        raise RootError(f"there are no records in {root}")
    database = Database(root / "wandb.sqlite", read_only=True)
    entity, project, name = _parts(path)
    sweep, runs = _sweep_and_runs(database, entity, project, name)
    if sweep is None:
        raise RequestError(f"there is no sweep {path} in {root}")
    live = sum(run["state"] in LIVE for run in runs)
    if live:
        raise RequestError(
            f"{live} of the sweep's runs have not ended: stop the sweep, or push when they have ended"
        )
    remote = Remote(to)
    who = remote.graphql(answers.Who, WHO)
    if not who["viewer"]:
        raise RemoteError(f"{remote.url} does not know this API key: run `wandb login --relogin`")
    features = {item["name"] for item in who["serverInfo"]["features"] if item["isEnabled"]}
    own_entity, _, own_project = (into or f"{who['viewer']['entity']}/{project}").rpartition("/")
    if not own_entity or not own_project or "/" in own_entity:
        raise RequestError(f"--as takes ENTITY/PROJECT, not {into}")
    if remote.url == roots.server_url(root) and (entity, project) == (own_entity, own_project):
        raise RequestError("the sweep is already in that project; choose another one with --as")
    return SweepPush(root, database, [sweep], runs, remote, features, own_entity, own_project)


def _sweep_and_runs(
    database: Database, entity: str, project: str, name: str
) -> tuple[SweepRow | None, list[RunRow]]:
    with database.transaction() as db:
        home = project_named(db, entity, project)
        query = "SELECT * FROM sweep WHERE project_id = ? AND name = ?"
        sweep = home and db.one(query, home["id"], name, row=SweepRow)
        if sweep is None:
            return None, []
        query = f"SELECT * FROM run WHERE sweep_id = ? AND (started_at IS NOT NULL OR {IS_LIVE}) ORDER BY id"
        return sweep, db.all(query, sweep["id"], row=RunRow)


@dataclass
class SweepPush:
    """Pushes sweeps of a root, and runs of these or of none, to `entity`/`project` of a server.

    features: what the server supports. name: what ROOT/pushed.json calls it, its address unless given.
    """

    root: Path
    database: Database
    sweeps: list[SweepRow]
    runs: list[RunRow]
    remote: Remote
    features: set[str]
    entity: str
    project: str
    name: str | None = None

    @property
    def place(self) -> dict[str, str]:
        return {"entity": self.entity, "project": self.project}

    def push(self) -> str:
        """Push the sweeps, the runs and their artifacts; returns the address of their page."""
        with alone(self.root, "push"):
            sweeps = {sweep["id"]: self._ensure_sweep(sweep) for sweep in self.sweeps}
            run_push = RunPush(
                self.root,
                self.database,
                self.remote,
                self.entity,
                self.project,
                structured_console="STRUCTURED_CONSOLE_LOGS" in self.features,
            )
            artifacts = ArtifactPush(
                self.database, self.root, self.remote, self.entity, self.project, self.runs
            )
            total = len(self.runs) + len(artifacts)
            with tqdm(total=total, unit=" runs and artifacts", disable=not sys.stderr.isatty()) as bar:
                for run in self.runs:
                    sweep_id = run["sweep_id"]
                    run_push.push(run, None if sweep_id is None else sweeps[sweep_id]["name"])
                    bar.update()
                for _ in artifacts.push(with_tags="ARTIFACT_TAGS" in self.features):
                    bar.update()
            for sweep in sweeps.values():
                end = {"id": sweep["id"], "state": SweepState.FINISHED}
                self.remote.graphql(answers.UpsertSweep, UPSERT_SWEEP, **end, **self.place)
        parts = [self.entity, self.project]
        if len(sweeps) == 1:
            parts += ["sweeps", *(sweep["name"] for sweep in sweeps.values())]
        page = self.remote.url.replace("://api.", "://", 1)
        return f"{page}/{'/'.join(quote(part, safe='') for part in parts)}"

    def _ensure_sweep(self, sweep: SweepRow) -> SweepThere:
        """The sweep on the other server: the one that an earlier push made, or a new one."""
        key = f"{self.name or self.remote.url}/{self.entity}/{self.project} {sweep['name']}"
        memory = self.root / "pushed.json"
        pushed = json.loads(memory.read_text(encoding="utf-8")) if memory.exists() else {}
        if key in pushed:
            found = self.remote.graphql(answers.SweepFound, SWEEP, sweep=pushed[key], **self.place)["project"]
            if found and found["sweep"]:
                return found["sweep"]
        answer = self.remote.graphql(
            answers.UpsertSweep,
            UPSERT_SWEEP,
            config=sweep["config"],
            description=sweep["description"],
            displayName=sweep["display_name"],
            **self.place,
        )
        made = answer["upsertSweep"]["sweep"]
        pushed[key] = made["name"]
        draft = memory.with_suffix(".draft")
        draft.write_text(json.dumps(pushed, indent=1) + "\n", encoding="utf-8")
        draft.replace(memory)
        return made


def _parts(path: str) -> list[str]:
    """Entity, project and sweep. Raises RequestError for a path of another form."""
    parts = path.strip("/").split("/")
    if len(parts) > 3 and parts[-2] == "sweeps":
        del parts[-2]
    if len(parts) < 3 or not all(parts):
        raise RequestError(f"a sweep to push is written as ENTITY/PROJECT/SWEEP, not {path}")
    return ["/".join(parts[:-2]), *parts[-2:]]


@contextmanager
def alone(root: Path, what: str) -> Iterator[None]:
    """Two pushes at a time would create the sweep twice. Raises RootError while another push, or pull, runs.

    what: "push" or "pull".
    """
    with (root / f"{what}ed.lock").open("a") as file:
        try:
            portalocker.lock(file, LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING)
        except portalocker.LockException:
            raise RootError(f"another {what} with {root} is running") from None
        yield
