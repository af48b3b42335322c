"""A soup in W&B: a run in the project of its sweep, whose inputs are the models that it averages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb

from wandb_tl.config import SOUP, RunConfig
from wandb_tl.errors import InputError, one_line
from wandb_tl.training import tracking
from wandb_tl.training.tracking import Artifact, Run


def check_online() -> None:
    """InputError if WANDB_MODE is offline or disabled: a soup is made of models of a server."""
    if wandb.setup().settings.mode != "online":
        raise InputError("a soup is made of the models of a W&B server, and WANDB_MODE is not online")


@contextmanager
def started(sweep: str, config: RunConfig, ingredients: Mapping[str, Artifact]) -> Iterator[Run]:
    """A new run in the project of a sweep, ENTITY/PROJECT/SWEEP, without being one of its runs.

    config: of the best ingredient; it describes the network. ingredients: the models that the run uses, by
    ENTITY/PROJECT/RUN. InputError if W&B cannot be reached.
    """
    entity, project, sweep_id = sweep.split("/")
    try:
        with wandb.init(
            entity=entity,
            project=project,
            job_type=SOUP,
            name=f"{SOUP}-{sweep_id}",
            config={**config.as_dict(), "soup_of": sweep, "ingredients": list(ingredients)},
        ) as run:
            for artifact in ingredients.values():
                run.use_artifact(artifact)
            yield run
    except (wandb.Error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"W&B: {one_line(error)}") from error


def log(
    run: Run,
    folder: Path,
    description: dict[str, Any],
    summary: Mapping[str, float | str],
    steps: Mapping[str, list[Any]],
) -> None:
    """Log a soup: its model folder as an artifact, its summary, and a Table of what was tried.

    description: the artifact's metadata. steps: columns of the Table by name.
    """
    with tracking.logged_model(run, folder, description):
        run.summary.update(dict(summary))
        tracking.log_tables(run, 0, {"soup_steps": steps})
