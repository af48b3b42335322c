"""A run: curves, config and summary, media, console, files, artifacts, and how to repeat it."""

from __future__ import annotations

import re
import shlex
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import curves, plots
from wandb_tl.local.pages.media import Media
from wandb_tl.local.pages.values import Run, told
from wandb_tl.local.pages.view import Answer, Asked, Frame, Page
from wandb_tl.local.records.database import Row
from wandb_tl.local.runs import history

LOG_LINES = 1000
# Colours and cursor movements that programs write for terminals.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def find(asked: Asked) -> Run:
    """The run that the address names. Raises RequestError (404) where there is none."""
    found = asked.runs(asked.project(), [asked.names[3]])
    if not found:
        raise RequestError(f"There is no run {asked.names[3]} in this project.", 404)
    return found[0]


def run(asked: Asked) -> Answer:
    """A run's page; with ?curves=, ?system= or ?plot= the data of a chart, with ?media= or ?html= a part."""
    found, project = find(asked), asked.project()
    db = asked.db
    if key := asked.query.get("curves"):
        return curves.of_runs(db, [found], key)
    if key := asked.query.get("system"):
        return curves.system(db, found, key)
    media = Media(db, asked.blobs, found)
    if key := asked.query.get("plot"):
        return plots.read(media, key)
    if key := asked.query.get("media"):
        line = asked.query.get("line", "")
        shown = media.at(key, int(line)) if line.isdecimal() and len(line) < 10 else []
        return Page("moment.html", {"shown": shown})
    if name := asked.query.get("html"):
        return Frame(media.html(name))
    common, families = curves.by_family(db, [found])
    drawn = plots.keys(found)
    tables = {f"{key}_table" for key in drawn}
    log = history.log_lines(db, found.row["id"], None, None, LOG_LINES)["edges"]
    return Page(
        "run.html",
        {
            "project": project,
            "run": found,
            "common": common,
            "families": families,
            "system": curves.system_keys(db, found.row),
            "plots": drawn,
            "strips": [strip for strip in media.strips() if strip.key not in tables],
            "log": [console_line(edge["node"]) for edge in log],
            "log_start": log[0]["node"]["number"] if log else 0,
            "files": files(asked, found),
            "artifacts": [(role, artifacts(asked, found, role)) for role in ("output", "input")],
            "origin": origin(found),
            "machine": [
                origin(found)[name] for name in ("host", "os", "python", "gpu") if origin(found).get(name)
            ],
            "command": command(found),
            "live": found.live,
        },
    )


def act(asked: Asked, form: dict[str, str]) -> None:
    """Ask the run to stop: its script gets a KeyboardInterrupt within fifteen seconds."""
    found = find(asked)
    if form.get("stop") and found.live:
        asked.db.update("run", found.row["id"], stop_requested=1)


def console_line(node: Row) -> Row:
    """A console line without what only a terminal understands; of a progress bar, its last state."""
    text = ESCAPES.sub("", node["line"]).rstrip("\r\n").rpartition("\r")[2]
    return {"text": text, "error": node["level"] == "error"}


def files(asked: Asked, run: Run) -> list[Row]:
    """The run's files with their addresses."""
    rows = asked.db.all(
        "SELECT file.name, blob.id, blob.size FROM file JOIN blob ON blob.id = file.blob_id"
        " WHERE run_id = ? AND uploaded_at IS NOT NULL ORDER BY file.name",
        run.row["id"],
    )
    return [row | {"url": asked.blobs.url("", "GET", row["id"])} for row in rows]


def artifacts(asked: Asked, run: Run, role: str) -> list[Row]:
    """The versions that the run logged ("output") or used ("input")."""
    return asked.db.all(
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


def origin(run: Run) -> dict[str, Any]:
    """What the client told of the process that began the run: host, os, python, program, args, git, ..."""
    writers = [writer for writer in told(run.row, "e", dict).values() if isinstance(writer, dict)]
    return min(writers, key=lambda writer: str(writer.get("startedAt") or ""), default={})


def command(run: Run) -> str | None:
    """The command line that began the run, as it was typed in its folder."""
    known = origin(run)
    program = known.get("program")
    # "<python with no main file>": what was typed into an interpreter cannot be typed again.
    if not isinstance(program, str) or not program or program.startswith("<"):
        return None
    # A module is recorded as "-m NAME"; a script by its path.
    parts = program.split() if program.startswith("-m ") else [known.get("codePathLocal") or program]
    return shlex.join(map(str, [known.get("executable") or "python", *parts, *(known.get("args") or [])]))
