"""Warnings about a sweep's config that can be run: keys and values that W&B's own engine finds invalid.

The types in sweep_config.py say what is valid. A test compares the verdicts with those of W&B's engine.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from wandb_tl.local.errors import RequestError
from wandb_tl.local.sweeps import distributions, sweep_config
from wandb_tl.local.sweeps.sweep_config import Above, Controller, Parameter, SweepConfig

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# Distributions whose limits are exponents, and those to use instead.
EXPONENTS = {kind: f"{kind}_values" for kind in ("log_uniform", "inv_log_uniform", "q_log_uniform")}
# The methods that each engine of a scheduler supports.
ENGINES = {"wandb": ("grid", "bayes", "random"), "optuna": ("custom",), "ax": ("custom",)}
# W&B allows further keys in these.
OPEN = (Controller,)


def of_config(config: Mapping[str, Any]) -> list[str]:
    """The warnings, one line each, none twice. `config` is one that config_check has not refused."""
    lines = _unknown_keys(config, SweepConfig, "a sweep's config")
    hints = _hints(SweepConfig)
    for key, value in config.items():
        if key == "parameters":
            lines += _of_parameters(value)
        elif key in hints:
            lines += _problems(value, hints[key], key)
    lines += [*_of_metrics(config), *_of_scheduler(config), *_of_effects(config)]
    return list(dict.fromkeys(lines))


# ---- values and their types ------------------------------------------------------------------------------


def _problems(value: Any, expected: Any, place: str) -> list[str]:
    """What is wrong with the value at a place of the config, which should be of the expected type."""
    if is_typeddict(expected):
        return _problems_of_mapping(value, expected, place)
    if isinstance(value, list) and get_origin(expected) is list:
        [item] = get_args(expected)
        return [line for i, each in enumerate(value, 1) for line in _problems(each, item, f"{place}[{i}]")]
    return [] if _fits(value, expected) else [f"{place} must be {_words(expected)}, not {_shown(value)}"]


def _problems_of_mapping(value: Any, expected: Any, place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place} must be a mapping such as {{{_example(expected)}}}, not {_shown(value)}"]
    hints = _hints(expected)
    lines = [] if expected in OPEN else _unknown_keys(value, expected, place)
    lines += [f"{place} needs {key}: {_words(hints[key])}" for key in hints if _lacks(value, key, expected)]
    for key, item in value.items():
        if key in hints:
            lines += _problems(item, hints[key], f"{place}.{key}")
    return lines


def _lacks(value: Mapping[str, Any], key: str, expected: Any) -> bool:
    return key in expected.__required_keys__ and key not in value


def _hints(expected: Any) -> dict[str, Any]:
    """The types of a TypedDict's keys."""
    hints = get_type_hints(expected, include_extras=True)
    return {
        key: get_args(hint)[0] if get_origin(hint) is NotRequired else hint for key, hint in hints.items()
    }


def _unknown_keys(value: Mapping[Any, Any], expected: Any, place: str) -> list[str]:
    names = list(_hints(expected))
    lines = []
    for key in value:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"remove it, or use one of {', '.join(names)}"
            lines.append(f"{key} is not a key of {place}, and is ignored: {hint}")
    return lines


def _fits(value: Any, expected: Any) -> bool:
    if get_origin(expected) is Annotated:
        base, limit = get_args(expected)
        return _fits(value, base) and limit.holds(value)
    if get_origin(expected) is Literal:
        return value in get_args(expected)
    if expected in (int, float):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and (expected is float or value == value // 1)
    return expected is Any or isinstance(value, get_origin(expected) or expected)


def _words(expected: Any) -> str:
    """A type in the words of a message."""
    if get_origin(expected) is Annotated:
        base, limit = get_args(expected)
        return f"{_words(base)} {limit}"
    if get_origin(expected) is Literal:
        return " or ".join(get_args(expected))
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}.get(
        expected, "a list"
    )


def _example(expected: Any) -> str:
    key = min(expected.__required_keys__)
    hint = _hints(expected)[key]
    return f"{key}: {get_args(hint)[0] if get_origin(hint) is Literal else '...'}"


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)


# ---- parameters ------------------------------------------------------------------------------------------


def _of_parameters(parameters: Any, groups: str = "") -> list[str]:
    """Of the parameters of the config, or of those in a group of them."""
    if not isinstance(parameters, dict) or not parameters:
        owner = f"parameter {groups.removesuffix('.')}" if groups else "the config"
        return [f"{owner} has no parameters: write them as parameters: {{lr: {{values: [0.1, 0.01]}}}}"]
    lines = []
    for name, spec in parameters.items():
        place = f"parameter {groups}{name}"
        if isinstance(name, str) and not NAME.fullmatch(name):
            lines.append(
                f"{place}: a name begins with a letter or an underscore and holds only letters, digits, dots,"
                " hyphens and underscores"
            )
        if not isinstance(spec, dict):
            lines.append(f"{place} must be a mapping such as {{values: [...]}}, not {_shown(spec)}")
        elif "parameters" in spec:
            others = ", ".join(str(key) for key in spec if key != "parameters")
            lines += [f"{place} is a group of parameters: remove {others} from it"] if others else []
            lines += _of_parameters(spec["parameters"], f"{groups}{name}.")
        else:
            lines += _of_keys(place, spec)
            # W&B's engine looks at these in groups neither.
            lines += [] if groups else _of_values(place, spec)
    return lines


