"""Read a project or a sweep of another server into a folder of its own, from which it is then pushed.

A run that an interrupted pull has read is not read again. Names from the other server are labels in the
database, never paths; its answers are checked, see answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from wandb_tl.local.artifacts.blobs import Blobs, new_blob
from wandb_tl.local.errors import RemoteError
from wandb_tl.local.push import answers
from wandb_tl.local.push.answers import ConsoleLine, RunFilePulled, RunPulled
from wandb_tl.local.push.remote import MOST_PAGES, Download, Remote
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.json_path import whole
from wandb_tl.local.records.names import ensure_project, run_named
from wandb_tl.local.records.rows import ProjectRow
from wandb_tl.local.records.run_states import ENDED, ENDED_KNOWINGLY, RunState
from wandb_tl.local.records.streams import EVENTS, HISTORY, OUTPUT
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs.history import write_lines
from wandb_tl.local.runs.lines import Line, parse
from wandb_tl.local.sweeps.sweep_states import SweepState
from wandb_tl.local.upkeep.file_check import digests_of

STEPS_AT_ONCE = 1000
LINES_AT_ONCE = 5000

SWEEP = """query PullSweep($entity: String, $project: String, $sweep: String!) {
  project(name: $project, entityName: $entity) { sweep(sweepName: $sweep) {
    name config displayName description } } }"""

RUNS = """query PullRuns($entity: String, $project: String, $filters: JSONString, $after: String) {
  project(name: $project, entityName: $entity) {
    runs(filters: $filters, first: 50, after: $after, order: "+created_at") {
    edges { node { name displayName state config summaryMetrics tags group jobType description notes commit
      host sweepName eventsLineCount historyKeys } } pageInfo { endCursor hasNextPage } } } }"""

OF_RUN = """query PullRun($entity: String, $project: String, $run: String!, %s) {
  project(name: $project, entityName: $entity) { run(name: $run) { %s } } }"""
HISTORY_PAGE = OF_RUN % (
    "$from: Int64, $to: Int64, $samples: Int",
    "lines: history(minStep: $from, maxStep: $to, samples: $samples)",
)
EVENT_LINES = OF_RUN % ("$samples: Int", "lines: events(samples: $samples)")
CONSOLE = OF_RUN % (
    "$after: String",
    f"""logLines(first: {LINES_AT_ONCE}, after: $after) {{
    edges {{ node {{ number timestamp level label line }} }} pageInfo {{ endCursor hasNextPage }} }}""",
)
FILES = OF_RUN % (
    "$after: String",
    """files(first: 200, after: $after) { edges { node { name md5 sizeBytes directUrl } }
    pageInfo { endCursor hasNextPage } }""",
)


@dataclass
class RunPull:
    """Reads runs of `entity`/`project` of a server into a database and its blobs."""

    database: Database
    blobs: Blobs
    remote: Remote
    entity: str
    project: str

    @property
    def place(self) -> dict[str, str]:
        return {"entity": self.entity, "project": self.project}

    def pull(self, sweep: str | None) -> Iterator[str]:
        """Read the runs of a sweep, or of the whole project.

        Yields the names of runs that have not ended: they are left out. Raises RemoteError if there is no
        such sweep.
        """
        if sweep:
            self._sweep(sweep)
        filters = json.dumps({"sweep": sweep} if sweep else {})
        runs = self.remote.pages(RunPulled, RUNS, "project", "runs", filters=filters, **self.place)
        for run in runs:
            if run["state"] not in (*ENDED, *ENDED_KNOWINGLY):
                yield run["name"]
                continue
            with self.database.transaction() as db:
                there = run_named(db, ensure_project(db, self.entity, self.project), run["name"])
            if there is None:
                self._run(run)

    def _sweep(self, name: str) -> int:
        """The row of a sweep in the database."""
        with self.database.transaction() as db:
            row_id = db.value("SELECT id FROM sweep WHERE name = ?", name)
            if row_id is not None:
                return int(row_id)
        project = self.remote.graphql(answers.SweepToPull, SWEEP, sweep=name, **self.place)["project"]
        sweep = project and project["sweep"]
        if not sweep:
            raise RemoteError(f"there is no sweep {self.entity}/{self.project}/{name} at {self.remote.url}")
        with self.database.transaction() as db:
            return db.insert(
                "sweep",
                project_id=ensure_project(db, self.entity, self.project)["id"],
                name=name,
                display_name=sweep["displayName"],
                description=sweep["description"],
                config=sweep["config"],
                state=SweepState.FINISHED,
                created_at=db.now,
                updated_at=db.now,
            )

    def _run(self, run: RunPulled) -> None:
        """Read a run; it is in the database when it is there in full."""
        sweep_id = self._sweep(run["sweepName"]) if run["sweepName"] else None
        of_run = {**self.place, "run": run["name"]}
        files = self.remote.pages(RunFilePulled, FILES, "project", "run", "files", **of_run)
        stored = {file["name"]: self._download(file) for file in files}
        with self.database.transaction() as db:
            project = ensure_project(db, self.entity, self.project)
            self._insert(db, project, run, sweep_id)
            row = run_named(db, project, run["name"])
            assert row is not None
            for start, lines in self._history(run, of_run):
                write_lines(db, row, HISTORY, start, [parse(HISTORY, text) for text in lines])
            write_lines(db, row, EVENTS, 0, [parse(EVENTS, text) for text in self._events(run, of_run)])
            for line in self.remote.pages(ConsoleLine, CONSOLE, "project", "run", "logLines", **of_run):
                write_lines(db, row, OUTPUT, line["number"], [Line(_console_line(line))])
            for name, blob_id in stored.items():
                db.insert("file", run_id=row["id"], name=name, blob_id=blob_id)

    def _insert(self, db: Transaction, project: ProjectRow, run: RunPulled, sweep_id: int | None) -> None:
        is_known = run["state"] in list(RunState)
        db.insert(
            "run",
            project_id=project["id"],
            name=run["name"],
            display_name=run["displayName"] or run["name"],
            state=run["state"] if is_known else RunState.FAILED,
            config=run["config"] or "{}",
            summary=run["summaryMetrics"] or "{}",
            tags=json.dumps(run["tags"] or []),
            group_name=run["group"],
            job_type=run["jobType"],
            description=run["description"],
            notes=run["notes"],
            commit_hash=run["commit"],
            host=run["host"],
            sweep_id=sweep_id,
            created_at=db.now,
            started_at=db.now,
        )

    def _history(self, run: RunPulled, of_run: dict[str, str]) -> Iterator[tuple[int, list[str]]]:
        last = whole((run["historyKeys"] or {}).get("lastStep"))
        if last is not None and last >= MOST_PAGES * STEPS_AT_ONCE:
            raise RemoteError(f"run {run['name']} has {last} steps: too many to pull")
        line = 0
        for start in range(0, 0 if last is None else last + 1, STEPS_AT_ONCE):
            page = {"from": start, "to": start + STEPS_AT_ONCE, "samples": STEPS_AT_ONCE}
            answer = self.remote.graphql(answers.LinesPulled, HISTORY_PAGE, **page, **of_run)
            lines = answer["project"]["run"]["lines"]
            yield line, lines
            line += len(lines)

    def _events(self, run: RunPulled, of_run: dict[str, str]) -> list[str]:
        samples = max(run["eventsLineCount"] or 0, 1)
        answer = self.remote.graphql(answers.LinesPulled, EVENT_LINES, samples=samples, **of_run)
        return answer["project"]["run"]["lines"]

    def _download(self, file: RunFilePulled) -> str:
        """Download a file into a blob of its own; returns its id."""
        with self.database.transaction() as db:
            blob_id = new_blob(db, file["name"])
        self.fetch(file["directUrl"], blob_id, file["name"], file["md5"], file["sizeBytes"])
        return blob_id

    def fetch(self, address: str, blob_id: str, name: str, digest: str | None, size: int | None) -> None:
        """Download the bytes of a blob. Raises RemoteError for another digest and more bytes than `size`."""
        place = self.blobs.path(blob_id)
        place.parent.mkdir(exist_ok=True)
        self.remote.get(Download(address, place, size))
        digests = digests_of(place)
        if digests is None or digest not in (None, digests.md5, digests.xxh128):
            raise RemoteError(f"the bytes of {name} do not have the digest {digest}; start the command again")
        with self.database.transaction() as db:
            values = (digests.size, digests.md5, digests.xxh128, db.now, blob_id)
            db.run("UPDATE blob SET size = ?, md5 = ?, digest = ?, uploaded_at = ? WHERE id = ?", *values)


def _console_line(line: ConsoleLine) -> str:
    fields = {"ts": line["timestamp"], "content": line["line"]}
    rest = {"level": line["level"], "label": line["label"]}
    return json.dumps(fields | {name: text for name, text in rest.items() if text})
