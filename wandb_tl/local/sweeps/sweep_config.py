"""A sweep's config: the YAML text read, what cannot be run refused, and what will be ignored said.

The schema is the one of W&B's own engine; see its $comment.
"""

from __future__ import annotations

import difflib
import json
import random
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Row
from wandb_tl.local.sweeps import distributions, grid, hyperband

METHODS = ("grid", "bayes", "random")
# The taken points of a grid are looked through at every hand-out.
MOST_POINTS = 100_000

SCHEMA = Path(__file__).parent / "sweep_schema.json"

# Distributions whose bounds are exponents, and the ones to use instead.
DEPRECATED = {kind: f"{kind}_values" for kind in ("log_uniform", "inv_log_uniform", "q_log_uniform")}
ENGINES = {"wandb": METHODS, "optuna": ("custom",), "ax": ("custom",)}


@lru_cache(maxsize=128)
def parse(text: str) -> Any:
    """The config in YAML text; not to be changed. Raises RequestError for what is no YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RequestError(f"the sweep's config is no YAML: {' '.join(str(error).split())}") from None


def metric_name(config: Row) -> str | None:
    """The metric that the sweep is about, None for a sweep that names none."""
    metric = config.get("metric")
    return metric.get("name") if isinstance(metric, dict) else None


def scheduled_outside(config: Row) -> bool:
    """Whether `wandb sweep-scheduler` says what is run."""
    return bool(config.get("scheduler"))


def check(config: Any) -> list[str]:
    """Warnings about a sweep's config, one line each. Raises RequestError for what cannot be run."""
    if not isinstance(config, dict):
        raise RequestError("the sweep's config is no YAML mapping")
    _check_method(config)
    cap = config.get("run_cap")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise RequestError(f"run_cap must be a whole number above 0, not {cap}")
    _check_metric(config)
    hyperband.of_config(config)
    if not scheduled_outside(config):
        _check_parameters(config)
    return list(dict.fromkeys([*_violations(config), *_notes(config)]))


def _check_method(config: Row) -> None:
    method = config.get("method")
    if method is None:
        raise RequestError(f"the sweep's config names no method; it can be {', '.join(METHODS)}")
    if method in METHODS or (method == "custom" and scheduled_outside(config)):
        return
    if method == "custom":
        raise RequestError("the sweep method custom needs a scheduler, as scheduler: {engine: optuna}")
    raise RequestError(f"the sweep method {method} is not supported; it can be {', '.join(METHODS)}")


def _check_metric(config: Row) -> None:
    needs = "the sweep method bayes" if config["method"] == "bayes" else None
    needs = "early_terminate" if config.get("early_terminate") else needs
    if needs is None:
        return
    name = metric_name(config)
    if not isinstance(name, str) or not name:
        raise RequestError(f"{needs} needs a metric, as metric: {{name: loss, goal: minimize}}")


def _check_parameters(config: Row) -> None:
    parameters, method = config.get("parameters"), config["method"]
    if not isinstance(parameters, dict) or not parameters:
        near = difflib.get_close_matches("parameters", config, n=1, cutoff=0.7)
        meant = f"; is {near[0]} a misspelling?" if near and near != ["parameters"] else ""
        raise RequestError(f"the sweep's config has no parameters{meant}")
    varying = 0
    for path, spec in grid.leaves(parameters):
        name = ".".join(map(str, path))
        if not all(isinstance(part, str) for part in path):
            raise RequestError(f"parameter {name} must have a name that is text: put it in quotes")
        if not isinstance(spec, dict):
            raise RequestError(
                f"parameter {name} must be a mapping such as {{values: [...]}}, not {json.dumps(spec)}"
            )
        distributions.check(name, spec)
        varying += distributions.kind_of(name, spec) != "constant"
        if method == "grid" and grid.value_count(name, spec) is None:
            raise RequestError(f"parameter {name} is continuous: a grid needs its values")
    if method == "grid" and (size := grid.grid_size(config)) > MOST_POINTS:
        raise RequestError(f"the grid has {size:,} points; {MOST_POINTS:,} are the most")
    if method == "bayes" and not varying:
        raise RequestError("the sweep method bayes needs a parameter that varies")
    try:
        # What the checks above let through fails here, and not at an agent's every heartbeat.
        json.dumps(parameters, allow_nan=False)
        if method != "grid":
            json.dumps(grid.draw(config, random.Random(0)), allow_nan=False)
    except Exception as error:
        raise RequestError(f"the sweep's parameters give no point: {error}") from None


