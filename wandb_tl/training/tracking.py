"""A run in W&B: start or resume it, log its epochs, media and model, and end it in the right state."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
from wandb import Run as Run  # the loop takes its type from here

from wandb_tl.cache_folder import cache_dir
from wandb_tl.config import DEFAULT_PROJECT, RunConfig, check_value
from wandb_tl.errors import ExitCode, InputError, one_line
from wandb_tl.run_states import RunState
from wandb_tl.signals import Terminated, ignored, terminated_by_sigterm
from wandb_tl.training.checkpoints import Progress
from wandb_tl.training.evaluate import Evaluation

OUTAGE_PAUSE_SECONDS = 5
OUTAGE_SECONDS = 3600
# Rows of a Table from which wandb infers the types of its columns.
TYPED_ROWS = 100


@contextmanager
def start(config: RunConfig) -> Iterator[Run]:
    """A W&B run, resumed if $WANDB_RUN_ID exists.

    InputError if W&B cannot be reached or has no API key, and for the id of a run that has finished or has
    other hyperparameters. Leaving the block ends the run as finished. An exception ends it as failed, and
    SIGTERM as preempted, so that its sweep hands it out again.
    """
    run_id = os.environ.get("WANDB_RUN_ID")
    # An agent sets the project and id in the environment, and its sweep the hyperparameters.
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
        # The rest of wandb's message is about a setting that no flag of this command sets.
        reason = one_line(error).partition(" Consider increasing")[0]
        raise InputError(f"W&B: {reason}; WANDB_MODE=offline trains without a server") from error
    except (wandb.Error, ValueError) as error:
        raise InputError(f"W&B: {one_line(error)}") from error
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")

    with terminated_by_sigterm():
        try:
            yield run
            # Inside this block, because the rest of the upload may take long, and SIGTERM may come meanwhile.
            run.finish()
        except Terminated:
            with ignored(["SIGTERM"]):
                # A run that is already finishing cannot be marked. Its agent then repeats it.
                with suppress(wandb.Error):
                    run.mark_preempting()
                run.finish(exit_code=int(ExitCode.TERMINATED))
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


@dataclass(frozen=True)
class PictureArtifact:
    """A W&B artifact with the pictures of a run, and the folder that it has been downloaded into."""

    artifact: wandb.Artifact
    folder: Path


def download_pictures(config: RunConfig) -> PictureArtifact | None:
    """Download the artifact that data_dir names, once per machine; None if it names a folder.

    InputError if there is no such artifact, or W&B cannot be reached.
    """
    name = config.data_dir.removeprefix("artifact:")
    if name == config.data_dir:
        return None
    try:
        artifact = wandb.Api().artifact(name)
        # Files that are there already are verified, and not downloaded again.
        folder = Path(artifact.download(str(cache_dir() / "artifacts" / artifact.digest)))
    except (wandb.Error, ValueError, OSError) as error:
        raise InputError(f"data_dir: artifact {name} cannot be downloaded: {one_line(error)}") from error
    return PictureArtifact(artifact, folder)


def forget_environment() -> None:
    """Make the next run of this process read its id and server from the environment again."""
    wandb.teardown()


def _refuse_another_recipe(path: str, config: RunConfig) -> None:
    """InputError if the run has finished or has other hyperparameters: its history would mix two runs."""
    try:
        earlier = wandb.Api().run(path)
    except (wandb.Error, ValueError):
        # Either the run does not exist, or there is no server, which wandb.init waits for and reports.
        return
    if earlier.state == RunState.FINISHED:
        raise InputError(f"WANDB_RUN_ID: the run {path} has finished; use another id")
    for name, value in config.as_dict().items():
        before = earlier.config.get(name, value)
        # A run of a sweep has the values as the sweep file has them: 1e-3 is a string there.
        if check_value(name, before) != value:
            raise InputError(f"WANDB_RUN_ID: the run {path} has {name} {before}, not {value}; use another id")


def log_epoch(run: Run, row: dict[str, float], figures: dict[str, Figure] | None = None) -> None:
    """Log the metrics of a finished epoch, unless the run logged them before it was resumed.

    An epoch is logged exactly once, with its figures, as one row of the history: a resumed run continues by
    the number of rows, and W&B's hyperband counts logged values.
    """
    if row["epoch"] > run.starting_step:
        run.log(row | {key: _image(figure) for key, figure in (figures or {}).items()})


def _retry(log: Callable[[], Any]) -> None:
    """Log something that includes an artifact; retries for up to an hour while the server is unreachable.

    wandb retries every other request itself. Before the first artifact of a run, however, it verifies its
    login, and gives up after seconds.
    """
    deadline = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            log()
        except (wandb.errors.AuthenticationError, wandb.errors.CommError) as error:
            if time.monotonic() > deadline:
                raise
            print(f"W&B cannot be reached, retrying: {one_line(error)}", file=sys.stderr)
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
    """Log figures by media key, as PNG images."""
    run.log({"epoch": epoch, **{key: _image(figure) for key, figure in figures.items()}})


def log_tables(run: Run, epoch: int, tables: Mapping[str, Mapping[str, list[Any]]]) -> None:
    """Log Tables by media key, each as columns of N values by name; an image is a uint8 tensor (C, H, W)."""

    def cell(value: Any) -> Any:
        return wandb.Image(_pil(value)) if isinstance(value, Tensor) else value

    def log() -> None:
        logged = {}
        for key, columns in tables.items():
            values = zip(*columns.values(), strict=True)
            rows: list[Any] = [[cell(value) for value in row] for row in values]
            # wandb infers the types of the columns from every row that it is given here, which is slow.
            logged[key] = wandb.Table(columns=list(columns), data=rows[:TYPED_ROWS])
            logged[key].data += rows[TYPED_ROWS:]
        run.log({"epoch": epoch, **logged})

    _retry(log)


def log_model(run: Run, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Log an artifact of type "model": model.safetensors, and config.json with its description."""
    artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=description)
    with TemporaryDirectory() as folder:
        save_file(tensors, Path(folder, "model.safetensors"))
        Path(folder, "config.json").write_text(json.dumps(description, indent=2), encoding="utf-8")
        artifact.add_dir(folder)
    _retry(lambda: run.log_artifact(artifact))


def _image(figure: Figure) -> wandb.Image:
    # Drawn into memory: a file would be encoded, decoded, and encoded again by wandb.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return wandb.Image(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))


def _pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy())
