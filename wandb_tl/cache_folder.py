"""The cache folder of this machine: where it is, and how large the activations in it may become."""

from __future__ import annotations

import math
import os
from pathlib import Path

from wandb_tl.errors import InputError


def cache_dir() -> Path:
    """The folder of data, activations and checkpoints: $WANDB_TL_CACHE, by default ~/.cache/wandb_tl."""
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("WANDB_TL_CACHE") or Path(user_cache, "wandb_tl"))


def cache_limit() -> int:
    """Limit of the activations on disk in bytes: $WANDB_TL_CACHE_GB gigabytes, by default 20.

    InputError if the variable is not a number >= 0.
    """
    value = os.environ.get("WANDB_TL_CACHE_GB") or "20"
    try:
        gigabytes = float(value)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < math.inf:
        raise InputError(f"WANDB_TL_CACHE_GB: got {value!r}, takes a number of gigabytes >= 0")
    return int(gigabytes * 1e9)
