"""Points of a grid that are equal: they differ only in hyperparameters that have no effect there."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.hyperparameters import Value
from wandb_tl.sweeping import sweep_definitions
from wandb_tl.sweeping.sweep_definitions import Definition

# Hyperparameters that a sweep varies to ask about something else than what a model learns: how far results
# spread, how fast a run is, what is kept of it. Points that differ in them are not equal.
ALWAYS_APART = ("seed", "compile", "save_weights")
# Hyperparameters of which two values may mean the same: norm=auto and source, unfreeze=1 and last_stage.
WITH_SYNONYMS = ("norm", "unfreeze")
# Counting more points takes seconds.
MOST_COUNTED = 20_000

# What decides the results of a run: its hyperparameters, None where one has no effect.
Key = tuple[Value | None, ...]


class Count(NamedTuple):
    """The number of a grid's points, and how many of them differ in effect.

    contradictions: points besides these whose hyperparameters contradict each other. contradiction: why the
    first of them does.
    """

    points: int
    distinct: int
    contradictions: int = 0
    contradiction: str = ""


def key(config: RunConfig) -> Key:
    """Equal for two configs if their runs learn the same."""
    stages = config.stages_to_open
    values = config.as_dict() | {
        "norm": config.norm_in_effect,
        "unfreeze": "all" if stages is None else stages,
    }
    idle = without_effect(config)
    return tuple(None if name in idle else value for name, value in values.items())


def without_effect(config: RunConfig) -> frozenset[str]:
    """The hyperparameters in which configs may differ and still be equal to this one."""
    return config.without_effect - set(ALWAYS_APART)


def count(definition: Definition) -> Count | None:
    """The points of a grid; None for another sweep, one of another program, and a very large one.

    Points whose hyperparameters contradict each other are left out: their runs fail.
    """
    parameters = definition.get("parameters") or {}
    choices = {
        name: list(dict.fromkeys(spec["values"] if "values" in spec else [spec["value"]]))
        for name, spec in parameters.items()
        if "values" in spec or "value" in spec
    }
    is_listed = len(choices) == len(parameters) and definition.get("method") == "grid"
    size = math.prod(map(len, choices.values()))
    if not is_listed or not sweep_definitions.is_plain(definition) or size > MOST_COUNTED:
        return None
    points, keys, refusals = 0, set(), []
    for values in itertools.product(*choices.values()):
        try:
            config = RunConfig.from_flags(dict(zip(choices, values, strict=True)))
        except InputError as error:
            refusals.append(str(error))
            continue
        points += 1
        keys.add(key(config))
    return Count(points, len(keys), len(refusals), refusals[0] if refusals else "")
