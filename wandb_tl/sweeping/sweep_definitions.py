"""Sweep definitions: the presets, and definitions read from a file and checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Required, TypedDict

import yaml

from wandb_tl.config import (
    FIELDS,
    RECIPE,
    RunConfig,
    artifact_named,
    check_names,
    check_value,
    with_recipe,
)
from wandb_tl.errors import InputError, nearest, one_line
from wandb_tl.hyperparameters import Value

PRESETS = Path(__file__).parents[1] / "presets"
PROGRAM = "wandb_tl/train.py"
# An error spells out the values of a range of at most this many.
LONGEST_RANGE = 20
# As run_sweep lists them: the first one to try comes first.
PRESET_NAMES = (
    "laptop",
    "quick",
    "pictures",
    "tune",
    "recommended",
    "lp_ft",
    "pareto",
    "seeds",
    "as_published",
)
# The hyperparameters that decide which images a run trains on, and whether it can.
DATA_FIELDS = (
    "dataset",
    "data_dir",
    "resize",
    "on_bad_image",
    "train_limit",
    "test_limit",
    "val_fraction",
    "fold",
    "test_fraction",
    "model_name",
    "image_size",
    "batch_size",
    "optimizer",
    RECIPE,
)


class Parameter(TypedDict, total=False):
    """The values of a hyperparameter: one value, several values, or a distribution with its bounds.

    Other keys of W&B distributions (mu, sigma, q, probabilities) are passed on unchecked.
    """

    value: Value
    values: list[Value]
    distribution: str
    min: float
    max: float


class Metric(TypedDict, total=False):
    """The metric that a sweep optimizes. goal: minimize or maximize. target: a value that ends it."""

    name: Required[str]
    goal: str
    target: float


class Definition(TypedDict, total=False):
    """A W&B sweep definition, as its YAML file states it.

    metrics: of a sweep with several objectives, in place of metric. scheduler: what `wandb sweep-scheduler`
    chooses the runs with; the parameters may be missing if it names a search_space.
    """

    name: str
    description: str
    entity: str
    project: str
    program: str
    command: list[str]
    method: str
    metric: Metric
    metrics: list[Metric]
    scheduler: dict[str, Any]
    early_terminate: dict[str, Any]
    controller: dict[str, Any]
    run_cap: int
    parameters: dict[str, Parameter]


def list_presets() -> str:
    """One line per preset: its name and its description."""
    return "\n".join(f"  {name:14} {load(name, [])['description']}" for name in PRESET_NAMES)


def is_path(sweep: str) -> bool:
    """Whether this is ENTITY/PROJECT/SWEEP, an existing sweep, and not a file or a preset."""
    return bool(re.fullmatch(r"[^/.][^/]*/[^/]+/[^/]+", sweep)) and not sweep.endswith((".yaml", ".yml"))


def load(sweep: str, settings: list[str]) -> Definition:
    """The definition of a preset or a file, with the settings NAME=VALUE[,VALUE…] applied.

    A preset whose settings hold out validation images has val/accuracy as its metric.

    InputError if it cannot be read, or has a hyperparameter or a value that RunConfig does not allow.
    """
    is_preset = not sweep.endswith((".yaml", ".yml"))
    file = PRESETS / f"{sweep}.yaml" if is_preset else Path(sweep)
    definition = _read(file, sweep)
    parameters = dict(parse_setting(setting) for setting in settings)
    if "data_dir" in parameters and "dataset" not in parameters:
        # The presets name a data set.
        parameters["dataset"] = {"value": "folder"}
    if _is_conditional(definition):
        if parameters:
            function = f"the function {definition['scheduler']['search_space']} (scheduler.search_space)"
            raise InputError(f"--set {settings[0]}: {function} sets the hyperparameters; change it there")
        return definition
    if "fold" in parameters and "val_fraction" not in parameters:
        # A preset's fraction would hold out others.
        definition["parameters"].pop("val_fraction", None)
    definition["parameters"] |= parameters
    for name, parameter in definition["parameters"].items():
        check_names({str(name)} - {RECIPE})
        for value in _values(name, parameter, file):
            with_recipe({name: value}) if name == RECIPE else check_value(name, value)
    if is_preset and _hold_out_validation(parameters):
        _choose_by_validation(definition)
    return definition


def _hold_out_validation(settings: Mapping[str, Parameter]) -> bool:
    """Whether settings give every run validation images: a val_fraction above 0, or a fold."""
    choices = [settings[name] for name in ("val_fraction", "fold") if name in settings]
    return any(all(one.get("values", [one.get("value")])) for one in choices)


def _choose_by_validation(definition: Definition) -> None:
    """Make val/accuracy the metric of a sweep by test accuracy: the report orders its recipes by that.

    Otherwise, the page of the sweep would name another best run than the report.
    """
    if (metric := definition.get("metric")) and metric["name"] == "test/accuracy":
        metric["name"] = "val/accuracy"


def is_plain(definition: Mapping[str, Any]) -> bool:
    """Whether a sweep's runs start wandb_tl.train with the hyperparameters of their point alone."""
    command = [str(word) for word in definition.get("command") or []]
    plain = not command or command[-3:] == ["-m", "wandb_tl.train", "${args}"]
    # At most ${env} and Python precede these three.
    return definition.get("program") == PROGRAM and plain and len(command) <= 5


