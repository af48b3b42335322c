"""python -m wandb_tl.local push: a finished sweep of a root, taken to another W&B server.

Runs keep their ids, and their lines go as they are kept here, non-finite numbers included. A push that was
interrupted goes on where it was when it is started again: the other server is asked what it has. Which sweep
stands there for one of this root is remembered in ROOT/pushed.json and not in the database, which has only
one writer.

The protocol has no way to say when a run was made, which agent ran it, or that it crashed: it becomes one of
now, without an agent, that failed. Links of versions to other collections stay behind, too.
"""

from __future__ import annotations

import fcntl
import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tqdm import tqdm

from wandb_tl.local import root as roots
from wandb_tl.local.artifacts.blobs import stored_at
from wandb_tl.local.errors import RemoteError, RequestError, RootError
from wandb_tl.local.push.artifact_push import ArtifactPush
from wandb_tl.local.push.remote import Remote
from wandb_tl.local.records.database import Database, Row
from wandb_tl.local.records.names import project_named
from wandb_tl.local.records.run_states import ENDED_KNOWINGLY, IS_LIVE, LIVE, exit_code_of
from wandb_tl.local.records.streams import EVENTS, HISTORY, OUTPUT, SUMMARY, line_count
from wandb_tl.local.runs.history import log_line

# Servers take bodies of about 10 MB; JSON in JSON may need three bytes for one.
PIECE_LINES = 2000
PIECE_BYTES = 3_000_000
FILES_AT_ONCE = 200

WHO = "query PushViewer { viewer { entity } serverInfo { features { name isEnabled } } }"

SWEEP = """query PushSweep($entity: String, $project: String, $sweep: String!) {
  project(name: $project, entityName: $entity) { sweep(sweepName: $sweep) { id name } } }"""

UPSERT_SWEEP = """mutation UpsertSweep($id: ID, $config: String, $description: String, $entity: String,
    $project: String, $displayName: String, $state: String) {
  upsertSweep(input: {id: $id, config: $config, description: $description, entityName: $entity,
      projectName: $project, displayName: $displayName, state: $state}) {
    sweep { id name project { name entity { name } } } configValidationWarnings } }"""

RUN = """query PushRun($entity: String, $project: String, $run: String!) {
  model(name: $project, entityName: $entity) { bucket(name: $run, missingOk: true) {
    id state sweepName historyLineCount eventsLineCount logLineCount } } }"""

RUN_FILES = """query PushFiles($entity: String, $project: String, $run: String!, $after: String) {
  project(name: $project, entityName: $entity) { run(name: $run) { files(first: 500, after: $after) {
    edges { node { name md5 } } pageInfo { endCursor hasNextPage } } } } }"""

UPSERT_RUN = """mutation UpsertBucket($id: String, $name: String, $project: String, $entity: String,
    $groupName: String, $description: String, $displayName: String, $notes: String, $commit: String,
    $config: JSONString, $host: String, $program: String, $repo: String, $jobType: String, $sweep: String,
    $tags: [String!]) {
  upsertBucket(input: {id: $id, name: $name, modelName: $project, entityName: $entity, groupName: $groupName,
      description: $description, displayName: $displayName, notes: $notes, commit: $commit, config: $config,
      host: $host, jobProgram: $program, jobRepo: $repo, jobType: $jobType, sweep: $sweep, tags: $tags}) {
    bucket { id } inserted } }"""

CREATE_FILES = """mutation CreateRunFiles($entity: String!, $project: String!, $run: String!,
    $files: [String!]!) {
  createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) {
    runID uploadHeaders files { name uploadUrl } } }"""


