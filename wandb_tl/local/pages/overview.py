"""Home, an entity's projects, and a project: its sweeps, its table of runs, and the curves of chosen runs."""

from __future__ import annotations

from urllib.parse import urlencode

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import curves, report, runs_table
from wandb_tl.local.pages.values import read_runs
from wandb_tl.local.pages.view import Answer, Page, PageRequest, path
from wandb_tl.local.records.database import Transaction
from wandb_tl.local.records.rows import ProjectRow, SweepRow
from wandb_tl.local.records.run_states import IS_FINISHED
from wandb_tl.local.sweeps import sweep_config
from wandb_tl.local.sweeps.sweep_rows import expected_runs
from wandb_tl.local.sweeps.sweep_states import HANDED_OUT

# The number of runs with curves, unless the reader chooses the runs.
COMPARED = 10


class SweepCounts(SweepRow):
    """A sweep and the numbers of its runs; `finished` is None for a sweep without runs."""

    runs: int
    finished: int | None


class ListedSweep(SweepCounts):
    """A sweep with the rest of its line in a list. `expected` is None for a sweep without an end."""

    method: str
    metric: str | None
    expected: int | None


def home(request: PageRequest) -> Answer:
    """All projects, or those of one entity, the most recently active one first."""
    entity = request.names[0] if request.names else None
    projects = request.db.all(
        "SELECT project.*, count(run.id) AS runs, max(coalesce(run.heartbeat_at, project.created_at))"
        " AS last, (SELECT count(*) FROM sweep WHERE project_id = project.id) AS sweeps"
        " FROM project LEFT JOIN run ON run.project_id = project.id"
        " WHERE ?1 IS NULL OR project.entity = ?1 GROUP BY project.id ORDER BY last DESC",
        entity,
    )
    if entity and not projects:
        raise RequestError(f"There is no project of {entity} here.", 404)
    return Page("home.html", {"entity": entity, "projects": projects})


def project(request: PageRequest) -> Answer:
    """A project; with ?curves=KEY the curves of the runs that ?run= names."""
    db, project = request.db, request.project()
    ticked = request.query.getlist("run")
    if key := request.query.get("curves"):
        return curves.of_runs(db, request.runs(project, ticked), key)
    runs = read_runs(db, project)
    sweeps = listed_sweeps(db, project)
    metrics = [sweep["metric"] for sweep in sweeps if sweep["metric"]]
    table = runs_table.make(
        runs,
        request.query.get("sort", ""),
        request.query.get("filter", ""),
        request.page(),
        metrics[0] if metrics else None,
        request.query.get("columns") == "all",
    )
    compared = [run for run in runs if run.id in ticked] if ticked else table.page_runs[:COMPARED]
    common, families = curves.by_family(db, compared)
    return Page(
        "project.html",
        {
            "project": project,
            "sweeps": sweeps,
            "reports": report.reports(request, project),
            "view": report.workspace(request, project),
            "table": table,
            "total": len(runs),
            "ticked": set(ticked),
            "compared": compared,
            "common": common,
            "families": families,
            "runs_query": "&" + urlencode([("run", run.id) for run in compared]),
            "artifacts": db.value("SELECT count(*) FROM collection WHERE project_id = ?", project["id"]),
            "live": any(run.live for run in runs) or any(sweep["state"] in HANDED_OUT for sweep in sweeps),
        },
    )


def shortcut(request: PageRequest) -> Answer:
    """ENTITY/PROJECT/ID, as `wandb agent` and wandb.Api() take it: the sweep or the run with this id."""
    project, name = request.project(), request.names[2]
    for table, part in (("sweep", "sweeps"), ("run", "runs")):
        query = f"SELECT id FROM {table} WHERE project_id = ? AND name = ?"
        if request.db.one(query, project["id"], name):
            return path(project["entity"], project["name"], part, name)
    raise RequestError(f"There is no sweep and no run {name} in this project.", 404)


def listed_sweeps(db: Transaction, project: ProjectRow) -> list[ListedSweep]:
    """The project's sweeps, newest first."""
    rows = db.all(
        f"SELECT sweep.*, count(run.id) AS runs, sum(run.{IS_FINISHED}) AS finished FROM sweep"
        " LEFT JOIN run ON run.sweep_id = sweep.id WHERE sweep.project_id = ? GROUP BY sweep.id"
        " ORDER BY sweep.id DESC",
        project["id"],
        row=SweepCounts,
    )
    sweeps: list[ListedSweep] = []
    for row in rows:
        config = sweep_config.parse(row["config"])
        sweeps.append(
            {
                **row,
                "method": config["method"],
                "metric": sweep_config.metric_name(config),
                "expected": expected_runs(config),
            }
        )
    return sweeps
