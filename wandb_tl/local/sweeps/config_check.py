"""What the server refuses in a sweep's config: everything that would leave it without a run to hand out."""

from __future__ import annotations

import difflib
import json
import random
from typing import Any, cast

from wandb_tl.local.errors import RequestError
from wandb_tl.local.sweeps import config_warnings, distributions, grid, hyperband, sweep_config
from wandb_tl.local.sweeps.sweep_config import SweepConfig

METHODS = ("grid", "bayes", "random")
GOALS = ("minimize", "maximize")
# Each proposal of a search looks at all of them.
MOST_PARAMETERS = 1000


def check(text: str) -> list[str]:
    """Warnings about the config in a YAML text, one line each: what the server, or W&B, will ignore.

    Raises RequestError for a config that cannot be run.
    """
    config = sweep_config.read(text)
    _check_method(config)
    cap = config.get("run_cap")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise RequestError(f"run_cap must be a whole number above 0, not {cap}")
    _check_metric(config)
    hyperband.of_config(cast(SweepConfig, config))
    if not sweep_config.scheduled_outside(config):
        _check_parameters(config)
    return config_warnings.of_config(config)


def _check_method(config: dict[str, Any]) -> None:
    method, methods = config.get("method"), ", ".join(METHODS)
    if method is None:
        raise RequestError(f"the sweep's config has no method; set one of {methods}, as method: random")
    if method in METHODS or (method == "custom" and sweep_config.scheduled_outside(config)):
        return
    if method == "custom":
        raise RequestError("the sweep method custom needs a scheduler, as scheduler: {engine: optuna}")
    raise RequestError(f"the sweep method {method} is not supported; use one of {methods}")


def _check_metric(config: dict[str, Any]) -> None:
    needs = "the sweep method bayes" if config["method"] == "bayes" else None
    needs = "early_terminate" if config.get("early_terminate") else needs
    metric = config.get("metric")
    name = metric.get("name") if isinstance(metric, dict) else None
    if needs and (not isinstance(name, str) or not name):
        raise RequestError(f"{needs} needs a metric, as metric: {{name: loss, goal: minimize}}")
    metrics = config.get("metrics")
    for one in [metric, *(metrics if isinstance(metrics, list) else [])]:
        goal = one.get("goal") if isinstance(one, dict) else None
        if goal not in (None, *GOALS):
            raise RequestError(f"the metric's goal {goal} is not valid; use {' or '.join(GOALS)}")


def _check_parameters(config: dict[str, Any]) -> None:
    parameters, method = config.get("parameters"), config["method"]
    if not isinstance(parameters, dict) or not parameters:
        near = difflib.get_close_matches("parameters", map(str, config), n=1, cutoff=0.7)
        hint = f"; is {near[0]} a misspelling?" if near and near != ["parameters"] else ""
        raise RequestError(f"the sweep's config has no parameters{hint}")
    varying = 0
    leaves = list(grid.leaves(parameters))
    if len(leaves) > MOST_PARAMETERS:
        raise RequestError(f"a sweep can have {MOST_PARAMETERS:,} parameters, not {len(leaves):,}")
    for path, spec in leaves:
        name = ".".join(map(str, path))
        if not all(isinstance(part, str) for part in path):
            raise RequestError(f"parameter {name} must have a string as its name: put it in quotes")
        if not isinstance(spec, dict):
            raise RequestError(
                f"parameter {name} must be a mapping such as {{values: [...]}},"
                f" not {json.dumps(spec, default=str)}"
            )
        if problem := distributions.problem(spec):
            raise RequestError(f"parameter {name} {problem}")
        varying += not distributions.is_constant(spec)
        if method == "grid" and grid.value_count(spec) is None:
            raise RequestError(
                f"parameter {name} is continuous, and a grid needs a list of values: write values: [...],"
                " or use method: random"
            )
    if method == "bayes" and not varying:
        raise RequestError("the sweep method bayes needs a parameter that varies")
    _check_points(cast(SweepConfig, config))


def _check_points(config: SweepConfig) -> None:
    if config["method"] == "grid" and (size := grid.grid_size(config)) > grid.MOST_POINTS:
        raise RequestError(
            f"the grid has {size:,} points, more than {grid.MOST_POINTS:,}: use method: random"
        )
    try:
        # A config that gets here and gives no point must fail now, and not at every heartbeat of an agent.
        json.dumps(config["parameters"], allow_nan=False)
        if config["method"] != "grid":
            json.dumps(grid.draw(config, random.Random(0)), allow_nan=False)
    except Exception as error:
        raise RequestError(f"no point can be drawn from the sweep's parameters: {error}") from None
