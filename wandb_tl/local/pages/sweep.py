"""A sweep: how far it is, which recipe leads, and what each parameter does to the metric."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import curves, runs_table
from wandb_tl.local.pages.media import Media
from wandb_tl.local.pages.values import Run, flat_config, is_number, read_runs
from wandb_tl.local.pages.view import Answer, Asked, Page
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.run_states import AGENT_SILENCE_SECONDS, RunState
from wandb_tl.local.sweeps import grid, sweep_config
from wandb_tl.local.sweeps.sweep_rows import change, expected_runs

# A parameter that spans more than this factor is drawn on a logarithmic axis.
LOGARITHMIC = 30


def metric_of(config: Row) -> tuple[str | None, str]:
    """The metric's name and its goal, "minimize" unless the config says otherwise."""
    metric = config.get("metric") if isinstance(config.get("metric"), dict) else {}
    return metric.get("name"), metric.get("goal") or "minimize"


def find(asked: Asked) -> Row:
    """The sweep that the address names. Raises RequestError (404) where there is none."""
    project = asked.project()
    query = "SELECT * FROM sweep WHERE project_id = ? AND name = ?"
    found = asked.db.one(query, project["id"], asked.names[3])
    if found is None:
        raise RequestError(f"There is no sweep {asked.names[3]} in this project.", 404)
    return found


@dataclass
class Standing:
    """A sweep's runs by a metric: `metric` as they log it, `measure` as their summaries hold it."""

    runs: list[Run]
    metric: str | None
    measure: str | None
    maximize: bool

    @property
    def ranked(self) -> list[Run]:
        """The runs that have a finite value of the metric, the best one first."""
        measured = [run for run in self.runs if is_number(run.summary.get(self.measure))]
        return sorted(measured, key=lambda run: run.summary[self.measure], reverse=self.maximize)


def standing(runs: list[Run], config: Row, metric: str | None) -> Standing:
    """By the metric that the reader chose, else the sweep's own, else the first that there is."""
    own, goal = metric_of(config)
    name = metric or own or next(iter(metrics_of(runs)), None)
    measures = set(metrics_of(runs))
    # run.define_metric(name, summary="min") puts {name: {"min": value}} into the summary.
    better = ("max", "min") if goal == "maximize" else ("min", "max")
    kept = [f"{name}.{how}" for how in (*better, "best", "last", "mean")]
    measure = next((key for key in (name, *kept) if key in measures), name)
    return Standing(runs, name, measure, goal == "maximize")


def metrics_of(runs: list[Run]) -> list[str]:
    """The summary keys that hold numbers."""
    return list(dict.fromkeys(key for run in runs for key, value in run.summary.items() if is_number(value)))


def sweep(asked: Asked) -> Answer:
    """A sweep's page; with ?chart= the data of one of its charts."""
    found, project = find(asked), asked.project()
    config = sweep_config.parse(found["config"])
    runs = read_runs(asked.db, project, "run.sweep_id = ?", found["id"])
    stand = standing(runs, config, asked.query.get("metric"))
    ranked = stand.ranked
    drawn = [*ranked, *(run for run in runs if not is_number(run.summary.get(stand.measure)))]
    parameters = parameters_of(runs, config)
    match asked.query.get("chart"):
        case "curves":
            return curves.of_runs(asked.db, drawn, stand.metric or "")
        case "parallel":
            return parallel(ranked, parameters, stand.measure or "", config)
        case "strip":
            return strip(ranked, asked.query.get("parameter", ""), stand.measure or "", config)
    best_first = ("-" if stand.maximize else "+") + f"summary.{stand.measure}"
    table = runs_table.make(
        runs,
        asked.query.get("sort") or (best_first if stand.measure else ""),
        asked.query.get("filter", ""),
        asked.page(),
        stand.measure,
        asked.query.get("columns") == "all",
    )
    metrics = metrics_of(runs)
    over = found["state"] in ("FINISHED", "CANCELED") and not any(run.live for run in runs)
    return Page(
        "sweep.html",
        {
            "project": project,
            "sweep": found,
            "metric": stand.metric,
            "measure": stand.measure,
            "goal": "maximize" if stand.maximize else "minimize",
            "metrics": metrics if stand.metric in metrics or not stand.metric else [stand.metric, *metrics],
            "parameters": parameters,
            "table": table,
            "total": len(runs),
            "drawn": min(len(runs), curves.RUNS),
            "states": Counter(run.state for run in runs if run.state != RunState.FINISHED),
            "expected": expected_runs(config),
            "ended": sum(not run.live for run in runs),
            "best": ranked[0] if ranked else None,
            "matrices": matrices(asked, ranked),
            "agents": 0 if over else agents(asked.db, found),
            "live": not over,
        },
    )


