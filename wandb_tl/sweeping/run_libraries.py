"""Importing this module loads what runs import, for the process from which an agent forks its runs."""

from __future__ import annotations

from importlib import import_module

from wandb_tl import loading

# The last two are what W&B's client imports as a run starts and logs.
LIBRARIES = (
    "wandb_tl.training.loop",
    "wandb_tl.training.run_lifecycle",
    "wandb_tl.training.checkpoint_copy",
    "wandb_tl.figures.media",
    "wandb.sdk.launch.inputs.internal",
    "pandas",
)

with loading.libraries():
    for name in LIBRARIES:
        import_module(name)
