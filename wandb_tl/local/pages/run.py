"""A run: curves, config and summary, media, console, files, artifacts, and how to repeat it."""

from __future__ import annotations

import shlex

from wandb_tl.local.artifacts import run_deletion
from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import curves, plots, table_page
from wandb_tl.local.pages.console_lines import last_lines
from wandb_tl.local.pages.media import SUMMARY, Media, slider_of
from wandb_tl.local.pages.values import Run, client_records
from wandb_tl.local.pages.view import Acted, Answer, Frame, Page, PageRequest
from wandb_tl.local.records.json_path import JsonObject
from wandb_tl.local.records.rows import Row
from wandb_tl.local.runs import alerts, run_rows
from wandb_tl.local.sweeps import sweep_config
from wandb_tl.local.sweeps.sweep_states import SweepState

LOG_LINES = 1000
# Of the config and of the summary; and of files.
VALUES, FILES = 2000, 1000
# The parts of the client's record of a process that the page shows, and their types.
ORIGIN: dict[str, type] = dict.fromkeys(
    ("host", "os", "python", "gpu", "program", "codePathLocal", "executable", "root"), str
)
ORIGIN |= {"args": list, "git": dict}


def find(request: PageRequest) -> Run:
    """The run that the address names. Raises RequestError (404) if there is none."""
    runs = request.runs(request.project(), [request.names[3]])
    if not runs:
        raise RequestError(f"There is no run {request.names[3]} in this project.", 404)
    return runs[0]


def run(request: PageRequest) -> Answer:
    """A run's page, or what its query asks for.

    ?curves=, ?system= or ?plot= is the data of a chart, ?media= or ?html= a part, ?table= a Table's page.
    """
    run, db, query = find(request), request.db, request.query
    if key := query.get("curves"):
        return curves.of_runs(db, [run], key, x=query.get("x"), reader=request.reader)
    if key := query.get("system"):
        return curves.system(db, run, key, request.reader)
    media = Media(request, run)
    if key := query.get("plot"):
        return plots.read(media, key)
    if key := query.get("media"):
        line = query.get("line", "")
        items = media.at(key, int(line) if line.isdecimal() and len(line) < 10 else SUMMARY)
        return Page("moment.html", {"items": items})
    if name := query.get("html"):
        return Frame(media.html(name))
    if key := query.get("table"):
        return table_page.of_run(request, run, media, key)
    return page(request, run, media)


def page(request: PageRequest, run: Run, media: Media) -> Page:
    db, process = request.db, origin(run)
    plot_keys = plots.keys(run)
    tables = {f"{key}_table" for key in plot_keys}
    strips = [strip for strip in media.strips() if strip.key not in tables]
    log = last_lines(db, run.row["id"], LOG_LINES)
    logged = artifacts(request, run, "output")
    return Page(
        "run.html",
        {
            "project": request.project(),
            "run": run,
            "metrics": curves.by_family(db, [run], request.query.get("charts", "")),
            "system": curves.system_keys(db, run.row),
            "plots": plot_keys,
            "value_rows": VALUES,
            "file_rows": FILES,
            "strips": strips,
            "slider": slider_of(strips),
            "notes": plots.notes(run),
            "log": [line for _, line in log],
            "log_start": log[0][0] if log else 0,
            "files": files(request, run),
            "artifacts": [("output", logged), ("input", artifacts(request, run, "input"))],
            "logged": len(logged),
            "alerts": alerts.of_run(db, run.row["id"]),
            "point_returns": _is_point_of_grid(request, run),
            "origin": process,
            "machine": [process[name] for name in ("host", "os", "python", "gpu") if process.get(name)],
            "command": command(run),
            "live": run.live,
        },
    )


def act(request: PageRequest, form: dict[str, str]) -> Acted:
    """Stop the run, change what a person says of it, or delete it, by the button that was pressed.

    A run that stops gets a KeyboardInterrupt within fifteen seconds. Raises RequestError for a name or tag
    that is not valid, for a run that is still running, and without the tick that confirms a deletion.
    """
    run, db = find(request), request.db
    if "stop" in form and run.live:
        db.update("run", run.row["id"], stop_requested=1)
    elif "describe" in form:
        tags = form.get("tags", "").split(",")
        run_rows.describe(db, run.row, form.get("name", ""), tags, form.get("notes", ""))
    elif "delete" in form:
        if run.live:
            raise RequestError("The run is still running: stop it before you delete it.", 409)
        if form["delete"] != run.id or "sure" not in form:
            raise RequestError("Nothing was deleted: the deletion was not confirmed.", 400)
        unused = run_deletion.delete(db, run.row, with_artifacts="artifacts" in form)
        project = request.project()
        home = (project["entity"], project["name"], *(("sweeps", run.sweep) if run.sweep else ()))
        return Acted(home, tuple(unused))
    return Acted()


def _is_point_of_grid(request: PageRequest, run: Run) -> bool:
    """Whether the run's sweep hands out the run's point again once the run is deleted."""
    sweep = request.db.get("sweep", run.row["sweep_id"])
    if sweep is None or run.row["sweep_args"] is None or sweep["state"] == SweepState.CANCELED:
        return False
    return sweep_config.parse(sweep["config"])["method"] == "grid"


def files(request: PageRequest, run: Run) -> list[Row]:
    """The run's files with their addresses."""
    rows = request.db.all(
        "SELECT file.name, blob.id, blob.size FROM file JOIN blob ON blob.id = file.blob_id"
        " WHERE run_id = ? AND uploaded_at IS NOT NULL ORDER BY file.name",
        run.row["id"],
    )
    return [row | {"url": request.file(row["id"])} for row in rows]


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
    first: JsonObject = min(writers, key=lambda writer: str(writer.get("startedAt") or ""), default={})
    kinds = ORIGIN.items()
    return {name: first[name] for name, kind in kinds if isinstance(first.get(name), kind)}


def command(run: Run) -> str | None:
    """The command line that started the run, as typed in its folder; None if it cannot be typed again."""
    process = origin(run)
    program = process.get("program")
    # "<python with no main file>": the run was started in an interpreter.
    if not program or program.startswith("<"):
        return None
    # A module is recorded as "-m NAME", a script by its path.
    parts = program.split() if program.startswith("-m ") else [process.get("codePathLocal") or program]
    return shlex.join(map(str, [process.get("executable") or "python", *parts, *(process.get("args") or [])]))
