"""Home, an entity's projects, and a project: its sweeps, its table of runs, and the curves of chosen runs."""

from __future__ import annotations

from urllib.parse import urlencode

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import curves, report, runs_table
from wandb_tl.local.pages.sweep import metric_of
from wandb_tl.local.pages.values import read_runs
from wandb_tl.local.pages.view import Answer, Asked, Page, path
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.run_states import IS_FINISHED
from wandb_tl.local.sweeps import sweep_config
from wandb_tl.local.sweeps.sweep_rows import expected_runs

# Curves are drawn of so many runs unless the reader chooses which.
COMPARED = 10


def home(asked: Asked) -> Answer:
    """All projects, or those of one entity, the last one worked on first."""
    entity = asked.names[0] if asked.names else None
    projects = asked.db.all(
        "SELECT project.*, count(run.id) AS runs, max(coalesce(run.heartbeat_at, project.created_at))"
        " AS last, (SELECT count(*) FROM sweep WHERE project_id = project.id) AS sweeps"
        " FROM project LEFT JOIN run ON run.project_id = project.id"
        " WHERE ?1 IS NULL OR project.entity = ?1 GROUP BY project.id ORDER BY last DESC",
        entity,
    )
    if entity and not projects:
        raise RequestError(f"There is no project of {entity} here.", 404)
    return Page("home.html", {"entity": entity, "projects": projects})


def project(asked: Asked) -> Answer:
    """A project; with ?curves=KEY the curves of the runs that ?run= names."""
    found = asked.project()
    if key := asked.query.get("curves"):
        return curves.of_runs(asked.db, asked.runs(found, asked.query.getlist("run")), key)
    runs = read_runs(asked.db, found)
    sweeps = sweep_rows(asked.db, found)
    metrics = [sweep["metric"] for sweep in sweeps if sweep["metric"]]
    table = runs_table.make(
        runs,
        asked.query.get("sort", ""),
        asked.query.get("filter", ""),
        asked.page(),
        metrics[0] if metrics else None,
        asked.query.get("columns") == "all",
    )
    chosen = asked.query.getlist("run")
    compared = [run for run in runs if run.id in chosen] if chosen else table.shown[:COMPARED]
    common, families = curves.by_family(asked.db, compared)
    return Page(
        "project.html",
        {
            "project": found,
            "sweeps": sweeps,
            "reports": report.reports(asked, found),
            "view": report.workspace(asked, found),
            "table": table,
            "total": len(runs),
            "chosen": set(chosen),
            "compared": compared,
            "common": common,
            "families": families,
            "runs_query": "&" + urlencode([("run", run.id) for run in compared]),
            "artifacts": asked.db.value("SELECT count(*) FROM collection WHERE project_id = ?", found["id"]),
            "live": any(run.live for run in runs)
            or any(s["state"] in ("PENDING", "RUNNING") for s in sweeps),
        },
    )


def shortcut(asked: Asked) -> Answer:
    """ENTITY/PROJECT/ID, as `wandb agent` and wandb.Api() take it: the sweep or the run of this id."""
    project, name = asked.project(), asked.names[2]
    for table, part in (("sweep", "sweeps"), ("run", "runs")):
        if asked.db.one(f"SELECT id FROM {table} WHERE project_id = ? AND name = ?", project["id"], name):
            return path(project["entity"], project["name"], part, name)
    raise RequestError(f"There is no sweep and no run {name} in this project.", 404)


def sweep_rows(db: Transaction, project: Row) -> list[Row]:
    """The project's sweeps, newest first, with what a list of them says."""
    rows = db.all(
        f"SELECT sweep.*, count(run.id) AS runs, sum(run.{IS_FINISHED}) AS finished FROM sweep"
        " LEFT JOIN run ON run.sweep_id = sweep.id WHERE sweep.project_id = ? GROUP BY sweep.id"
        " ORDER BY sweep.id DESC",
        project["id"],
    )
    for row in rows:
        config = sweep_config.parse(row["config"])
        row["method"], row["metric"] = config.get("method"), metric_of(config)[0]
        row["expected"] = expected_runs(config)
    return rows
