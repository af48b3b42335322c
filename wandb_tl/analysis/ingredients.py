"""The runs of a sweep whose weights can be averaged with those of its best run, by their hyperparameters.

The mean of two models is a good one only if both were trained from the same weights. The frozen and the
pretrained layers are the same in all runs of one recipe's model; a new classifier starts from random weights
that the seed draws, or from those of a probe. A run that trains the classifier alone may start from any: its
loss is convex.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from wandb_tl.analysis.runs_by_recipe import SELECTION
from wandb_tl.config import FIELDS, RunConfig
from wandb_tl.errors import InputError
from wandb_tl.hyperparameters import Value

# What the runs of a soup have in common where it has an effect, in the order in which a difference is named.
# Those of the images decide which ones no run may have trained on.
SAME_MODEL = (
    *("model_name", "model_kwargs", "pretrained", "weights_file", "finetuning", "unfreeze", "norm"),
    *("image_size", "classifier_start", "seed"),
)
SAME_IMAGES = (*("dataset", "data_dir", "resize", "train_limit", "val_fraction", "fold", "test_fraction"),)
# Why a difference in one of them matters, where it is not plain.
BECAUSE = {
    "seed": "other random weights at the start",
    "classifier_start": "other weights of the classifier at the start",
}


@dataclass(frozen=True)
class Ingredients:
    """The runs that can be averaged.

    runs: their ids, those with the highest validation accuracy first. config: of the first. left_out: which
    finished runs of the sweep are not among them, and why, such as "2 runs with seed=1 instead of 0".
    """

    runs: tuple[str, ...]
    config: RunConfig
    left_out: tuple[str, ...]


def choose(frame: pd.DataFrame, path: str) -> Ingredients:
    """The runs of a frame that can be averaged with the one with the highest validation accuracy.

    frame: see results.Results.frame(). path: of the sweep, for messages. InputError if there are fewer than
    two, or if no run has validation images.
    """
    if SELECTION not in frame or frame[SELECTION].isna().all():
        raise InputError(
            f"{path}: its runs have no validation images, which choose what to average; run a sweep with "
            "--set val_fraction=0.2"
        )
    ordered = frame.sort_values([SELECTION, "id"], ascending=[False, True])
    configs = {
        str(row["id"]): RunConfig.from_mapping({name: row[name] for name in FIELDS})
        for row in ordered.to_dict("records")
    }
    reasons = _unusable(ordered, configs)
    usable = [run for run in configs if run not in reasons]
    if not usable:
        raise InputError(f"{path}: no run can be averaged: {'; '.join(_counted(reasons, configs, None))}")
    best = configs[usable[0]]
    wanted = in_common(best)
    for run in usable[1:]:
        own = in_common(configs[run])
        if differs := [name for name in wanted if own[name] != wanted[name]]:
            reasons[run] = differs[0]
    runs = tuple(run for run in usable if run not in reasons)
    left_out = tuple(_counted(reasons, configs, best))
    if len(runs) < 2:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise InputError(
            f"{path}: no run can be averaged with its best one, {runs[0]}{why}; run a sweep of one model "
            "that varies lr, epochs or optimizer, with one seed or classifier_start=probe"
        )
    return Ingredients(runs, best, left_out)


def in_common(config: RunConfig) -> dict[str, Value | None]:
    """What a run shares with all that it can be averaged with; None for what has no effect on that."""
    values = dataclasses.asdict(config)
    shared = {
        name: None if name in config.without_effect else values[name] for name in (*SAME_MODEL, *SAME_IMAGES)
    }
    shared["norm"] = config.norm_in_effect
    shared["unfreeze"] = str(config.stages_to_open)
    # The random weights of a network are frozen weights, too.
    if config.pretrained and not config.finetuning:
        shared |= {"classifier_start": None, "seed": None}
    elif config.pretrained and config.classifier_start == "probe":
        shared["seed"] = None
    return shared


def _unusable(frame: pd.DataFrame, configs: Mapping[str, RunConfig]) -> dict[str, str]:
    """Why runs cannot be averaged with any other, by id."""
    reasons = {}
    for row in frame.to_dict("records"):
        run, config = str(row["id"]), configs[str(row["id"])]
        if config.is_own_data or config.is_own_model:
            reasons[run] = "whose images or network Python code has handed over"
        elif math.isnan(row[SELECTION]):
            reasons[run] = "without validation images"
        elif not math.isfinite(row["avg_train_loss"]):
            reasons[run] = "that diverged"
    return reasons


def _counted(
    reasons: Mapping[str, str], configs: Mapping[str, RunConfig], best: RunConfig | None
) -> Iterator[str]:
    """How many runs are left out for each reason: a hyperparameter whose value differs, or words."""
    for reason, count in Counter(reasons.values()).items():
        text = f"{count} run{'s' * (count > 1)} "
        if reason not in FIELDS or best is None:
            yield text + reason
            continue
        others = {str(_value(configs[run], reason)) for run, own in reasons.items() if own == reason}
        because = f" ({BECAUSE[reason]})" if reason in BECAUSE else ""
        yield f"{text}with {reason}={', '.join(sorted(others))} instead of {_value(best, reason)}{because}"


def _value(config: RunConfig, name: str) -> Value:
    value: Value = config.norm_in_effect if name == "norm" else getattr(config, name)
    return value