def _of_keys(place: str, spec: dict[str, Any]) -> list[str]:
    """Keys that the parameter's distribution lacks or does not take, and values of another type."""
    try:
        kind = distributions.kind_of(cast(Parameter, spec))
    except RequestError:
        return [f"{place} needs a value, values, or min and max"]
    if not isinstance(kind, str) or kind not in distributions.KEYS:
        return [f"{place}: {_shown(kind)} is not one of {', '.join(distributions.KEYS)}"]
    needed, optional = distributions.KEYS[kind]
    takes = ", ".join((*needed, *optional))
    lines = [
        f"{place}: the distribution {kind} takes {takes}, not {key}: remove {key} or change the distribution"
        for key in spec
        if key not in (*needed, *optional, "distribution")
    ]
    lines += [f"{place}: the distribution {kind} needs {key}" for key in needed if key not in spec]
    if kind == "normal" and "distribution" not in spec:
        lines.append(f"{place} needs its distribution named: add distribution: normal")
    lines += [f"{place}: {key} is an empty list: list at least one" for key in needed if spec.get(key) == []]
    hints = _hints(Parameter) | ({"min": int, "max": int} if kind == "int_uniform" else {})
    if kind.endswith("_values"):
        hints["min"] = Annotated[float, Above(0)]
    for key in (*needed, *optional):
        if key in spec:
            lines += _problems(spec.get(key), hints[key], f"{place}, {key},")
    return lines


def _of_values(place: str, spec: dict[str, Any]) -> list[str]:
    """Numbers of the right types that contradict one another, and limits that may be misread."""
    low, high, lines = spec.get("min"), spec.get("max"), []
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low >= high:
        advice = f"write value: {low}" if low == high else "swap them"
        lines.append(f"{place}: min {low} is not less than max {high}: {advice}")
    values, weights = spec.get("values"), spec.get("probabilities")
    if isinstance(weights, list) and isinstance(values, list):
        if len(weights) != len(values):
            lines.append(f"{place} has {len(values)} values and {len(weights)} probabilities")
        numbers = [weight for weight in weights if isinstance(weight, (int, float))]
        if len(numbers) == len(weights) and not math.isclose(sum(numbers), 1, abs_tol=1e-5):
            lines.append(f"{place}: its probabilities add up to {sum(numbers):.6g}, not to 1")
    kind = spec.get("distribution")
    if isinstance(kind, str) and kind in EXPONENTS:
        lines.append(
            f"{place}: min and max of {kind} are exponents of e; use {EXPONENTS[kind]} to give the limits"
            " themselves"
        )
    return lines


# ---- keys that depend on one another ---------------------------------------------------------------------


def _of_metrics(config: Mapping[str, Any]) -> list[str]:
    metrics = config.get("metrics")
    if "metrics" not in config:
        return []
    lines = []
    if isinstance(metrics, list) and len(metrics) < 2:
        lines.append("metrics takes two metrics or more: use metric for one")
    if "metric" in config:
        lines.append("metric and metrics exclude each other: use metric for one metric, metrics for several")
    elif config["method"] != "custom":
        lines.append(f"metrics needs method: custom, not {config['method']}: use metric instead")
    return lines


def _of_scheduler(config: Mapping[str, Any]) -> list[str]:
    scheduler, method = config.get("scheduler"), config["method"]
    lines = []
    if not (isinstance(scheduler, dict) and scheduler.get("search_space")) and "parameters" not in config:
        lines.append("the config has no parameters: add them, or name a scheduler.search_space")
    if scheduler is None:
        return lines
    if "early_terminate" in config:
        lines.append("early_terminate has no effect beside scheduler: the scheduler must stop runs itself")
    controller = config.get("controller")
    if isinstance(controller, dict) and controller.get("type") == "local":
        lines.append("controller type local cannot be used beside scheduler: remove controller")
    if isinstance(scheduler, dict):
        methods = ENGINES.get(str(scheduler.get("engine")), (method,))
        if method not in methods:
            lines.append(
                f"the scheduler engine {scheduler['engine']} does not support method: {method}; use"
                f" {' or '.join(methods)}"
            )
        lines += [
            f"scheduler.{key} needs scheduler.source, the file that holds it"
            for key in ("optimizer", "search_space")
            if key in scheduler and "source" not in scheduler
        ]
    return lines


def _of_effects(config: Mapping[str, Any]) -> list[str]:
    """Valid values that have no effect, or not the one that was meant."""
    lines = []
    metric, controller = config.get("metric"), config.get("controller")
    name = metric.get("name") if isinstance(metric, dict) else None
    if isinstance(name, str) and name != name.strip():
        lines.append(
            f'the metric name "{name}" begins or ends with a blank: only a key with that blank counts'
        )
    outside = sweep_config.scheduled_outside(config)
    if isinstance(controller, dict) and controller.get("type") == "local" and not outside:
        lines.append("controller type local has no effect: the server chooses the runs of this sweep")
    return lines
