"""The sweeps that follow a search: they repeat its best recipes, and train the winner with fresh seeds.

They are grids over the parameter `recipe`, so that any W&B server and any agent can run them. By their names,
which say what search they follow, an interrupted search finds them again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from wandb_tl.config import FIELDS, RECIPE, RunConfig, recipe_of
from wandb_tl.sweeping.sweep_definitions import Definition, Parameter


def round_name(search: str, seed: int) -> str:
    """The name of the sweep that repeats recipes with a seed. search: its id."""
    return f"seed {seed} of {search}"


def confirmation_name(search: str) -> str:
    """The name of the sweep that trains the winner of a search again. search: its id."""
    return f"confirmation of {search}"


def follows(definition: Mapping[str, Any], search: str) -> bool:
    """Whether a sweep follows a search. search: its id."""
    return is_round(definition, search) or definition.get("name") == confirmation_name(search)


def is_round(definition: Mapping[str, Any], search: str) -> bool:
    """Whether a sweep repeats recipes of a search."""
    return bool(re.fullmatch(rf"seed \d+ of {re.escape(search)}", str(definition.get("name", ""))))


def is_confirmation(definition: Mapping[str, Any], search: str, config: RunConfig) -> bool:
    """Whether a sweep trains this recipe of a search again."""
    name = confirmation_name(search)
    if definition.get("name") != name:
        return False
    wanted = grid({}, name, [config], [])["parameters"]
    values = {key: spec.get("value") for key, spec in definition["parameters"].items() if key != "seed"}
    return values == {key: spec["value"] for key, spec in wanted.items() if key != "seed"}


def seeds_of(definition: Mapping[str, Any]) -> list[int]:
    """The seeds of a sweep that follows a search."""
    return [int(seed) for seed in definition["parameters"]["seed"]["values"]]


def grid(
    search: Mapping[str, Any], name: str, configs: Sequence[RunConfig], seeds: Sequence[int]
) -> Definition:
    """A grid of recipes, each with every seed; metric, program and command are those of the search."""
    recipes = [config.as_dict() for config in configs]
    varied = [key for key in FIELDS if key != "seed" and len({recipe[key] for recipe in recipes}) > 1]
    parameters: dict[str, Parameter] = {
        key: {"value": value}
        for key, value in recipes[0].items()
        if key not in ("seed", *varied) and value != FIELDS[key].default
    }
    if varied:
        texts = [recipe_of({key: recipe[key] for key in varied}) for recipe in recipes]
        parameters[RECIPE] = {"values": list(texts)}
    parameters["seed"] = {"values": list(seeds)}
    definition: Definition = {"name": name, "method": "grid", "parameters": parameters}
    for key in ("program", "command", "metric"):
        if key in search:
            definition[key] = search[key]
    return definition
