"""The Pareto front of a sweep with several objectives: the runs that no other run beats in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wandb_tl.analysis import formatting
from wandb_tl.analysis.formatting import code, conjunction, count
from wandb_tl.analysis.runs_by_recipe import RunsByRecipe, ValuesInEffect

# Runs that sentences name one by one; the table has all.
MOST_NAMED = 8


@dataclass(frozen=True)
class Objective:
    """A metric that a sweep optimizes: its key in the summaries of runs, and whether more is better."""

    name: str
    maximize: bool

    def __str__(self) -> str:
        return f"{code(self.name)} ({'higher' if self.maximize else 'lower'} is better)"


@dataclass(frozen=True)
class FrontRun:
    """A run of the front. values: of the objectives, in their order. row: of its recipe in the table, from 1.

    hyperparameters: those that differ between the recipes, as they take effect.
    """

    run: str
    name: str
    row: int
    values: tuple[float, ...]
    hyperparameters: ValuesInEffect


@dataclass(frozen=True)
class Front:
    """runs: the best one in the first objective first. measured: how many runs have all objectives."""

    objectives: tuple[Objective, ...]
    runs: tuple[FrontRun, ...]
    measured: int


def objectives(definition: Mapping[str, Any]) -> list[Objective]:
    """The objectives of a sweep that has several, from its `metrics`; none for other sweeps."""
    listed = definition.get("metrics")
    # The definition of a server, which need not be one that this package has checked.
    metrics = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    named = [
        Objective(str(one["name"]), str(one.get("goal", "minimize")).lower() == "maximize")
        for one in metrics
        if one.get("name")
    ]
    return named if len(named) > 1 else []


def front(frame: pd.DataFrame, runs: RunsByRecipe) -> Front | None:
    """The front of the runs; None for a sweep with one objective.

    frame: with the objectives as columns, and the sweep's `metrics` in attrs.
    """
    aims = objectives({str(key): value for key, value in frame.attrs.items()})
    if not aims:
        return None
    columns = [one.name for one in aims if one.name in runs.runs]
    signs = np.array([-1.0 if one.maximize else 1.0 for one in aims])
    rows = runs.runs
    if len(columns) < len(aims):
        return Front(tuple(aims), (), 0)
    values = rows[columns].to_numpy(dtype=float)
    measured = np.isfinite(values).all(axis=1)
    rows, values = rows[measured], values[measured]
    # Lower is better in all of them.
    costs = values * signs
    best = [place for place, cost in enumerate(costs) if not _is_beaten(cost, costs)]
    best.sort(key=lambda place: (*costs[place], str(rows["id"].iloc[place])))
    found = (
        FrontRun(
            run=str(row["id"]),
            name=str(row["name"]),
            row=runs.rows[row["recipe"]],
            values=tuple(map(float, values[place])),
            hyperparameters={name: runs.values[row["recipe"]][name] for name in runs.varied},
        )
        for place in best
        for row in [rows.iloc[place]]
    )
    return Front(tuple(aims), tuple(found), len(rows))


def _is_beaten(cost: np.ndarray[Any, Any], costs: np.ndarray[Any, Any]) -> bool:
    """Whether other costs are as low in all objectives and lower in one."""
    return bool(((costs <= cost).all(axis=1) & (costs < cost).any(axis=1)).any())


def sentences(found: Front) -> list[str]:
    """The front in Markdown: what it is, its runs with their values, and how sure they are."""
    aims = conjunction([str(one) for one in found.objectives])
    if not found.runs:
        return [f"No run has all objectives of the sweep: {aims}. There is no Pareto front without them."]
    total = count(found.measured, "run")
    if len(found.runs) == 1:
        first = f"One run is the best of {total} in all objectives, {aims}:"
    else:
        first = (
            f"No run is the best in all objectives, {aims}. The Pareto front has {len(found.runs)} of "
            f"{total}; each other run is beaten by one of these:"
        )
    named = [_in_words(one, found.objectives) for one in found.runs[:MOST_NAMED]]
    more = len(found.runs) - len(named)
    rest = [f"The table of the front has {count(more, 'more run')}."] if more else []
    moves = "another seed, or other work on the machine, moves it, and so the front"
    return [first, *named, *rest, f"Each value is of a single run: {moves}."]


def _in_words(one: FrontRun, aims: Sequence[Objective]) -> str:
    values = formatting.settings({aim.name: value for aim, value in zip(aims, one.values, strict=True)})
    recipe = formatting.settings(one.hyperparameters)
    return f"Run {code(one.run)}, row {one.row}: {values}{f', with {recipe}' if recipe else ''}."


def table(found: Front) -> pd.DataFrame:
    """The runs of the front as strings, one row each."""
    cells = {"Run": [one.name for one in found.runs], "Row": [str(one.row) for one in found.runs]}
    for place, aim in enumerate(found.objectives):
        cells[aim.name] = [formatting.level(one.values[place]) for one in found.runs]
    for name in found.runs[0].hyperparameters if found.runs else ():
        cells[name] = [formatting.level(one.hyperparameters[name]) for one in found.runs]
    return pd.DataFrame(cells)
