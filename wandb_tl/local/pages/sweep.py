"""A sweep: its progress, the best recipe, and the effect of each parameter on the metric."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple, NotRequired, TypedDict

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import curves, runs_table
from wandb_tl.local.pages.media import Item, Media
from wandb_tl.local.pages.values import Run, flat_config, is_number, read_runs
from wandb_tl.local.pages.view import Answer, Page, PageRequest
from wandb_tl.local.records.database import Transaction
from wandb_tl.local.records.rows import SweepRow
from wandb_tl.local.records.run_states import AGENT_SILENCE_SECONDS, RunState
from wandb_tl.local.sweeps import grid, sweep_config
from wandb_tl.local.sweeps.sweep_config import SweepConfig
from wandb_tl.local.sweeps.sweep_rows import change, expected_runs
from wandb_tl.local.sweeps.sweep_states import OVER, SweepState

# An axis is logarithmic if the values of its parameter span more than this factor.
LOGARITHMIC = 30


class Button(NamedTuple):
    """A button that sets the sweep's state."""

    label: str
    state: SweepState
    title: str


PAUSE = Button("Pause", SweepState.PAUSED, "Start no more runs until the sweep is resumed")
RESUME = Button("Resume", SweepState.RUNNING, "Let agents start runs again")
STOP = Button("Stop", SweepState.FINISHED, "Let the running runs end; start no more")
CANCEL = Button("Cancel", SweepState.CANCELED, "Stop the running runs too")
BUTTONS = {
    SweepState.PENDING: (PAUSE, STOP, CANCEL),
    SweepState.RUNNING: (PAUSE, STOP, CANCEL),
    SweepState.PAUSED: (RESUME, STOP, CANCEL),
    SweepState.FINISHED: (RESUME,),
    SweepState.CANCELED: (),
}


class Axis(TypedDict):
    """An axis of a chart: its type is value, log or category."""

    type: str
    name: NotRequired[str]
    categories: NotRequired[list[str]]


class Parallel(TypedDict):
    """A parallel-coordinates chart; a line has a run's id, name and its value on each axis."""

    axes: list[Axis]
    lines: list[dict[str, Any]]


class Strip(TypedDict):
    """A chart of the metric over one parameter; a point has a run's id, name, color and [x, y] as value."""

    axis: Axis
    metric: str
    points: list[dict[str, Any]]


@dataclass
class Ranking:
    """A sweep's runs by a metric: `metric` is its key in histories, `measure` its key in summaries."""

    runs: list[Run]
    metric: str | None
    measure: str | None
    maximize: bool

    @property
    def ranked(self) -> list[Run]:
        """The runs with a finite value of the metric, the best one first."""
        if self.measure is None:
            return []
        measure = self.measure
        measured = [run for run in self.runs if is_number(run.summary.get(measure))]
        return sorted(measured, key=lambda run: float(run.summary[measure]), reverse=self.maximize)


def find(request: PageRequest) -> SweepRow:
    """The sweep that the address names. Raises RequestError (404) if there is none."""
    project = request.project()
    query = "SELECT * FROM sweep WHERE project_id = ? AND name = ?"
    sweep = request.db.one(query, project["id"], request.names[3], row=SweepRow)
    if sweep is None:
        raise RequestError(f"There is no sweep {request.names[3]} in this project.", 404)
    return sweep


def ranking(runs: list[Run], config: SweepConfig, metric: str | None) -> Ranking:
    """By the metric that the reader chose, else the sweep's own, else the first in the summaries."""
    measures = metrics_of(runs)
    name = metric or sweep_config.metric_name(config) or next(iter(measures), None)
    maximize = sweep_config.maximizes(config)
    # run.define_metric(name, summary="min") puts {name: {"min": value}} into the summary.
    better = ("max", "min") if maximize else ("min", "max")
    candidates = [f"{name}.{how}" for how in (*better, "best", "last", "mean")]
    measure = next((key for key in (name, *candidates) if key in measures), name)
    return Ranking(runs, name, measure, maximize)


def metrics_of(runs: list[Run]) -> list[str]:
    """The summary keys that hold numbers."""
    return list(dict.fromkeys(key for run in runs for key, value in run.summary.items() if is_number(value)))


def sweep(request: PageRequest) -> Answer:
    """A sweep's page; with ?chart= the data of one of its charts."""
    sweep = find(request)
    config = sweep_config.parse(sweep["config"])
    runs = read_runs(request.db, request.project(), "run.sweep_id = ?", sweep["id"])
    order = ranking(runs, config, request.query.get("metric"))
    parameters = parameters_of(runs, config)
    match request.query.get("chart"):
        case "curves":
            ranked = {run.id: run for run in order.ranked}
            others = [run for run in runs if run.id not in ranked]
            return curves.of_runs(request.db, [*ranked.values(), *others], order.metric or "")
        case "parallel":
            return parallel(order.ranked, parameters, order.measure or "", config)
        case "strip":
            return strip(order.ranked, request.query.get("parameter", ""), order.measure or "", config)
    return page(request, sweep, order, parameters)


