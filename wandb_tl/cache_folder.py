"""Where data, activations and checkpoints are kept on this machine, and how much of it."""

from __future__ import annotations

import math
import os
from pathlib import Path

from wandb_tl.errors import InputError


def cache_dir() -> Path:
    """Where data and checkpoints are kept: $WANDB_TL_CACHE, else wandb_tl in the user's cache folder."""
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("WANDB_TL_CACHE") or Path(user_cache, "wandb_tl"))


def cache_limit() -> int:
    """Bytes of activations to keep on disk: $WANDB_TL_CACHE_GB gigabytes, 20 unless told otherwise."""
    given = os.environ.get("WANDB_TL_CACHE_GB") or "20"
    try:
        gigabytes = float(given)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < math.inf:
        raise InputError(f"WANDB_TL_CACHE_GB: got {given!r}, takes a number of gigabytes")
    return int(gigabytes * 1e9)
