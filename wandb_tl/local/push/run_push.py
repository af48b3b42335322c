"""Push a run: its config, summary, lines and files.

Lines are sent as they are stored, with their non-finite numbers. An interrupted push resumes where it
stopped: the other server reports how many lines and which files it has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wandb_tl.local.artifacts.blobs import stored_at
from wandb_tl.local.errors import RemoteError
from wandb_tl.local.push import answers
from wandb_tl.local.push.answers import RunThere
from wandb_tl.local.push.remote import Remote
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.rows import RunRow
from wandb_tl.local.records.run_states import ENDED_KNOWINGLY, exit_code_of
from wandb_tl.local.records.streams import EVENTS, HISTORY, OUTPUT, SUMMARY, line_count
from wandb_tl.local.runs.console import log_line

# Servers accept bodies of about 10 MB; JSON inside JSON can need three bytes for one.
PIECE_LINES = 2000
PIECE_BYTES = 3_000_000
FILES_AT_ONCE = 200

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


@dataclass
class RunPush:
    """Pushes runs of a root to `entity`/`project` of a server.

    structured_console: the server accepts console lines as JSON.
    """

    root: Path
    database: Database
    remote: Remote
    entity: str
    project: str
    structured_console: bool

    @property
    def place(self) -> dict[str, str]:
        return {"entity": self.entity, "project": self.project}

    def push(self, run: RunRow, sweep: str | None) -> None:
        """Push a run into the sweep of this name, or into none.

        Raises RemoteError if another run has its name.
        """
        there = self._run_there(run, sweep)
        counts = _line_counts(there)
        with self.database.transaction() as db:
            complete = all(line_count(db, run["id"], stream) == count for stream, count in counts.items())
        if there and complete and there["state"] in ENDED_KNOWINGLY:
            return
        self._upsert(run, sweep, there["id"] if there else None)
        for stream, start in counts.items():
            for offset, lines in self._pieces(run, stream, start):
                self._stream(run, files={stream: {"offset": offset, "content": lines}})
        if run["summary"] != "{}":
            self._stream(run, files={SUMMARY: {"offset": 0, "content": [run["summary"]]}})
        self._push_files(run, dict(self._files_there(run)) if there else {})
        self._stream(run, complete=True, exitcode=exit_code_of(run))

    def _upsert(self, run: RunRow, sweep: str | None, storage_id: str | None) -> None:
        self.remote.graphql(
            dict[str, Any],
            UPSERT_RUN,
            id=storage_id,
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

    def _run_there(self, run: RunRow, sweep: str | None) -> RunThere | None:
        project = self.remote.graphql(answers.RunFound, RUN, run=run["name"], **self.place)["model"]
        there = project and project["bucket"]
        if there and there["sweepName"] != sweep:
            raise RemoteError(
                f"{self.entity}/{self.project} has a run {run['name']} that this push did not make;"
                " choose another project with --as"
            )
        return there

    def _stream(self, run: RunRow, **body: Any) -> None:
        self.remote.stream(self.entity, self.project, run["name"], **body)

    def _pieces(self, run: RunRow, stream: str, start: int) -> Iterator[tuple[int, list[str]]]:
        """The stream's lines from `start` on as (offset, consecutive lines)."""
        plain = stream == OUTPUT and not self.structured_console
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

    def _push_files(self, run: RunRow, there: dict[str, str | None]) -> None:
        """Upload the run's files, except those that are `there`: name -> MD5."""
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
            answer = self.remote.graphql(
                answers.CreateRunFiles, CREATE_FILES, run=run["name"], files=batch, **self.place
            )
            created = answer["createRunFiles"]
            addresses = {file["name"]: file["uploadUrl"] for file in created["files"]}
            if set(addresses) != set(batch):
                raise RemoteError(f"{self.remote.url} names other files to upload than it was asked for")
            self.remote.put(
                (addresses[name], created["uploadHeaders"], stored_at(self.root / "blobs", missing[name]))
                for name in batch
            )
            self._stream(run, uploaded=batch)

    def _files_there(self, run: RunRow) -> Iterator[tuple[str, str | None]]:
        path = ("project", "run", "files")
        files = self.remote.pages(answers.FileThere, RUN_FILES, *path, run=run["name"], **self.place)
        return ((file["name"], file["md5"]) for file in files)


def _line_counts(there: RunThere | None) -> dict[str, int]:
    """How many lines of each stream the other server has."""
    if there is None:
        return dict.fromkeys((HISTORY, EVENTS, OUTPUT), 0)
    return {
        HISTORY: there["historyLineCount"],
        EVENTS: there["eventsLineCount"],
        OUTPUT: there["logLineCount"],
    }


def cut(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Numbered lines as (number of the first, consecutive lines), in pieces of at most PIECE_BYTES."""
    piece: list[str] = []
    first, size = 0, 0
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
    """A console line in the format of servers without structured lines."""
    line = log_line(0, text)
    return f"{'ERROR ' if line['level'] == 'error' else ''}{line['timestamp']} {line['line']}"
