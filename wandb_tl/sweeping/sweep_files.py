"""Sweep definitions: the presets, a definition read from its file, and its hyperparameters checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from wandb_tl.config import check_names, check_value
from wandb_tl.errors import InputError

PRESETS = Path(__file__).parents[1] / "presets"


# A W&B sweep definition, as its YAML file gives it.
Definition = dict[str, Any]


def presets() -> str:
    """The names of the sweeps that come with the package."""
    return ", ".join(sorted(file.stem for file in PRESETS.glob("*.yaml")))


def list_presets() -> str:
    """One line per preset: its name and its description."""
    lines = []
    for file in sorted(PRESETS.glob("*.yaml")):
        description = yaml.safe_load(file.read_text(encoding="utf-8"))["description"]
        lines.append(f"  {file.stem:14} {description}")
    return "\n".join(lines)


def is_path(sweep: str) -> bool:
    """Whether this is ENTITY/PROJECT/SWEEP, a sweep that exists, and not a file or a preset."""
    return bool(re.fullmatch(r"[^/.][^/]*/[^/]+/[^/]+", sweep)) and not sweep.endswith((".yaml", ".yml"))


def load(sweep: str, settings: list[str]) -> Definition:
    """A sweep definition with the settings put in, its hyperparameters checked. InputError if it is bad."""
    file = Path(sweep) if sweep.endswith((".yaml", ".yml")) else PRESETS / f"{sweep}.yaml"
    try:
        definition = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{sweep}: no such sweep file or preset; the presets are {presets()}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(definition, dict) or not isinstance(definition.get("parameters"), dict):
        raise InputError(f"{file}: not a W&B sweep definition (it has no parameters)")
    for setting in settings:
        name, equals, values = setting.partition("=")
        if not (name and equals):
            raise InputError(f"--set {setting}: takes NAME=VALUE")
        choices = [check_value(name, value) for value in values.split(",")]
        definition["parameters"][name] = {"values": choices} if len(choices) > 1 else {"value": choices[0]}
    for name, parameter in definition["parameters"].items():
        choices = parameter.get("values", []) if isinstance(parameter, dict) else None
        if not isinstance(choices, list):
            raise InputError(f"{file}: parameter {name} takes value, values (a list), or a distribution")
        check_names([str(name)])
        # The bounds of these distributions are exponents, not values.
        exponents = parameter.get("distribution") in ("log_uniform", "q_log_uniform", "inv_log_uniform")
        ends = [parameter[key] for key in ("value", "min", "max") if key in parameter and not exponents]
        for value in [*choices, *ends]:
            check_value(name, value)
    return definition
