"""The run of a grid whose point equals that of a finished one: it takes the results of that one.

W&B, and the embedded server, hand out the points of a grid without knowing which of them are equal. So it is
the run that looks for a finished run of its sweep, whichever agent has started it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import wandb

from wandb_tl import wandb_process
from wandb_tl.config import EQUAL_TO, FIELDS, RunConfig
from wandb_tl.errors import InputError
from wandb_tl.run_states import RunState
from wandb_tl.sweeping import equal_points

# How W&B sends numbers that JSON does not have.
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
# More than a sweep and a run have; a server could send pages for ever.
MOST_RUNS, MOST_ROWS = 100_000, 1_000_000


@dataclass(frozen=True)
class EqualRun:
    """A finished run. rows: the numbers of its history, a row per epoch. summary: without media."""

    id: str
    rows: list[dict[str, float]]
    summary: dict[str, Any]


def find(config: RunConfig, point: Mapping[str, Any]) -> EqualRun | None:
    """The finished run of this process's sweep that equals a config; None if there is none.

    point: what the sweep has handed out. None as well outside of a sweep, in a sweep that is not a grid, if
    this process continues a run that has trained, and if W&B does not answer: the run then trains.
    """
    sweep_id, run_id = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    may_differ = equal_points.without_effect(config) | set(equal_points.WITH_SYNONYMS)
    # Most runs know without a request that no other one equals theirs.
    if not sweep_id or not run_id or not may_differ & set(point):
        return None
    try:
        if wandb.setup().settings.mode != "online":
            return None
        api = wandb.Api()
        sweep = api.sweep(sweep_id)
        parameters = sweep.config.get("parameters")
        # What a parameter `recipe` sets is not among them.
        named = set(parameters) if isinstance(parameters, dict) else set()
        varied = {name for name in point if name not in named or len(_listed(sweep.config, name)) > 1}
        if sweep.config.get("method") != "grid" or not varied & may_differ:
            return None
        fixed = {f"config.{name}": point[name] for name in varied - may_differ}
        filters = {"sweep": sweep_id, "state": RunState.FINISHED, **fixed}
        project = f"{sweep.entity}/{sweep.project}"
        runs = api.runs(project, filters, order="+created_at", lazy=False)
        twin = next(
            (run for run in islice(runs, MOST_RUNS) if run.id != run_id and _equals(run, config)), None
        )
        if twin is None or _has_trained(api, f"{project}/{run_id}"):
            return None
        return _read(twin)
    except wandb_process.REQUEST_ERRORS:
        return None


def copy(twin: EqualRun, run: wandb.Run) -> None:
    """Give a run the results of another one, and note in its summary which one that is.

    A run that was killed while it did so logs the rest.
    """
    run.summary[EQUAL_TO] = twin.id
    for row in twin.rows[int(run.starting_step) :]:
        run.log(row)
    run.summary.update(twin.summary)


def _listed(definition: Mapping[str, Any], name: str) -> list[Any]:
    """The values that a sweep lists for a hyperparameter; none if its definition has another form."""
    parameters = definition.get("parameters")
    entry = parameters.get(name) if isinstance(parameters, dict) else None
    values = entry.get("values") if isinstance(entry, dict) else None
    return values if isinstance(values, list) else []


def _equals(run: wandb.apis.public.Run, config: RunConfig) -> bool:
    if run.summary.get("test_accuracy") is None or EQUAL_TO in run.summary:
        return False
    try:
        other = RunConfig.from_mapping({name: run.config[name] for name in FIELDS if name in run.config})
    except InputError:
        return False
    return equal_points.key(other) == equal_points.key(config)


def _has_trained(api: wandb.Api, path: str) -> bool:
    """Whether a run has logged epochs of its own."""
    try:
        summary = api.run(path).summary
    except (wandb.Error, ValueError):
        # A server may create a run only when it starts.
        return False
    return "epoch" in summary and EQUAL_TO not in summary


def _read(run: wandb.apis.public.Run) -> EqualRun | None:
    """The results of a finished run; None if the server does not have all of its history yet."""
    logged = [
        {name: _number(value) for name, value in row.items()} for row in islice(run.scan_history(), MOST_ROWS)
    ]
    # W&B's own keys begin with an underscore; media are no numbers.
    rows = [
        {name: value for name, value in row.items() if value is not None and not name.startswith("_")}
        for row in logged
    ]
    # The rows of figures and tables have nothing besides the epoch.
    rows = [row for row in rows if len(row) > 1]
    if not rows or rows[-1].get("epoch") != run.summary.get("epoch"):
        return None
    summary = {
        name: value
        for name, value in dict(run.summary).items()
        if isinstance(value, int | float | str) and not name.startswith("_")
    }
    return EqualRun(run.id, rows, summary)


def _number(value: Any) -> float | None:
    if value in NOT_FINITE:
        return float(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None
