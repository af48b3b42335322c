"""More arguments of timm.create_model, written as for timm's own training script: "patch_size=8 depth=6"."""

from __future__ import annotations

import ast
import json
from typing import Any

from wandb_tl.errors import InputError

# Arguments that this package sets, and what decides them.
SET_BY = {
    "model_name": "model_name",
    "pretrained": "pretrained",
    "pretrained_cfg": "model_name",
    "pretrained_cfg_overlay": "model_name",
    "pretrained_strict": "model_name",
    "checkpoint_path": "weights_file",
    "cache_dir": "weights_file",
    "num_classes": "the number of classes in the data set",
    "img_size": "image_size",
    "input_size": "image_size",
    "features_only": "model_name",
    "out_indices": "model_name",
    "device": "the machine",
    "dtype": "precision",
}

# Spellings of other languages.
CONSTANTS = {"true": True, "false": False, "none": None, "null": None}


def parse_model_kwargs(text: str) -> dict[str, Any]:
    """The arguments by name. InputError for arguments that this package sets, or other text.

    text: NAME=VALUE pairs separated by spaces, or a dictionary of Python or JSON. A value that is not a
    literal of Python is a string.
    """
    arguments = _dictionary(text) if text.lstrip().startswith("{") else _pairs(text)
    for name in arguments:
        if name in SET_BY:
            raise InputError(f"model_kwargs: {name} cannot be set here; {SET_BY[name]} decides it")
    if arguments.get("in_chans", 3) not in (1, 3):
        raise InputError(f"model_kwargs: in_chans is {arguments['in_chans']}; pictures have 1 or 3 channels")
    return arguments


def _pairs(text: str) -> dict[str, Any]:
    arguments = {}
    for pair in text.split():
        name, equals, value = pair.partition("=")
        if not (equals and value and name.isidentifier()):
            raise InputError(
                f"model_kwargs: got {pair!r}, takes NAME=VALUE separated by spaces, such as "
                f"'patch_size=8 drop_path_rate=0.1', without spaces inside of a value"
            )
        arguments[name] = _value(value)
    return arguments


def _value(text: str) -> Any:
    if text.lower() in CONSTANTS:
        return CONSTANTS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _dictionary(text: str) -> dict[str, Any]:
    values: Any = None
    for read in (json.loads, ast.literal_eval):
        try:
            values = read(text.strip())
            break
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    if not isinstance(values, dict) or not all(str(name).isidentifier() for name in values):
        raise InputError(f"model_kwargs: got {text!r}, which is not a dictionary of arguments")
    return {str(name): value for name, value in values.items()}