def data_configs(definition: Definition) -> list[RunConfig]:
    """A config for each combination of values that decide a run's images, to check them beforehand.

    Values that a search draws from a distribution are left out. InputError for values that contradict.
    """
    choices = {
        name: parameter["values"] if "values" in parameter else [parameter["value"]]
        for name in DATA_FIELDS
        if (parameter := definition.get("parameters", {}).get(name))
        and ("values" in parameter or "value" in parameter)
    }
    combinations = itertools.product(*choices.values())
    return [RunConfig.from_flags(dict(zip(choices, values, strict=True))) for values in combinations]


def _read(file: Path, sweep: str) -> Definition:
    try:
        definition: Definition = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(_not_found(sweep)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not YAML ({' '.join(str(error).split())})") from error
    is_definition = isinstance(definition, dict) and (
        isinstance(definition.get("parameters"), dict) or _is_conditional(definition)
    )
    if not is_definition:
        raise InputError(f"{file}: not a W&B sweep definition (it has no parameters)")
    if not (definition.get("program") or definition.get("command")):
        raise InputError(f"{file}: has no program; add the line `program: wandb_tl/train.py`")
    return definition


def _is_conditional(definition: Definition) -> bool:
    """Whether a function of a scheduler chooses the hyperparameters, and which of them a run has."""
    scheduler = definition.get("scheduler")
    return isinstance(scheduler, dict) and bool(scheduler.get("search_space"))


def _not_found(sweep: str) -> str:
    close = nearest(sweep, PRESET_NAMES)
    hint = f"; did you mean {close}?" if close else f"; the presets are {', '.join(PRESET_NAMES)}"
    return f"{sweep}: no such sweep file or preset{hint}"


def parse_setting(setting: str) -> tuple[str, Parameter]:
    """The hyperparameter and the values of NAME=VALUE[,VALUE…]. InputError for one that is not allowed."""
    name, equals, text = setting.partition("=")
    if not (name and equals):
        hint = f", such as {setting}=VALUE" if setting in FIELDS else ""
        raise InputError(f"--set {setting}: takes NAME=VALUE{hint}")
    check_names([name])
    if FIELDS[name].metadata["is_path"]:
        # Agents may work in another folder. A comma is part of a path.
        is_local = text and not text.startswith("artifact:") and not artifact_named(text)
        try:
            return name, {"value": str(Path(text).expanduser().absolute()) if is_local else text}
        except RuntimeError as error:
            raise InputError(f"--set {setting}: {one_line(error)}") from error
    try:
        values = [check_value(name, value) for value in text.split(",")]
    except InputError as error:
        numbers = _range(name, text)
        if not numbers:
            raise
        raise InputError(f"{error}; to try several values, --set {name}={','.join(numbers)}") from error
    return name, {"values": values} if len(values) > 1 else {"value": values[0]}


def _range(name: str, text: str) -> list[str]:
    """The numbers that FIRST-LAST may mean, such as 0-2; none if the hyperparameter does not take them."""
    bounds = re.fullmatch(r"(\d{1,9})-(\d{1,9})", text)
    first, last = map(int, bounds.groups()) if bounds else (0, 0)
    if not 0 < last - first <= LONGEST_RANGE:
        return []
    numbers = [str(number) for number in range(first, last + 1)]
    try:
        for number in numbers:
            check_value(name, number)
    except InputError:
        return []
    return numbers


def _values(name: str, parameter: Parameter, file: Path) -> list[Value]:
    """The values of a parameter that can be checked; the bounds of some distributions are exponents."""
    values = parameter.get("values", []) if isinstance(parameter, dict) else None
    if not isinstance(values, list) or ("values" in parameter and not values):
        raise InputError(f"{file}: parameter {name} takes value, values (a list), or a distribution")
    if parameter.get("distribution") in ("log_uniform", "q_log_uniform", "inv_log_uniform"):
        return values
    return values + [parameter[key] for key in ("value", "min", "max") if key in parameter]
