"""Runs in W&B: start or resume one, log its epochs, media and model, end it in the right state, read it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import wandb
from filelock import FileLock
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from wandb import Run as Run  # the loop takes its type from here

from wandb_tl.cache_folder import cache_dir
from wandb_tl.config import DEFAULT_PROJECT, FIELDS, INSPECTION, RunConfig, check_value
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


def path_on_server(run: Run) -> str | None:
    """ENTITY/PROJECT/RUN_ID of a run; None if WANDB_MODE is offline or disabled."""
    return None if run.offline or run.disabled else f"{run.entity}/{run.project}/{run.id}"


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
    if wandb.setup().settings.mode != "online":
        raise InputError(f"data_dir: artifact {name} needs a W&B server, and WANDB_MODE is not online")
    try:
        artifact = wandb.Api().artifact(name)
        return PictureArtifact(artifact, download(artifact))
    except (wandb.Error, ValueError, OSError) as error:
        raise InputError(f"data_dir: artifact {name} cannot be downloaded: {one_line(error)}") from error


def download(artifact: wandb.Artifact) -> Path:
    """The folder of an artifact's files in the cache, downloaded once for all processes of the machine."""
    folder = cache_dir() / "artifacts" / artifact.digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        # Files that are there already are verified, and not downloaded again.
        return Path(artifact.download(str(folder)))


@dataclass(frozen=True)
class TrainedRun:
    """A run of wandb_tl.train as its server has it.

    path: ENTITY/PROJECT/RUN_ID. summary: its numbers. model: the artifact with its trained weights, None if
    it has logged none.
    """

    path: str
    name: str
    config: RunConfig
    summary: dict[str, Any]
    model: wandb.Artifact | None


class NoSuchRunError(InputError):
    """The server has no run of this name."""


def read_run(path: str) -> TrainedRun:
    """The run at ENTITY/PROJECT/RUN_ID, or at the address of its page.

    NoSuchRunError if there is no such run; InputError if it is not one of this package, or if W&B cannot be
    reached.
    """
    parts = [part for part in urlsplit(path).path.split("/") if part not in ("", "runs")]
    if len(parts) != 3:
        raise InputError(f"{path}: takes ENTITY/PROJECT/RUN_ID")
    name = "/".join(parts)
    try:
        run = wandb.Api().run(name)
        config = {field: run.config[field] for field in FIELDS if field in run.config}
        models = [artifact for artifact in run.logged_artifacts() if artifact.type == "model"]
        summary = dict(run.summary)
    except (wandb.Error, ValueError) as error:
        reason = one_line(error)
        if "not find" in reason:
            reason = "there is no such run on the server; wandb sync uploads an offline run"
            raise NoSuchRunError(f"{name}: {reason}") from error
        raise InputError(f"{name}: {reason}") from error
    if "model_name" not in config:
        raise InputError(f"{name}: is not a run of wandb_tl.train")
    return TrainedRun(
        name, str(run.name), RunConfig.from_mapping(config), summary, models[-1] if models else None
    )


def download_model(model: wandb.Artifact) -> Path:
    """Download a model artifact, once per machine. InputError if W&B cannot be reached."""
    try:
        return download(model)
    except (wandb.Error, ValueError, OSError) as error:
        raise InputError(f"artifact {model.name} cannot be downloaded: {one_line(error)}") from error


def download_model_named(name: str) -> Path:
    """Download the model artifact ENTITY/PROJECT/NAME:ALIAS, once per machine.

    InputError if there is no such artifact, if it is no model, or if W&B cannot be reached.
    """
    try:
        artifact = wandb.Api().artifact(name)
    except (wandb.Error, ValueError) as error:
        raise InputError(f"artifact {name}: {one_line(error)}") from error
    if artifact.type != "model":
        raise InputError(f"artifact {name}: its type is {artifact.type}, takes one of type model")
    return download_model(artifact)


def log_inspection(
    inspected: TrainedRun,
    config: RunConfig,
    tables: Mapping[str, Mapping[str, list[Any]]],
    figures: Mapping[str, Figure],
) -> str | None:
    """Log what is wrong with the data of a run, as a new run of its project whose input is the run's model.

    config: names the data as it was loaded now. tables, figures: by media key, see log_tables. Returns the
    address of the new run's page; None if WANDB_MODE is offline or disabled. InputError if W&B cannot be
    reached.
    """
    entity, project, run_id = inspected.path.split("/")
    try:
        with wandb.init(
            entity=entity,
            project=project,
            job_type=INSPECTION,
            name=f"{INSPECTION}-{run_id}",
            config={"inspected_run": inspected.path, "dataset": config.dataset, "data_dir": config.data_dir},
        ) as run:
            online = not (run.offline or run.disabled)
            if inspected.model and online:
                run.use_artifact(inspected.model)
            logged = {key: _table(columns) for key, columns in tables.items()}
            images = {key: _image(figure) for key, figure in figures.items()}
            _retry(lambda: run.log({**logged, **images}))
            return run.url if online else None
    except (wandb.Error, ValueError) as error:
        raise InputError(f"W&B: {one_line(error)}") from error


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
            "test_accuracy": test.percent,
            "train_seconds": progress.seconds,
        }
    )


def log_media(run: Run, epoch: int, figures: dict[str, Figure]) -> None:
    """Log figures by media key, as PNG images."""
    run.log({"epoch": epoch, **{key: _image(figure) for key, figure in figures.items()}})


def log_tables(run: Run, epoch: int, tables: Mapping[str, Mapping[str, list[Any]]]) -> None:
    """Log Tables by media key, each as columns of N values by name; an image is a uint8 tensor (C, H, W)."""

    def log() -> None:
        run.log({"epoch": epoch, **{key: _table(columns) for key, columns in tables.items()}})

    _retry(log)


def log_model(run: Run, folder: Path, description: dict[str, Any]) -> None:
    """Log a model folder as an artifact of type "model". description: the artifact's metadata."""
    artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=description)
    artifact.add_dir(str(folder))
    _retry(lambda: run.log_artifact(artifact))


def _table(columns: Mapping[str, list[Any]]) -> wandb.Table:
    def cell(value: Any) -> Any:
        return wandb.Image(_pil(value)) if isinstance(value, Tensor) else value

    rows: list[Any] = [[cell(value) for value in row] for row in zip(*columns.values(), strict=True)]
    # wandb infers the types of the columns from every row that it is given here, which is slow.
    table = wandb.Table(columns=list(columns), data=rows[:TYPED_ROWS])
    table.data += rows[TYPED_ROWS:]
    return table


def _image(figure: Figure) -> wandb.Image:
    # Drawn into memory: a file would be encoded, decoded, and encoded again by wandb.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return wandb.Image(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))


def _pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy())