def act(asked: Asked, form: dict[str, str]) -> None:
    """Change the sweep's state, as `wandb sweep --pause` and its like do."""
    change(asked.db, find(asked), None, form.get("state"))


def agents(db: Transaction, sweep: Row) -> int:
    """How many agents are at work."""
    since = db.now - AGENT_SILENCE_SECONDS
    return db.value("SELECT count(*) FROM agent WHERE sweep_id = ? AND heartbeat_at > ?", sweep["id"], since)


def parameters_of(runs: list[Run], config: Row) -> list[str]:
    """The parameters that the sweep varies, or in which the runs that it handed out differ."""
    given = {key for run in runs if run.row["sweep_args"] for key in flat_config(run.row["sweep_args"])}
    varied = {
        ".".join(path)
        for path, spec in grid.leaves(config.get("parameters") or {})
        if isinstance(spec, dict) and "value" not in spec and len(spec.get("values") or [0, 0]) > 1
    }
    differing = runs_table.differing(runs)
    known = dict.fromkeys(key for run in runs for key in run.config)
    return [key for key in known if key in varied or (key in given and key in differing)]


def matrices(asked: Asked, ranked: list[Run]) -> list[tuple[str, Run, Any]]:
    """(which, run, Item) of the best and of the worst run's confusion matrix, where both logged one."""
    if len(ranked) < 2:
        return []
    pair = [("Best", ranked[0]), ("Worst", ranked[-1])]
    found = [(which, run, Media(asked.db, asked.blobs, run).confusion()) for which, run in pair]
    return found if all(item for _, _, item in found) else []


def parallel(runs: list[Run], parameters: list[str], metric: str, config: Row) -> dict[str, Any]:
    """Axes and lines of a parallel-coordinates chart; the metric is the last axis."""
    columns = [[run.config.get(key) for run in runs] for key in parameters]
    columns.append([run.summary[metric] for run in runs])
    logarithmic = log_parameters(config)
    axes, drawn = [], []
    for name, column in zip([*parameters, metric], columns, strict=True):
        axis, values = scale(column, name in logarithmic)
        axes.append({"name": name, **axis})
        drawn.append(values)
    lines = [
        {"id": run.id, "name": run.name, "values": [values[i] for values in drawn]}
        for i, run in enumerate(runs)
    ]
    return {"axes": axes, "lines": lines}


def strip(runs: list[Run], parameter: str, metric: str, config: Row) -> dict[str, Any]:
    """One point a run: the metric over the values of one parameter."""
    axis, values = scale([run.config.get(parameter) for run in runs], parameter in log_parameters(config))
    points = [
        {"id": run.id, "name": run.name, "color": run.color, "value": [value, run.summary[metric]]}
        for run, value in zip(runs, values, strict=True)
    ]
    return {"axis": {"name": parameter, **axis}, "metric": metric, "points": points}


def log_parameters(config: Row) -> set[str]:
    """The parameters that the sweep draws from a logarithmic distribution."""
    leaves = grid.leaves(config.get("parameters") or {})
    return {".".join(path) for path, spec in leaves if "log" in str((spec or {}).get("distribution"))}


def scale(column: list[Any], logarithmic: bool = False) -> tuple[dict[str, Any], list[Any]]:
    """An axis for some values, and the values on it: numbers, or the texts of categories.

    Logarithmic where it is asked for, or where the values span a wide range; never for values below 0.
    """
    known = [value for value in column if value is not None]
    if known and all(is_number(value) for value in known):
        wide = min(known) > 0 and (logarithmic or max(known) / min(known) > LOGARITHMIC)
        return {"type": "log" if wide else "value"}, column
    texts = [str(value) for value in column]
    return {"type": "category", "categories": sorted(dict.fromkeys(texts))}, texts
