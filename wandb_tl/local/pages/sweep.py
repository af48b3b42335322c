"""A sweep: its progress, the best recipe, and the effect of each parameter on the metric."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NotRequired, TypedDict
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import (
    answer,
    curves,
    objectives,
    ranges,
    recipes,
    runs_table,
    sweep_actions,
    table_csv,
)
from wandb_tl.local.pages.labels import differing, is_seed, label_runs
from wandb_tl.local.pages.media import Media
from wandb_tl.local.pages.media_items import Item
from wandb_tl.local.pages.recipes import Grouping
from wandb_tl.local.pages.run_filter import matching
from wandb_tl.local.pages.sweep_progress import progress
from wandb_tl.local.pages.values import Run, flat_config, is_number, read_runs
from wandb_tl.local.pages.view import Acted, Answer, Download, Page, PageRequest
from wandb_tl.local.records.rows import SweepRow
from wandb_tl.local.records.run_states import RunState
from wandb_tl.local.runs import alerts
from wandb_tl.local.sweeps import grid, sweep_config
from wandb_tl.local.sweeps.sweep_config import SweepConfig
from wandb_tl.local.sweeps.sweep_rows import expected_runs
from wandb_tl.local.sweeps.sweep_states import OVER, SweepState

# An axis is logarithmic if the values of its parameter span more than this factor.
LOGARITHMIC = 30


class Axis(TypedDict):
    """An axis of a chart: its type is value, log or category."""

    type: str
    name: NotRequired[str]
    categories: NotRequired[list[str]]


class Parallel(TypedDict):
    """A parallel-coordinates chart; a line has a run's id, name and its value on each axis.

    lowest_first: whether the lowest value of the last axis is the best one.
    """

    axes: list[Axis]
    lines: list[dict[str, Any]]
    lowest_first: bool


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
    if name is not None and (own := [one for one in sweep_config.objectives(config) if one["name"] == name]):
        maximize = own[0].get("goal") == "maximize"
    measure = None if name is None else objectives.measure_of(name, maximize, set(measures))
    return Ranking(runs, name, measure, maximize)


def unlogged(runs: list[Run], config: SweepConfig) -> str | None:
    """The sweep's metric if runs have finished and none of these has a finite value of it; else None."""
    name = sweep_config.metric_name(config)
    finished = [run for run in runs if run.state == RunState.FINISHED]
    if name is None or not finished:
        return None
    measure = objectives.measure_of(name, sweep_config.maximizes(config), set(metrics_of(finished)))
    return None if any(is_number(run.summary.get(measure)) for run in finished) else name


def metrics_of(runs: list[Run]) -> list[str]:
    """The summary keys that hold numbers."""
    return list(dict.fromkeys(key for run in runs for key, value in run.summary.items() if is_number(value)))


def sweep(request: PageRequest) -> Answer:
    """A sweep's page; with ?chart= the data of one of its charts."""
    sweep = find(request)
    config = sweep_config.parse(sweep["config"])
    runs = read_runs(request.db, request.project(), "run.sweep_id = ?", sweep["id"])
    ticked = set(request.query.getlist("run"))
    order = ranking(runs, config, request.query.get("metric"))
    varied = parameters_of(runs, config)
    label_runs(runs, [*varied, *(key for key in differing(runs) if is_seed(key) and key not in varied)])
    # A seed is chosen by chance: the metric over it shows nothing.
    parameters = [key for key in varied if not is_seed(key)]
    grouping = recipes.group(runs, request.query.get("group"), parameters)
    filter = request.query.get("filter", "")
    listed = in_ranges(order, parameters, config, grouping, request.query)
    match request.query.get("chart"):
        case "curves":
            # Ticked runs stay in the table, whatever its filter is.
            drawn = [run for run in runs if run.id in ticked] or matching(listed, filter)[0]
            best_first = grouping.of(drawn).ranked(order.measure, order.maximize)
            ranked = {run.id: run for run in replace(order, runs=drawn).ranked}
            compared = [*ranked.values(), *(run for run in drawn if run.id not in ranked)]
            return curves.of_runs(
                request.db,
                compared,
                order.metric or "",
                lowest_first=not order.maximize,
                recipes=best_first,
                x=request.query.get("x"),
                reader=request.reader,
                only_whole=request.query.get("more") == "1",
            )
        case "parallel":
            # The lines outside of the ranges fade.
            drawn, _ = matching(runs, filter)
            return parallel(replace(order, runs=drawn), parameters, config, grouping.of(drawn))
        case "objectives":
            return objectives.chart(runs, config, request.query.get("pair", ""))
        case "strip":
            drawn, _ = matching(listed, filter)
            ranked_runs = replace(order, runs=drawn).ranked
            return strip(ranked_runs, request.query.get("parameter", ""), order.measure or "", config)
    return page(request, sweep, order, parameters, grouping, listed)