def page(request: PageRequest, sweep: SweepRow, order: Ranking, parameters: list[str]) -> Page:
    config, runs, ranked = sweep_config.parse(sweep["config"]), order.runs, order.ranked
    best_first = ("-" if order.maximize else "+") + f"summary.{order.measure}"
    table = runs_table.make(
        runs,
        request.query.get("sort") or (best_first if order.measure else ""),
        request.query.get("filter", ""),
        request.page(),
        order.measure,
        request.query.get("columns") == "all",
    )
    metrics = metrics_of(runs)
    over = sweep["state"] in OVER and not any(run.live for run in runs)
    return Page(
        "sweep.html",
        {
            "project": request.project(),
            "sweep": sweep,
            "buttons": BUTTONS[SweepState(sweep["state"])],
            "metric": order.metric,
            "measure": order.measure,
            "goal": "maximize" if order.maximize else "minimize",
            "metrics": metrics if order.metric in metrics or not order.metric else [order.metric, *metrics],
            "parameters": parameters,
            "table": table,
            "total": len(runs),
            "drawn": min(len(runs), curves.RUNS),
            "states": Counter(run.state for run in runs if run.state != RunState.FINISHED),
            "expected": expected_runs(config),
            "ended": sum(not run.live for run in runs),
            "best": ranked[0] if ranked else None,
            "matrices": matrices(request, ranked),
            "agents": 0 if over else agents(request.db, sweep),
            "live": not over,
        },
    )


def act(request: PageRequest, form: dict[str, str]) -> None:
    """Change the sweep's state, as `wandb sweep --pause` and its other options do."""
    change(request.db, find(request), None, form.get("state"))


def agents(db: Transaction, sweep: SweepRow) -> int:
    """The number of agents at work."""
    since = db.now - AGENT_SILENCE_SECONDS
    query = "SELECT count(*) FROM agent WHERE sweep_id = ? AND heartbeat_at > ?"
    return int(db.value(query, sweep["id"], since))


def parameters_of(runs: list[Run], config: SweepConfig) -> list[str]:
    """The parameters that the sweep varies, or in which the runs that it handed out differ."""
    points = {key for run in runs if run.row["sweep_args"] for key in flat_config(run.row["sweep_args"])}
    varied = {
        ".".join(path)
        for path, spec in grid.leaves(config["parameters"])
        if "value" not in spec and len(spec.get("values") or [0, 0]) > 1
    }
    differing = runs_table.differing(runs)
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [key for key in keys if key in varied or (key in points and key in differing)]


def matrices(request: PageRequest, ranked: list[Run]) -> list[tuple[str, Run, Item]]:
    """(label, run, item) of the best and of the worst run's confusion matrix, if both logged one."""
    if len(ranked) < 2:
        return []
    best, worst = (Media(request.db, request.blobs, run).confusion() for run in (ranked[0], ranked[-1]))
    if best is None or worst is None:
        return []
    return [("Best", ranked[0], best), ("Worst", ranked[-1], worst)]


def parallel(runs: list[Run], parameters: list[str], metric: str, config: SweepConfig) -> Parallel:
    """The chart of all parameters; the metric is the last axis."""
    logarithmic = log_parameters(config)
    columns = [[run.config.get(key) for run in runs] for key in parameters]
    columns.append([run.summary[metric] for run in runs])
    axes: list[Axis] = []
    scaled = []
    for name, column in zip([*parameters, metric], columns, strict=True):
        axis, values = scale(column, name in logarithmic)
        axes.append({**axis, "name": name})
        scaled.append(values)
    lines = [
        {"id": run.id, "name": run.name, "values": [values[i] for values in scaled]}
        for i, run in enumerate(runs)
    ]
    return {"axes": axes, "lines": lines}


def strip(runs: list[Run], parameter: str, metric: str, config: SweepConfig) -> Strip:
    """The chart of one parameter, with one point per run."""
    axis, values = scale([run.config.get(parameter) for run in runs], parameter in log_parameters(config))
    points = [
        {"id": run.id, "name": run.name, "color": run.color, "value": [value, run.summary[metric]]}
        for run, value in zip(runs, values, strict=True)
    ]
    return {"axis": {**axis, "name": parameter}, "metric": metric, "points": points}


def log_parameters(config: SweepConfig) -> set[str]:
    """The parameters that the sweep draws from a logarithmic distribution."""
    leaves = grid.leaves(config["parameters"])
    return {".".join(path) for path, spec in leaves if "log" in str(spec.get("distribution"))}


def scale(column: list[Any], logarithmic: bool = False) -> tuple[Axis, list[Any]]:
    """An axis for some values, and the values on it: numbers, or the names of categories.

    Logarithmic if `logarithmic` says so or the values span a wide range, and all of them are above 0.
    """
    values = [value for value in column if value is not None]
    if values and all(is_number(value) for value in values):
        wide = min(values) > 0 and (logarithmic or max(values) / min(values) > LOGARITHMIC)
        return {"type": "log" if wide else "value"}, column
    names = [str(value) for value in column]
    return {"type": "category", "categories": sorted(dict.fromkeys(names))}, names
