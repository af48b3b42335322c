"""How a hyperparameter is declared, and how its value is checked."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import field
from pathlib import PurePath
from typing import Any, SupportsFloat, TypeAlias

from wandb_tl.errors import InputError, nearest

# The value of a hyperparameter.
Value: TypeAlias = bool | int | float | str
# The declaration of a hyperparameter.
Field: TypeAlias = "dataclasses.Field[Any]"

# The length of the names that W&B takes.
LONGEST_NAME = 128
# What the name of a run calls hyperparameters that people abbreviate.
ABBREVIATIONS = {"batch_size": "batch", "image_size": "size", "train_limit": "train", "weight_decay": "wd"}


# What other libraries call these hyperparameters. Error messages suggest the name of this package.
SYNONYMS = {
    "arch": "model_name",
    "architecture": "model_name",
    "backbone": "model_name",
    "model": "model_name",
    "bs": "batch_size",
    "train_batch_size": "batch_size",
    "max_epochs": "epochs",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "opt": "optimizer",
    "optim": "optimizer",
    "learning_rate": "lr",
    "base_lr": "lr",
    "wd": "weight_decay",
    "sched": "scheduler",
    "lr_scheduler": "scheduler",
    "img_size": "image_size",
    "imgsz": "image_size",
    "input_size": "image_size",
    "resolution": "image_size",
    "size": "image_size",
    "augmentation": "augment",
    "amp": "precision",
    "dtype": "precision",
    "mixed_precision": "precision",
    "torchcompile": "compile",
    "random_seed": "seed",
    "random_state": "seed",
    "data": "data_dir",
    "data_path": "data_dir",
    "root": "data_dir",
    "val_split": "val_fraction",
    "validation_split": "val_fraction",
    "checkpoint_path": "weights_file",
    "weights": "weights_file",
    "freeze": "unfreeze",
    "warmup": "warmup_epochs",
    "layer_decay": "lr_decay",
    "smoothing": "label_smoothing",
    "freeze_epochs": "head_epochs",
    "class_weights": "class_balance",
    "mixup_alpha": "mixup",
    "cutmix_alpha": "cutmix",
    "max_grad_norm": "clip_grad",
    "gradient_clip_val": "clip_grad",
    "model_ema_decay": "ema",
    "early_stopping": "patience",
}


def option(
    default: Value,
    why: str,
    *,
    choices: tuple[str, ...] = (),
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    below: float | None = None,
    pattern: str = "",
    takes: str = "",
    is_path: bool = False,
) -> Any:
    """Declare a hyperparameter: its default, whose type is the field's, its allowed values, and its purpose.

    pattern: a regular expression that a string must match, described by `takes`. is_path: whether it is the
    path of a file or folder, in which a comma separates nothing.
    """
    limits = {"choices": choices, "above": above, "least": least, "most": most, "below": below}
    words = {"why": why, "pattern": pattern, "takes": takes, "is_path": is_path}
    return field(default=default, metadata=words | limits)


def allowed(spec: Field) -> str:
    """The allowed values of a field in words: "a number > 0"."""
    limits = spec.metadata
    if limits["choices"]:
        return "one of " + ", ".join(limits["choices"])
    if limits["takes"]:
        return str(limits["takes"])
    kinds = {bool: "True or False", int: "an integer", float: "a number", str: "a string"}
    bounds = [
        f"{sign} {limits[bound]}"
        for bound, sign in (("above", ">"), ("least", ">="), ("most", "<="), ("below", "<"))
        if limits[bound] is not None
    ]
    return " ".join([kinds[type(spec.default)], " and ".join(bounds)]).strip()


def coerce(spec: Field, value: object) -> Value:
    """The value in the type of the field. InputError for a value that the field does not allow."""
    result = _CONVERTERS[type(spec.default)](value)
    if result is None or not _is_within(spec, result):
        choices: tuple[str, ...] = spec.metadata["choices"]
        close = nearest(value, choices) if isinstance(value, str) else None
        hint = f"; did you mean {close}?" if close else ""
        raise InputError(f"{spec.name}: got {value!r}, takes {allowed(spec)}{hint}")
    return result


def _is_within(spec: Field, value: Value) -> bool:
    """Whether a value of the right type is one of those that the field allows."""
    limits = spec.metadata
    if isinstance(value, str):
        matches = re.fullmatch(limits["pattern"] or ".*", value, re.DOTALL) is not None
        return matches and (not limits["choices"] or value in limits["choices"])
    return (
        math.isfinite(value)
        and (limits["above"] is None or value > limits["above"])
        and (limits["least"] is None or value >= limits["least"])
        and (limits["most"] is None or value <= limits["most"])
        and (limits["below"] is None or value < limits["below"])
    )


# Values come typed, from a sweep file, or as strings, from a command line. None: not of this type.


def _to_bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())


def _to_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | SupportsFloat):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _to_int(value: object) -> int | None:
    # 32.0 is an integer too: the distribution q_uniform draws it so, and an agent passes it on as "32.0".
    number = _to_float(value)
    return int(number) if number is not None and number.is_integer() else None


def _to_str(value: object) -> str | None:
    return None if value is None or isinstance(value, bool) else str(value)


_CONVERTERS: dict[type, Callable[[object], Value | None]] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_str,
}


def short(spec: Field, value: Value) -> str:
    """A hyperparameter in the name of a run, such as lr0.003: of a path the last part."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    if spec.metadata["is_path"]:
        text = PurePath(text).name
    return ABBREVIATIONS.get(spec.name, spec.name) + text


def bounded(name: str) -> str:
    """The name, cut to the length that W&B takes; a digest of its end keeps long names apart."""
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{name[: LONGEST_NAME - 7]}-{digest}"