def in_ranges(
    order: Ranking, parameters: list[str], config: SweepConfig, grouping: Grouping, query: QueryParams
) -> list[Run]:
    """The runs in the ranges on the axes of the parallel coordinates; all runs without a range."""
    if not any(key.startswith(ranges.PREFIXES) and value for key, value in query.items()):
        return order.runs
    chart = parallel(order, parameters, config, grouping)
    ids = ranges.within(chart["axes"], chart["lines"], query)
    if ids is None:
        return order.runs
    return [run for run in order.runs if run.id in ids or run.recipe in ids]


def page(
    request: PageRequest,
    sweep: SweepRow,
    order: Ranking,
    parameters: list[str],
    grouping: Grouping,
    listed: list[Run],
) -> Page | Download:
    """listed: the runs in the ranges that the reader chose."""
    config, runs, ranked = sweep_config.parse(sweep["config"]), order.runs, order.ranked
    best_first = ("-" if order.maximize else "+") + f"summary.{order.measure}"
    choice = runs_table.choice(request.query, request.page())
    table = runs_table.make(
        listed, choice.sorted_by_default(best_first if order.measure else ""), order.measure
    )
    if request.query.get("download") == "csv":
        return table_csv.download(table, sweep["name"])
    metrics = metrics_of(runs)
    aims = objectives.of_sweep(config, runs)
    best = objectives.front(runs, aims) if len(aims) > 1 else []
    over = sweep["state"] in OVER and not any(run.live for run in runs)
    return Page(
        "sweep.html",
        {
            "project": request.project(),
            "sweep": sweep,
            "answer": answer.of_sweep(request.db, sweep, runs),
            "buttons": sweep_actions.BUTTONS[SweepState(sweep["state"])],
            "metric": order.metric,
            "unlogged": unlogged(runs, config),
            "draws_at_random": config["method"] == "bayes" and not ranking(runs, config, None).ranked,
            "measure": order.measure,
            "goal": "maximize" if order.maximize else "minimize",
            "metrics": metrics if order.metric in metrics or not order.metric else [order.metric, *metrics],
            "parameters": parameters,
            "grouping": grouping,
            "recipe_columns": (recipe_columns := runs_table.summary_columns(runs, order.measure)),
            "recipe_rows": recipes.rows(grouping, recipe_columns, order.measure, order.maximize),
            "table": table,
            "total": len(runs),
            "drawn": min(len(table.ticked or table.runs), curves.RUNS),
            "filter_query": urlencode({"filter": choice.filter} if choice.filter else {}),
            "range_query": urlencode(
                [(key, value) for key, value in request.query.items() if key.startswith(ranges.PREFIXES)]
            ),
            "ticked_query": urlencode([("run", run.id) for run in table.ticked]),
            "progress": progress(request.db, sweep, runs, expected_runs(config), over),
            "live_runs": [run for run in runs if run.live],
            "run_cap": config.get("run_cap"),
            "alerts": alerts.of_sweep(request.db, sweep["id"]),
            "root": request.blobs.folder.parent,
            "best": ranked[0] if ranked else None,
            "objectives": aims if len(aims) > 1 else [],
            "front": best,
            "front_ids": {run.id for run in best},
            "pairs": objectives.pairs(aims),
            "in_range": len(listed) if listed is not runs else None,
            "matrices": matrices(request, ranked),
            "live": not over,
        },
    )


