"""The W&B run of a ranking, which trains nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import wandb
from wandb import Run

from wandb_tl.config import DEFAULT_PROJECT, RANKING
from wandb_tl.errors import FailedError, InputError, one_line
from wandb_tl.wandb_process import GONE_ERRORS


@contextmanager
def start(data: str, config: Mapping[str, Any]) -> Iterator[Run]:
    """A new run of job type rank. data: what its name calls the images.

    InputError if W&B cannot be reached or has no API key.
    """
    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", DEFAULT_PROJECT),
            job_type=RANKING,
            name=f"{RANKING}-{data}",
            config=dict(config),
        )
    except (wandb.Error, ValueError) as error:
        raise InputError(f"W&B: {one_line(error)}") from error
    # The run's own block would print the traceback of what ends it.
    try:
        yield run
    except BaseException:
        with suppress(*GONE_ERRORS):
            run.finish(exit_code=1)
        raise
    run.finish()


def log(run: Run, columns: Mapping[str, list[Any]], summary: Mapping[str, Any]) -> None:
    """Log the ranking as a Table, and set the run's summary.

    columns: of N values each, by name. FailedError if W&B cannot be reached any more.
    """
    rows: list[Any] = [list(row) for row in zip(*columns.values(), strict=True)]
    try:
        run.log({RANKING: wandb.Table(columns=list(columns), data=rows)})
        run.summary.update(dict(summary))
    except (wandb.Error, *GONE_ERRORS) as error:
        raise FailedError(f"W&B: the ranking is not logged: {one_line(error)}; rank again") from error
