"""The objectives of a sweep, and its Pareto front: the runs that no other run beats in all of them."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.values import Run, is_number
from wandb_tl.local.sweeps import sweep_config
from wandb_tl.local.sweeps.sweep_config import SweepConfig

# The charts of pairs of objectives: of four objectives all.
PAIRS = 6


class Objective(NamedTuple):
    """A metric that a sweep optimizes: `measure` is its key in the summaries of runs."""

    name: str
    measure: str
    maximize: bool

    @property
    def goal(self) -> str:
        return "maximize" if self.maximize else "minimize"


class Scatter(TypedDict):
    """A chart of two objectives: a point per run, and in `front` the (x, y) of the front, from left to right.

    A point has a run's id, name, label, color and group, [x, y] as value, and whether it is on the front.
    """

    axes: list[dict[str, Any]]
    points: list[dict[str, Any]]
    front: list[list[float]]


def of_sweep(config: SweepConfig, runs: list[Run]) -> list[Objective]:
    """The objectives in their order; at most one for a sweep with a single metric."""
    keys = {key for run in runs for key, value in run.summary.items() if is_number(value)}
    objectives = []
    for metric in sweep_config.objectives(config):
        maximize = metric.get("goal") == "maximize"
        objectives.append(Objective(metric["name"], measure_of(metric["name"], maximize, keys), maximize))
    return objectives


def measure_of(name: str, maximize: bool, keys: set[str]) -> str:
    """The summary key of a metric: its name, or that of run.define_metric(name, summary="min")."""
    better = ("max", "min") if maximize else ("min", "max")
    candidates = [f"{name}.{how}" for how in (*better, "best", "last", "mean")]
    return next((key for key in (name, *candidates) if key in keys), name)


def measured(runs: list[Run], objectives: list[Objective]) -> list[Run]:
    """The runs that have a finite value of each objective."""
    return [run for run in runs if all(is_number(run.summary.get(one.measure)) for one in objectives)]


def front(runs: list[Run], objectives: list[Objective]) -> list[Run]:
    """The runs of the Pareto front, the best in the first objective first. Equal runs are all on it."""
    runs = measured(runs, objectives)
    # Lower is better in all of them.
    costs = tuple(
        tuple((-1 if one.maximize else 1) * float(run.summary[one.measure]) for one in objectives)
        for run in runs
    )
    best = _front(costs)
    places = sorted((place for place, cost in enumerate(costs) if cost in best), key=costs.__getitem__)
    return [runs[place] for place in places]


# Each chart of a page and each of its updates asks for it. A key takes about what a page takes of its runs.
@lru_cache(maxsize=4)
def _front(costs: tuple[tuple[float, ...], ...]) -> frozenset[tuple[float, ...]]:
    """The costs that no others beat: in proportion to their number for two objectives, else to its square."""
    best: list[tuple[float, ...]] = []
    # Costs can be beaten only by some that come before them, and then by some of the front: of two objectives
    # by the last of them, which is the least in the second one.
    for cost in sorted(set(costs)):
        rivals = best[-1:] if len(cost) <= 2 else best
        if not any(all(a <= b for a, b in zip(rival, cost, strict=True)) for rival in rivals):
            best.append(cost)
    return frozenset(best)


def pairs(objectives: list[Objective]) -> list[tuple[Objective, Objective]]:
    """The pairs of objectives that are drawn over each other."""
    return list(itertools.combinations(objectives, 2))[:PAIRS]


def chart(runs: list[Run], config: SweepConfig, number: str) -> Scatter:
    """The chart of the pair with this number, from 0. Raises RequestError (404) if there is no such pair."""
    objectives = of_sweep(config, runs)
    all_pairs = pairs(objectives)
    if not (number.isdecimal() and len(number) < 3 and int(number) < len(all_pairs)):
        raise RequestError("This sweep has no such pair of objectives.", 404)
    return scatter(runs, objectives, all_pairs[int(number)])


def scatter(runs: list[Run], objectives: list[Objective], pair: tuple[Objective, Objective]) -> Scatter:
    """The chart of a pair. Of more than two objectives a line cannot show the front, and `front` is empty."""
    best = {run.id for run in front(runs, objectives)}
    points: list[dict[str, Any]] = [
        {
            "id": run.id,
            "name": run.name,
            "label": run.label,
            "group": run.recipe,
            "color": run.color,
            "value": [run.summary[one.measure] for one in pair],
            "front": run.id in best,
            "rows": [[one.measure, run.summary[one.measure]] for one in objectives],
        }
        for run in measured(runs, objectives)
    ]
    corners = sorted(point["value"] for point in points if point["front"]) if len(objectives) == 2 else []
    return {
        "axes": [{"name": one.measure, "goal": one.goal} for one in pair],
        "points": points,
        "front": corners,
    }