def act(request: PageRequest, form: dict[str, str]) -> Acted:
    """What a button of the page does; see sweep_actions."""
    sweep_actions.act(request.db, find(request), form)
    return Acted()


def parameters_of(runs: list[Run], config: SweepConfig) -> list[str]:
    """The parameters that the sweep varies, or in which the runs that it handed out differ."""
    points = {key for run in runs if run.row["sweep_args"] for key in flat_config(run.row["sweep_args"])}
    varied = {
        ".".join(path)
        for path, spec in grid.leaves(config["parameters"])
        if "value" not in spec and (not isinstance(values := spec.get("values"), list) or len(values) > 1)
    }
    apart = differing(runs)
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [key for key in keys if key in varied or (key in points and key in apart)]


def matrices(request: PageRequest, ranked: list[Run]) -> list[tuple[str, Run, Item]]:
    """(label, run, item) of the best and of the worst run's confusion matrix, if both logged one."""
    if len(ranked) < 2:
        return []
    best, worst = (Media(request, run).confusion() for run in (ranked[0], ranked[-1]))
    if best is None or worst is None:
        return []
    return [("Best", ranked[0], best), ("Worst", ranked[-1], worst)]


def parallel(order: Ranking, parameters: list[str], config: SweepConfig, grouping: Grouping) -> Parallel:
    """The chart of all parameters; the metric, of recipes its mean, is the last axis."""
    metric = order.measure or ""
    lines = [(run.id, run.name, run.label, run.config, run.summary[metric]) for run in order.ranked]
    if grouping.by == "recipe":
        means = [(recipe, recipe.mean(metric)) for recipe in grouping.recipes]
        lines = [
            (recipe.id, recipe.name, recipe.label, recipe.runs[0].config, mean.value)
            for recipe, mean in means
            if mean
        ]
    logarithmic = log_parameters(config)
    columns = [[values.get(key) for _, _, _, values, _ in lines] for key in parameters]
    columns.append([measured for *_, measured in lines])
    axes: list[Axis] = []
    scaled = []
    for name, column in zip([*parameters, metric], columns, strict=True):
        axis, values = scale(column, logarithmic.get(name))
        axes.append({**axis, "name": name})
        scaled.append(values)
    return {
        "axes": axes,
        "lines": [
            {"id": id, "name": name, "label": label, "values": [values[i] for values in scaled]}
            for i, (id, name, label, *_) in enumerate(lines)
        ],
        "lowest_first": not order.maximize,
    }


def strip(runs: list[Run], parameter: str, metric: str, config: SweepConfig) -> Strip:
    """The chart of one parameter, with one point per run."""
    column = [run.config.get(parameter) for run in runs]
    axis, values = scale(column, log_parameters(config).get(parameter))
    points = [
        {
            "id": run.id,
            "name": run.name,
            "label": run.label,
            "group": run.recipe,
            "color": run.color,
            "value": [value, run.summary[metric]],
        }
        for run, value in zip(runs, values, strict=True)
    ]
    return {"axis": {**axis, "name": parameter}, "metric": metric, "points": points}


def log_parameters(config: SweepConfig) -> dict[str, bool]:
    """{parameter: whether it is drawn from a logarithmic distribution} of those that are drawn from one."""
    return {
        ".".join(path): "log" in str(spec.get("distribution"))
        for path, spec in grid.leaves(config["parameters"])
        if "distribution" in spec or "min" in spec
    }


def scale(column: list[Any], logarithmic: bool | None = None) -> tuple[Axis, list[Any]]:
    """An axis for some values, and the values on it: numbers, or the names of categories.

    Only values above 0 can be logarithmic. None: logarithmic if the values span a wide range.
    """
    values = [value for value in column if value is not None]
    if values and all(is_number(value) for value in values):
        is_above = min(values) > 0
        wide = is_above and max(values) / min(values) > LOGARITHMIC
        is_log = is_above and (wide if logarithmic is None else logarithmic)
        return {"type": "log" if is_log else "value"}, column
    names = [str(value) for value in column]
    return {"type": "category", "categories": sorted(dict.fromkeys(names))}, names
