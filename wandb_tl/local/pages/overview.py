"""Home, an entity's projects, and a project: its sweeps, its table of runs, and the curves of chosen runs."""

from __future__ import annotations

from urllib.parse import urlencode

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import curves, recipes, report, runs_table, table_csv
from wandb_tl.local.pages.labels import differing, label_runs
from wandb_tl.local.pages.values import read_runs
from wandb_tl.local.pages.view import Answer, Page, PageRequest
from wandb_tl.local.records.rows import ProjectRow, SweepRow
from wandb_tl.local.records.run_states import IS_FINISHED
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.sweeps import sweep_config
from wandb_tl.local.sweeps.sweep_rows import expected_runs
from wandb_tl.local.sweeps.sweep_states import HANDED_OUT

# The number of runs with curves, unless the reader chooses the runs.
COMPARED = 10
# The number of recipes in their table.
RECIPES = 50


class SweepCounts(SweepRow):
    """A sweep and the numbers of its runs; `finished` is None for a sweep without runs."""

    runs: int
    finished: int | None


class ListedSweep(SweepCounts):
    """A sweep with the rest of its line in a list. `expected` is None for a sweep without an end."""

    method: str
    metric: str | None
    objectives: list[str]
    maximize: bool
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
    runs = read_runs(db, project)
    label_runs(runs)
    chosen = request.query.get("group")
    keys = differing(runs)
    if key := request.query.get("curves"):
        compared = [run for run in runs if run.id in ticked]
        grouped = recipes.group(compared, chosen, keys).recipes
        x = request.query.get("x")
        more = request.query.get("more") == "1"
        return curves.of_runs(db, compared, key, recipes=grouped, x=x, reader=request.reader, only_whole=more)
    sweeps = listed_sweeps(db, project)
    metrics = [sweep["metric"] for sweep in sweeps if sweep["metric"]]
    maximize = next((sweep["maximize"] for sweep in sweeps if sweep["metric"]), True)
    choice = runs_table.choice(request.query, request.page())
    table = runs_table.make(runs, choice, metrics[0] if metrics else None)
    if request.query.get("download") == "csv":
        return table_csv.download(table, project["name"])
    listed = set(ticked) if ticked else {run.id for run in table.runs}
    grouping = recipes.group([run for run in runs if run.id in listed], chosen, keys)
    measure = metrics[0] if metrics else None
    columns = runs_table.summary_columns(runs, measure)
    recipe_rows = recipes.rows(grouping, columns, measure, maximize)
    compared = [run for run in runs if run.id in ticked] if ticked else table.page_runs[:COMPARED]
    if recipe_rows and not ticked:
        compared = [run for row in recipe_rows[:COMPARED] for run in row["recipe"].runs][: curves.RUNS]
    return Page(
        "project.html",
        {
            "project": project,
            "sweeps": sweeps,
            "reports": report.reports(request, project),
            "view": report.workspace(request, project),
            "table": table,
            "grouping": grouping,
            "recipe_columns": columns,
            "recipe_rows": recipe_rows[:RECIPES],
            "total": len(runs),
            "ticked": set(ticked),
            "compared": compared,
            "metrics": curves.by_family(db, compared, request.query.get("charts", "")),
            "runs_query": "&" + urlencode([("run", run.id) for run in compared] + [("group", grouping.by)]),
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
            return request.path(project["entity"], project["name"], part, name)
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
                "objectives": [metric["name"] for metric in sweep_config.objectives(config)],
                "maximize": sweep_config.maximizes(config),
                "expected": expected_runs(config),
            }
        )
    return sweeps
