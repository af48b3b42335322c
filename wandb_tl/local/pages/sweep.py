"""A sweep: how far it is, which recipe leads, and what each parameter does to the metric."""

from __future__ import annotations

from typing import Any

from wandb_tl.local import sweep_config
from wandb_tl.local.pages import curves, runs_table
from wandb_tl.local.pages.media import Media
from wandb_tl.local.pages.values import Run, flat_config, is_number, read_runs
from wandb_tl.local.pages.view import Answer, Asked, Page
from wandb_tl.local.silence import AGENT_SILENCE_SECONDS
from wandb_tl.local.store import Database, Refused, Row
from wandb_tl.local.sweeps import change, expected_runs

# A parameter that spans more than this factor is drawn on a logarithmic axis.
LOGARITHMIC = 30


def metric_of(config: Row) -> tuple[str | None, str]:
    """The metric's name and its goal, "minimize" unless the config says otherwise."""
    metric = config.get("metric") if isinstance(config.get("metric"), dict) else {}
    return metric.get("name"), metric.get("goal") or "minimize"


def find(asked: Asked) -> Row:
    """The sweep that the address names. Raises Refused (404) where there is none."""
    project = asked.project()
    query = "SELECT * FROM sweep WHERE project_id = ? AND name = ?"
    found = asked.db.one(query, project["id"], asked.names[3])
    if found is None:
        raise Refused(f"There is no sweep {asked.names[3]} in this project.", 404)
    return found


def sweep(asked: Asked) -> Answer:
    """A sweep's page; with ?chart= the data of one of its charts."""
    found, project = find(asked), asked.project()
    config = sweep_config.parse(found["config"])
    runs = read_runs(asked.db, project, "run.sweep_id = ?", found["id"])
    own_metric, goal = metric_of(config)
    metrics = list(
        dict.fromkeys(key for run in runs for key, value in run.summary.items() if is_number(value))
    )
    metric = asked.query.get("metric") or own_metric or next(iter(metrics), None)
    if asked.query.get("chart") == "curves":
        return curves.of_runs(asked.db, runs, metric or "")
    parameters = parameters_of(runs)
    measured = [run for run in runs if metric and is_number(run.summary.get(metric))]
    if asked.query.get("chart") == "parallel":
        return parallel(measured, parameters, metric or "")
    if asked.query.get("chart") == "strip":
        return strip(measured, asked.query.get("parameter", ""), metric or "")
    ranked = sorted(measured, key=lambda run: run.summary[metric], reverse=goal == "maximize")
    table = runs_table.make(
        runs,
        asked.query.get("sort")
        or (("-" if goal == "maximize" else "+") + f"summary.{metric}" if metric else ""),
        asked.query.get("filter", ""),
        int(page) if (page := asked.query.get("page", "1")).isdecimal() else 1,
        metric,
        asked.query.get("columns") == "all",
    )
    expected = expected_runs(config)
    states = {
        state: sum(run.state == state for run in runs) for state in dict.fromkeys(run.state for run in runs)
    }
    return Page(
        "sweep.html",
        {
            "project": project,
            "sweep": found,
            "config": config,
            "metric": metric,
            "goal": goal,
            "metrics": metrics if metric in metrics or metric is None else [metric, *metrics],
            "parameters": parameters,
            "table": table,
            "total": len(runs),
            "states": states,
            "expected": expected,
            "ended": sum(not run.live for run in runs),
            "best": ranked[0] if ranked else None,
            "matrices": matrices(asked, ranked),
            "agents": agents(asked.db, found),
            "live": found["state"] in ("PENDING", "RUNNING", "PAUSED") or any(run.live for run in runs),
        },
    )


def act(asked: Asked, form: dict[str, str]) -> None:
    """Change the sweep's state, as `wandb sweep --pause` and its like do."""
    change(asked.db, find(asked), None, form.get("state"))


def agents(db: Database, sweep: Row) -> int:
    """How many agents are at work."""
    since = db.now - AGENT_SILENCE_SECONDS
    return db.value("SELECT count(*) FROM agent WHERE sweep_id = ? AND heartbeat_at > ?", sweep["id"], since)


def parameters_of(runs: list[Run]) -> list[str]:
    """The parameters in which the runs that the sweep handed out differ."""
    given = {key for run in runs if run.row["sweep_args"] for key in flat_config(run.row["sweep_args"])}
    return [key for key in runs_table.differing(runs) if key in given]


def matrices(asked: Asked, ranked: list[Run]) -> list[tuple[str, Run, Any]]:
    """(which, run, Item) of the best and of the worst run's confusion matrix, where both logged one."""
    if len(ranked) < 2:
        return []
    pair = [("Best", ranked[0]), ("Worst", ranked[-1])]
    found = [(which, run, Media(asked.db, asked.blobs, run).confusion()) for which, run in pair]
    return found if all(item for _, _, item in found) else []


def parallel(runs: list[Run], parameters: list[str], metric: str) -> dict[str, Any]:
    """Axes and lines of a parallel-coordinates chart; the metric is the last axis."""
    columns = [[run.config.get(key) for run in runs] for key in parameters]
    columns.append([run.summary[metric] for run in runs])
    axes, drawn = [], []
    for name, column in zip([*parameters, metric], columns, strict=True):
        axis, values = scale(column)
        axes.append({"name": name, **axis})
        drawn.append(values)
    lines = [
        {"id": run.id, "name": run.name, "values": [values[i] for values in drawn]}
        for i, run in enumerate(runs)
    ]
    return {"axes": axes, "lines": lines}


def strip(runs: list[Run], parameter: str, metric: str) -> dict[str, Any]:
    """One point a run: the metric over the values of one parameter."""
    axis, values = scale([run.config.get(parameter) for run in runs])
    points = [
        {"id": run.id, "name": run.name, "color": run.color, "value": [value, run.summary[metric]]}
        for run, value in zip(runs, values, strict=True)
    ]
    return {"axis": {"name": parameter, **axis}, "metric": metric, "points": points}


def scale(column: list[Any]) -> tuple[dict[str, Any], list[Any]]:
    """An axis for some values, and the values on it: numbers, or the texts of categories."""
    known = [value for value in column if value is not None]
    if known and all(is_number(value) for value in known):
        wide = min(known) > 0 and max(known) / min(known) > LOGARITHMIC
        return {"type": "log" if wide else "value"}, column
    texts = [str(value) for value in column]
    return {"type": "category", "categories": sorted(dict.fromkeys(texts))}, texts
