"""A run's side of W&B: start or resume it, log its epochs, media and model, and end it truthfully."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import wandb
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from wandb import Run

from wandb_tl.config import RunConfig, check_value
from wandb_tl.errors import InputError, one_line
from wandb_tl.training.checkpoints import Progress
from wandb_tl.training.evaluate import Evaluation

# The project of runs that are started alone and name none (under a sweep, the sweep's project holds).
DEFAULT_PROJECT = "wandb_tl"
OUTAGE_PAUSE_SECONDS = 5
OUTAGE_SECONDS = 3600
# Rows of a Table that show what its columns hold.
TYPED_ROWS = 100


class Terminated(SystemExit):
    """The process was asked to end by SIGTERM: the machine is wanted back, or an agent stops the run."""


@contextmanager
def start(config: RunConfig) -> Iterator[Run]:
    """A W&B run, resumed if its id exists. InputError if W&B cannot be reached or has no key.

    InputError also for an id whose run has finished or has other hyperparameters.
    Leaving the block ends the run as finished. An exception ends it as failed, and SIGTERM as preempted,
    so that a sweep hands it out again.
    """
    run_id = os.environ.get("WANDB_RUN_ID")
    # Under an agent, project and id come from its environment, and the hyperparameters from its sweep.
    alone = "WANDB_SWEEP_ID" not in os.environ
    project = os.environ.get("WANDB_PROJECT", DEFAULT_PROJECT) if alone else None
    try:
        if run_id and alone and wandb.setup().settings.mode == "online":
            _refuse_another_recipe(f"{project}/{run_id}", config)
        run = wandb.init(
            project=project,
            name=config.run_name,
            config=config.as_dict(),
            resume="allow" if run_id else None,
        )
    except wandb.errors.CommError as error:
        # wandb goes on with advice about a setting that a flag cannot reach.
        reason = one_line(error).partition(" Consider increasing")[0]
        raise InputError(f"W&B: {reason}; WANDB_MODE=offline trains without a server") from error
    except (wandb.Error, ValueError) as error:
        raise InputError(f"W&B: {one_line(error)}") from error
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")

    def terminate(signum: int, frame: Any) -> None:
        raise Terminated(128 + signum)

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield run
        # Still in here: what is left to upload may take long, and SIGTERM may come meanwhile.
        run.finish()
    except Terminated as ended:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # A run that was already finishing takes no more marks: it is missed by its agent, and repeated.
        with suppress(wandb.Error):
            run.mark_preempting()
        run.finish(exit_code=ended.code)
        raise
    except KeyboardInterrupt:
        run.finish(exit_code=255)
        raise
    except wandb.Error as error:
        run.finish(exit_code=1)
        raise InputError(f"W&B: {one_line(error)}") from error
    except BaseException:
        run.finish(exit_code=1)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def forget_environment() -> None:
    """Let the next run of this process take its id and server from the environment as it is then."""
    wandb.teardown()


def _refuse_another_recipe(path: str, config: RunConfig) -> None:
    """InputError if the run has finished or has other hyperparameters: its history would be of two runs."""
    try:
        known = wandb.Api().run(path)
    except (wandb.Error, ValueError):
        # There is no such run; or there is no server, which wandb.init waits for and then says.
        return
    if known.state == "finished":
        raise InputError(f"WANDB_RUN_ID: the run {path} has finished; take another id")
    for name, value in config.as_dict().items():
        before = known.config.get(name, value)
        # A sweep's run holds the values as its file has them: 1e-3 as text, a number of stages as a number.
        if check_value(name, before) != value:
            raise InputError(
                f"WANDB_RUN_ID: the run {path} has {name} {before}, not {value}; take another id"
            )


def log_epoch(run: Run, row: dict[str, float], figures: dict[str, Figure] | None = None) -> None:
    """Log the metrics of a finished epoch, unless the server has them from before the run was resumed.

    An epoch is one row of the history, its figures too, and logged exactly once: what a resumed run has not
    logged yet is told by the number of rows, and W&B's hyperband counts logged values.
    """
    if row["epoch"] > run.starting_step:
        run.log(row | {key: _image(figure) for key, figure in (figures or {}).items()})


def _patiently(log: Callable[[], Any]) -> None:
    """Log something that holds an artifact, though the server be away for up to an hour.

    wandb itself waits for a server in everything but this: before a run's first artifact it checks its login,
    and gives up after seconds. It says the same of a key that was revoked, for which there is no waiting.
    """
    deadline = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            log()
        except (wandb.errors.AuthenticationError, wandb.errors.CommError) as error:
            if time.monotonic() > deadline:
                raise
            print(f"W&B cannot be reached, trying again: {one_line(error)}", file=sys.stderr)
            time.sleep(OUTAGE_PAUSE_SECONDS)
        else:
            return


def log_summary(run: Run, progress: Progress, test: Evaluation) -> None:
    """Set the numbers of Table 1 in the run's summary; test accuracy is in per cent."""
    rows = progress.rows
    run.summary.update(
        {
            "avg_train_loss": sum(row["train/loss"] for row in rows) / len(rows),
            "avg_train_accuracy": sum(row["train/accuracy"] for row in rows) / len(rows),
            "test_accuracy": 100 * int((test.predicted == test.actual).sum()) / len(test.actual),
            "train_seconds": progress.seconds,
        }
    )


def log_media(run: Run, epoch: int, figures: dict[str, Figure]) -> None:
    """Log figures under their media keys, as PNG images."""
    run.log({"epoch": epoch, **{key: _image(figure) for key, figure in figures.items()}})


def log_tables(run: Run, epoch: int, tables: dict[str, dict[str, list[Any]]]) -> None:
    """Log Tables under their media keys, each as named columns of N values; an image is uint8 (C, H, W)."""

    def cell(value: Any) -> Any:
        return wandb.Image(_pil(value)) if isinstance(value, Tensor) else value

    def log() -> None:
        made = {}
        for key, columns in tables.items():
            rows = [[cell(value) for value in row] for row in zip(*columns.values(), strict=True)]
            # wandb works out the types of the columns anew at every row, as if the first ones did not tell.
            made[key] = wandb.Table(columns=list(columns), data=rows[:TYPED_ROWS])
            made[key].data += rows[TYPED_ROWS:]
        run.log({"epoch": epoch, **made})

    _patiently(log)


def log_model(run: Run, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Log an artifact of type "model": model.safetensors and what describes it, config.json."""
    artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=description)
    with TemporaryDirectory() as folder:
        save_file(tensors, Path(folder, "model.safetensors"))
        Path(folder, "config.json").write_text(json.dumps(description, indent=2), encoding="utf-8")
        artifact.add_dir(folder)
    _patiently(lambda: run.log_artifact(artifact))


def _image(figure: Figure) -> wandb.Image:
    # Drawn straight into pixels: a file in between would have to be encoded, decoded and encoded again.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return wandb.Image(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))


def _pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy())