def _notes(config: Row) -> list[str]:
    """What W&B's schema has no word for."""
    notes = []
    name = metric_name(config)
    if isinstance(name, str) and name != name.strip():
        notes.append(f'metric name "{name}" begins or ends with a blank, and only a key with it will count')
    controller = config.get("controller")
    if isinstance(controller, dict) and controller.get("type") == "local":
        notes.append("controller type local has no effect: the server chooses the runs of this sweep")
    return notes


def _violations(config: Row) -> list[str]:
    """Violations of W&B's schema, in the words of its engine."""
    found = [error.message for error in _validator().iter_errors(config)]
    method, scheduler = config["method"], config.get("scheduler")
    settings = scheduler if isinstance(scheduler, dict) else {}
    if "parameters" not in config and not settings.get("search_space"):
        found.append("`parameters` is required unless `scheduler.search_space` is set.")
    if "metric" in config and "metrics" in config:
        found.append(
            "`metric` and `metrics` cannot both be set: use `metric` for a single objective, or `metrics` "
            "for multi-objective optimization."
        )
    elif "metrics" in config and method != "custom":
        found.append(
            f"`metrics` requires `method: custom` (got `method: {method}`): multi-objective optimization is "
            "only supported with a custom scheduler."
        )
    if scheduler is not None and "early_terminate" in config:
        found.append(
            "`early_terminate` cannot be used together with `scheduler`: early termination must be "
            "implemented by the custom scheduler itself."
        )
    if isinstance(scheduler, dict):
        engine = settings.get("engine")
        methods = ENGINES.get(engine) if isinstance(engine, str) else None
        if methods is None:
            names = ", ".join(ENGINES)
            found.append(f"scheduler.engine '{engine}' is not supported. supported engines are: {names}")
        elif method not in methods:
            names = ", ".join(f"`method: {name}`" for name in methods)
            found.append(
                f"`scheduler.engine: {engine}` does not support `method: {method}`. supported methods are: "
                f"{names}"
            )
    parameters = config.get("parameters")
    for name, spec in parameters.items() if isinstance(parameters, dict) else ():
        if isinstance(spec, dict):
            found += _parameter_violations(name, spec)
    return found


def _parameter_violations(name: str, spec: Row) -> list[str]:
    found = []
    low, high = spec.get("min"), spec.get("max")
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low >= high:
        found.append(f"{name}: min {low} is not less than max {high}")
    weights = spec.get("probabilities")
    if isinstance(weights, list) and "values" in spec and abs(sum(weights) - 1) > 1e-5:
        found.append(f"Parameter {name}: Probabilities {weights} do not sum to 1")
    if not _validator({"$ref": "#/definitions/parameter"}).is_valid(spec):
        found.append(f"invalid hyperparameter configuration: {name}")
    elif (kind := spec.get("distribution")) in DEPRECATED:
        found.append(
            f"{name} uses {kind}, where min/max specify base-e exponents. Use {DEPRECATED[kind]} to specify "
            "limit values."
        )
    return found


def _validator(part: Row | None = None) -> Any:
    """A validator of the whole config, or of the part of it that a reference names."""
    whole, formats = _schema()
    schema = whole if part is None else {"definitions": whole["definitions"], **part}
    return jsonschema.Draft7Validator(schema, format_checker=formats)


@cache
def _schema() -> tuple[Row, jsonschema.FormatChecker]:
    formats = jsonschema.FormatChecker()
    # Formats that only this schema has: a number written with a point or without one.
    formats.checks("float")(lambda value: isinstance(value, float))
    formats.checks("integer")(lambda value: isinstance(value, int))
    return json.loads(SCHEMA.read_text(encoding="utf-8")), formats