def push(options: Namespace) -> int:
    """The command. Prints the sweep's address there; returns the exit code, 1 after a one-line error."""
    try:
        print(prepare(options.root, options.sweep, options.to, options.into).push())
    except (RemoteError, RequestError, RootError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; push again to go on", file=sys.stderr)
        return 130
    return 0


def prepare(root: Path, path: str, to: str, into: str | None) -> SweepPush:
    """The push of the sweep at `path`, with both ends looked at.

    Raises RemoteError, RequestError or RootError, in one line, where nothing can be pushed.
    """
    if not (root / "wandb.sqlite").exists():
        raise RootError(f"there are no records in {root}")
    database = Database(root / "wandb.sqlite", read_only=True)
    entity, project, name = _three(path)
    with database.transaction() as db:
        home = project_named(db, entity, project)
        query = "SELECT * FROM sweep WHERE project_id = ? AND name = ?"
        sweep = home and db.one(query, home["id"], name)
        if sweep is None:
            raise RequestError(f"there is no sweep {path} in {root}")
        runs = db.all(
            f"SELECT * FROM run WHERE sweep_id = ? AND (started_at IS NOT NULL OR {IS_LIVE}) ORDER BY id",
            sweep["id"],
        )
    live = sum(run["state"] in LIVE for run in runs)
    if live:
        raise RequestError(
            f"{live} of the sweep's runs have not ended: stop the sweep, or wait, and push then"
        )
    remote = Remote(to)
    who = remote.graphql(WHO)
    if not who.get("viewer"):
        raise RemoteError(f"{remote.url} does not know this API key: run `wandb login --relogin`")
    features = {item["name"] for item in who["serverInfo"]["features"] if item["isEnabled"]}
    own_entity, _, own_project = (into or f"{who['viewer']['entity']}/{project}").rpartition("/")
    if not own_entity or not own_project or "/" in own_entity:
        raise RequestError(f"--as takes ENTITY/PROJECT, not {into}")
    if remote.url == roots.server_url(root) and (entity, project) == (own_entity, own_project):
        raise RequestError("that is where the sweep is already; choose another project with --as")
    return SweepPush(root, database, sweep, runs, remote, features, own_entity, own_project)


@dataclass
class SweepPush:
    """One sweep on its way from a root to `entity`/`project` of a server that has these `features`."""

    root: Path
    database: Database
    sweep: Row
    runs: list[Row]
    remote: Remote
    features: set[str]
    entity: str
    project: str

    @property
    def place(self) -> Row:
        return {"entity": self.entity, "project": self.project}

    def push(self) -> str:
        """Take everything over; returns the address of the sweep's page."""
        with _alone(self.root):
            sweep = self._ensure_sweep()
            artifacts = ArtifactPush(
                self.database, self.root, self.remote, self.entity, self.project, self.runs
            )
            total = len(self.runs) + len(artifacts)
            with tqdm(total=total, unit=" runs and artifacts", disable=not sys.stderr.isatty()) as bar:
                for run in self.runs:
                    self._push_run(run, sweep["name"])
                    bar.update()
                for _ in artifacts.push(with_tags="ARTIFACT_TAGS" in self.features):
                    bar.update()
            self.remote.graphql(UPSERT_SWEEP, id=sweep["id"], state="FINISHED", **self.place)
        page = self.remote.url.replace("://api.", "://", 1)
        where = "/".join(
            quote(part, safe="") for part in (self.entity, self.project, "sweeps", sweep["name"])
        )
        return f"{page}/{where}"

    # ---- the sweep ---------------------------------------------------------------------------------------

    def _ensure_sweep(self) -> Row:
        """{id, name} of the sweep there: the one that an earlier push made, if it is still there."""
        key = f"{self.remote.url}/{self.entity}/{self.project} {self.sweep['name']}"
        memory = self.root / "pushed.json"
        pushed = json.loads(memory.read_text(encoding="utf-8")) if memory.exists() else {}
        if key in pushed:
            project = self.remote.graphql(SWEEP, sweep=pushed[key], **self.place)["project"]
            if project and project["sweep"]:
                return project["sweep"]
        made = self.remote.graphql(
            UPSERT_SWEEP,
            config=self.sweep["config"],
            description=self.sweep["description"],
            displayName=self.sweep["display_name"],
            **self.place,
        )["upsertSweep"]["sweep"]
        pushed[key] = made["name"]
        draft = memory.with_suffix(".draft")
        draft.write_text(json.dumps(pushed, indent=1) + "\n", encoding="utf-8")
        draft.replace(memory)
        return made

    # ---- a run -------------------------------------------------------------------------------------------

    def _push_run(self, run: Row, sweep: str) -> None:
        there = self._run_there(run, sweep)
        counts = {stream: there[f"{name}LineCount"] if there else 0 for stream, name in COUNTED.items()}
        with self.database.transaction() as db:
            complete = all(line_count(db, run["id"], stream) == count for stream, count in counts.items())
        if there and complete and there["state"] in ENDED_KNOWINGLY:
            return
        self.remote.graphql(
            UPSERT_RUN,
            id=there and there["id"],
            name=run["name"],
            groupName=run["group_name"],
            description=run["description"],
            displayName=run["display_name"],
            notes=run["notes"],
            commit=run["commit_hash"],
            config=run["config"],
            host=run["host"] or "",
            program=run["program"],
            repo=run["repo"],
            jobType=run["job_type"],
            sweep=sweep,
            tags=json.loads(run["tags"]),
            **self.place,
        )
        for stream, start in counts.items():
            for offset, lines in self._pieces(run, stream, start):
                self._stream(run, files={stream: {"offset": offset, "content": lines}})
        if run["summary"] != "{}":
            self._stream(run, files={SUMMARY: {"offset": 0, "content": [run["summary"]]}})
        self._push_files(run, known=there is not None)
        self._stream(run, complete=True, exitcode=exit_code_of(run))

    def _run_there(self, run: Row, sweep: str) -> Row | None:
        project = self.remote.graphql(RUN, run=run["name"], **self.place)["model"]
        there = project and project["bucket"]
        if there and there["sweepName"] != sweep:
            raise RemoteError(
                f"{self.entity}/{self.project} has a run {run['name']} that this push did not make;"
                " choose another project with --as"
            )
        return there

    def _stream(self, run: Row, **body: Any) -> None:
        self.remote.stream(self.entity, self.project, run["name"], **body)

    def _pieces(self, run: Row, stream: str, start: int) -> Iterator[tuple[int, list[str]]]:
        """The stream's lines from `start` on as (offset, lines that follow one another)."""
        plain = stream == OUTPUT and "STRUCTURED_CONSOLE_LOGS" not in self.features
        query = (
            "SELECT line, text FROM stream_line WHERE run_id = ? AND stream = ? AND line >= ?"
            " ORDER BY line LIMIT ?"
        )
        while True:
            with self.database.transaction() as db:
                rows = db.all(query, run["id"], stream, start, PIECE_LINES)
            if not rows:
                return
            yield from cut((row["line"], _plain(row["text"]) if plain else row["text"]) for row in rows)
            start = rows[-1]["line"] + 1

    def _push_files(self, run: Row, known: bool) -> None:
        """Upload the run's files, but not those that are `known` to be there."""
        there = dict(self._files_there(run)) if known else {}
        with self.database.transaction() as db:
            rows = db.all(
                "SELECT file.name, file.blob_id, blob.md5 FROM file JOIN blob ON blob.id = file.blob_id"
                " WHERE file.run_id = ? AND blob.uploaded_at IS NOT NULL ORDER BY file.id",
                run["id"],
            )
        missing = {row["name"]: row["blob_id"] for row in rows if there.get(row["name"]) != row["md5"]}
        names = list(missing)
        for start in range(0, len(names), FILES_AT_ONCE):
            batch = names[start : start + FILES_AT_ONCE]
            made = self.remote.graphql(CREATE_FILES, run=run["name"], files=batch, **self.place)
            made = made["createRunFiles"]
            self.remote.put(
                (
                    file["uploadUrl"],
                    made["uploadHeaders"],
                    stored_at(self.root / "blobs", missing[file["name"]]),
                )
                for file in made["files"]
            )
            self._stream(run, uploaded=batch)

    def _files_there(self, run: Row) -> Iterator[tuple[str, str | None]]:
        after = None
        while True:
            project = self.remote.graphql(RUN_FILES, run=run["name"], after=after, **self.place)["project"]
            page = project["run"]["files"]
            yield from ((edge["node"]["name"], edge["node"]["md5"]) for edge in page["edges"])
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                return


# The streams whose lines are counted, and the fields that count them.
COUNTED = {HISTORY: "history", EVENTS: "events", OUTPUT: "log"}


def _three(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    if len(parts) > 3 and parts[-2] == "sweeps":
        del parts[-2]
    if len(parts) < 3 or not all(parts):
        raise RequestError(f"a sweep to push is written as ENTITY/PROJECT/SWEEP, not {path}")
    return ["/".join(parts[:-2]), *parts[-2:]]


def cut(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Numbered lines as (number of the first, lines that follow one another), of PIECE_BYTES at most."""
    first, piece, size = 0, [], 0
    for number, text in lines:
        length = len(text.encode())
        if piece and (number != first + len(piece) or size + length > PIECE_BYTES):
            yield first, piece
            piece, size = [], 0
        if not piece:
            first = number
        piece.append(text)
        size += length
    if piece:
        yield first, piece


def _plain(text: str) -> str:
    """A console line as servers without structured lines keep it."""
    line = log_line(0, text)
    return f"{'ERROR ' if line['level'] == 'error' else ''}{line['timestamp']} {line['line']}"


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Two pushes at a time would make two sweeps of one. Raises RootError where another push runs."""
    with (root / "pushed.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RootError(f"another push from {root} is going on") from None
        yield
