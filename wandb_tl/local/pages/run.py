"""A run: curves, config and summary, media, console, files, artifacts, and how to repeat it."""

from __future__ import annotations

import re
import shlex
from typing import TypedDict

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import curves, plots
from wandb_tl.local.pages.media import Media
from wandb_tl.local.pages.values import Run, client_records
from wandb_tl.local.pages.view import Answer, Frame, Page, PageRequest
from wandb_tl.local.records.json_path import JsonObject
from wandb_tl.local.records.rows import Row
from wandb_tl.local.runs import console
from wandb_tl.local.runs.console import LogLine

LOG_LINES = 1000
# The colours and cursor movements that programs write for terminals.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class ConsoleLine(TypedDict):
    text: str
    error: bool


def find(request: PageRequest) -> Run:
    """The run that the address names. Raises RequestError (404) if there is none."""
    runs = request.runs(request.project(), [request.names[3]])
    if not runs:
        raise RequestError(f"There is no run {request.names[3]} in this project.", 404)
    return runs[0]


def run(request: PageRequest) -> Answer:
    """A run's page; with ?curves=, ?system= or ?plot= the data of a chart, with ?media= or ?html= a part."""
    run, db, query = find(request), request.db, request.query
    if key := query.get("curves"):
        return curves.of_runs(db, [run], key)
    if key := query.get("system"):
        return curves.system(db, run, key)
    media = Media(db, request.blobs, run)
    if key := query.get("plot"):
        return plots.read(media, key)
    if key := query.get("media"):
        line = query.get("line", "")
        items = media.at(key, int(line)) if line.isdecimal() and len(line) < 10 else []
        return Page("moment.html", {"items": items})
    if name := query.get("html"):
        return Frame(media.html(name))
    return page(request, run, media)


def page(request: PageRequest, run: Run, media: Media) -> Page:
    db, process = request.db, origin(run)
    common, families = curves.by_family(db, [run])
    plot_keys = plots.keys(run)
    tables = {f"{key}_table" for key in plot_keys}
    log = console.log_lines(db, run.row["id"], None, None, LOG_LINES)["edges"]
    return Page(
        "run.html",
        {
            "project": request.project(),
            "run": run,
            "common": common,
            "families": families,
            "system": curves.system_keys(db, run.row),
            "plots": plot_keys,
            "strips": [strip for strip in media.strips() if strip.key not in tables],
            "log": [console_line(edge["node"]) for edge in log],
            "log_start": log[0]["node"]["number"] if log else 0,
            "files": files(request, run),
            "artifacts": [(role, artifacts(request, run, role)) for role in ("output", "input")],
            "origin": process,
            "machine": [process[name] for name in ("host", "os", "python", "gpu") if process.get(name)],
            "command": command(run),
            "live": run.live,
        },
    )


def act(request: PageRequest, form: dict[str, str]) -> None:
    """Ask the run to stop: its script gets a KeyboardInterrupt within fifteen seconds."""
    run = find(request)
    if form.get("stop") and run.live:
        request.db.update("run", run.row["id"], stop_requested=1)


def console_line(line: LogLine) -> ConsoleLine:
    """A console line without the codes for terminals; of a progress bar, the last state."""
    text = ESCAPES.sub("", line["line"]).rstrip("\r\n").rpartition("\r")[2]
    return {"text": text, "error": line["level"] == "error"}


def files(request: PageRequest, run: Run) -> list[Row]:
    """The run's files with their addresses."""
    rows = request.db.all(
        "SELECT file.name, blob.id, blob.size FROM file JOIN blob ON blob.id = file.blob_id"
        " WHERE run_id = ? AND uploaded_at IS NOT NULL ORDER BY file.name",
        run.row["id"],
    )
    return [row | {"url": request.blobs.addresses.url("", "GET", row["id"])} for row in rows]


def artifacts(request: PageRequest, run: Run, role: str) -> list[Row]:
    """The versions that the run logged ("output") or used ("input")."""
    return request.db.all(
        "SELECT collection.name, artifact.version_index, artifact.size, artifact_type.name AS type,"
        " project.entity, project.name AS project FROM run_artifact"
        " JOIN artifact ON artifact.id = run_artifact.artifact_id AND artifact.state = 'COMMITTED'"
        " JOIN collection ON collection.id = artifact.sequence_id"
        " JOIN artifact_type ON artifact_type.id = collection.type_id"
        " JOIN project ON project.id = collection.project_id"
        " WHERE run_artifact.run_id = ? AND role = ? ORDER BY run_artifact.id",
        run.row["id"],
        role,
    )


def origin(run: Run) -> JsonObject:
    """The client's record of the process that started the run: host, os, python, program, args, git, ..."""
    writers = [writer for writer in client_records(run.row, "e", dict).values() if isinstance(writer, dict)]
    return min(writers, key=lambda writer: str(writer.get("startedAt") or ""), default={})


def command(run: Run) -> str | None:
    """The command line that started the run, as typed in its folder; None if it cannot be typed again."""
    process = origin(run)
    program = process.get("program")
    # "<python with no main file>": the run was started in an interpreter.
    if not isinstance(program, str) or not program or program.startswith("<"):
        return None
    # A module is recorded as "-m NAME", a script by its path.
    parts = program.split() if program.startswith("-m ") else [process.get("codePathLocal") or program]
    return shlex.join(map(str, [process.get("executable") or "python", *parts, *(process.get("args") or [])]))
