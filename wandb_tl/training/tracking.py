"""What a run logs to W&B, and what is read from it: epochs, media, tables, pictures, models."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import wandb
from filelock import FileLock
from matplotlib.figure import Figure
from wandb import Artifact as Artifact  # other modules take these types from here
from wandb import Run as Run

from wandb_tl.cache_folder import cache_dir
from wandb_tl.config import FIELDS, INSPECTION, RunConfig
from wandb_tl.errors import InputError, one_line
from wandb_tl.training import logged_images, logged_tables, weights_file
from wandb_tl.training.checkpoints import Progress
from wandb_tl.training.evaluate import Evaluation
from wandb_tl.wandb_process import REQUEST_ERRORS

Result = TypeVar("Result")

OUTAGE_PAUSE_SECONDS = 5
OUTAGE_SECONDS = 3600
# How often the model of a run is uploaded until the server takes it.
UPLOADS = 5
# What a server says about artifacts: a folder is named after a digest, and pages may have no end.
DIGEST = re.compile(r"[\w+=-]{1,128}")
MOST_ARTIFACTS = 10_000


def path_on_server(run: Run) -> str | None:
    """ENTITY/PROJECT/RUN_ID of a run; None if WANDB_MODE is offline or disabled."""
    return None if run.offline or run.disabled else f"{run.entity}/{run.project}/{run.id}"


@dataclass(frozen=True)
class InputArtifact:
    """A W&B artifact that a run uses, and the folder that it has been downloaded into."""

    artifact: wandb.Artifact
    folder: Path


def download_pictures(config: RunConfig) -> InputArtifact | None:
    """Download the artifact that data_dir names, once per machine; None if it names a folder.

    InputError if there is no such artifact, or W&B cannot be reached.
    """
    name = config.data_dir.removeprefix("artifact:")
    return None if name == config.data_dir else _download_input("data_dir", name, math.inf)


def download_weights(config: RunConfig) -> InputArtifact | None:
    """Download the artifact that weights_file names, once per machine; None if the run does not use one.

    InputError as in `download_pictures`.
    """
    name = config.weights_artifact if config.pretrained else ""
    return _download_input("weights_file", name, weights_file.MAX_BYTES) if name else None


def _download_input(hyperparameter: str, name: str, most_bytes: float) -> InputArtifact:
    if wandb.setup().settings.mode != "online":
        raise InputError(
            f"{hyperparameter}: artifact {name} needs a W&B server, and WANDB_MODE is not online"
        )
    try:
        artifact = wandb.Api().artifact(name)
        return InputArtifact(artifact, download(artifact, most_bytes))
    except (*REQUEST_ERRORS, OSError) as error:
        raise InputError(
            f"{hyperparameter}: artifact {name} cannot be downloaded: {one_line(error)}"
        ) from error


def download(artifact: wandb.Artifact, most_bytes: float = weights_file.MAX_BYTES) -> Path:
    """The folder of an artifact's files in the cache, downloaded once for all processes of the machine.

    ValueError if it has more than most_bytes, or no valid digest.
    """
    # The server decides them.
    if not DIGEST.fullmatch(artifact.digest):
        raise ValueError("it has no valid digest")
    if artifact.size > most_bytes:
        raise ValueError("it is larger than any model with its optimizer")
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
        logged = islice(run.logged_artifacts(), MOST_ARTIFACTS)
        models = [artifact for artifact in logged if artifact.type == "model"]
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


def model_named(name: str) -> Artifact:
    """The model artifact ENTITY/PROJECT/NAME:ALIAS.

    InputError if there is no such artifact, if it is not a model, or if W&B cannot be reached.
    """
    try:
        artifact: Artifact = wandb.Api().artifact(name)
    except (wandb.Error, ValueError) as error:
        raise InputError(f"artifact {name}: {one_line(error)}") from error
    if artifact.type != "model":
        raise InputError(f"artifact {name}: its type is {artifact.type}, takes one of type model")
    return artifact


def link_model(model: Artifact, target: str) -> Artifact:
    """Link a model artifact to a collection, which is created if there is none. Returns the linked one.

    target: wandb-registry-NAME/COLLECTION for a registry, or [ENTITY/]PROJECT/COLLECTION. InputError if W&B
    refuses it or cannot be reached.
    """
    try:
        linked = model.link(target)
    except (wandb.Error, ValueError, TypeError) as error:
        raise InputError(f"--link_model {target}: {one_line(error)}") from error
    return linked


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
            logged = {key: logged_tables.of_columns(columns) for key, columns in tables.items()}
            _retry(lambda: run.log({**logged, **logged_images.of_figures(figures)}))
            return run.url if online else None
    except (wandb.Error, ValueError) as error:
        raise InputError(f"W&B: {one_line(error)}") from error


# The history of a run has one row per epoch, one with its figures and one with its Tables. Each is logged
# exactly once: a resumed run continues by the number of rows, and W&B's hyperband counts logged values.


def has_logged(run: Run, row: float) -> bool:
    """Whether the run logged this row of its history, from 1, before it was resumed."""
    return row <= int(run.starting_step)


def log_epoch(run: Run, row: dict[str, float], images: Mapping[str, wandb.Image] | None = None) -> None:
    """Log the metrics of a finished epoch and its images, unless the run has logged them."""
    if not has_logged(run, row["epoch"]):
        run.log({**row, **(images or {})})


def _retry(log: Callable[[], Result]) -> Result:
    """Log something that includes an artifact; retries for up to an hour while the server is unreachable.

    wandb retries every other request itself. Before the first artifact of a run, however, it verifies its
    login, and gives up after seconds.
    """
    deadline = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            return log()
        except (wandb.errors.AuthenticationError, wandb.errors.CommError) as error:
            if time.monotonic() > deadline:
                raise
            print(f"W&B cannot be reached, retrying: {one_line(error)}", file=sys.stderr)
            time.sleep(OUTAGE_PAUSE_SECONDS)


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
    """Log figures by media key, as PNG images, after the last epoch, unless the run has logged them."""
    if not has_logged(run, epoch + 1):
        run.log({"epoch": epoch, **logged_images.of_figures(figures)})


def log_tables(run: Run, epoch: int, tables: Mapping[str, Mapping[str, list[Any]]]) -> None:
    """Log Tables by media key after the figures, unless the run has logged them.

    Each is columns of N values by name; an image is a uint8 tensor (C, H, W).
    """

    def log() -> None:
        run.log(
            {"epoch": epoch, **{key: logged_tables.of_columns(columns) for key, columns in tables.items()}}
        )

    if not has_logged(run, epoch + 2):
        _retry(log)


@contextmanager
def logged_model(run: Run, folder: Path, description: dict[str, Any]) -> Iterator[None]:
    """Log a model folder as an artifact of type "model", which the server has when the block ends.

    It is uploaded while the block does other work. If the block raises an error, the end of the run uploads
    the rest: wandb has copied the files, so the folder may be deleted. description: the artifact's metadata.
    """

    def log() -> Artifact:
        artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=description)
        # Not add_dir, whose pool of threads has semaphores that a killed process leaves behind.
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                # wandb's cache of downloads would keep a second copy of every run's model.
                artifact.add_file(str(file), file.relative_to(folder).as_posix(), skip_cache=True)
        return run.log_artifact(artifact)

    logged = _retry(log)
    yield
    if path_on_server(run) is None:
        return
    for attempt in range(1, UPLOADS + 1):
        try:
            _retry(logged.wait)
        except ValueError as error:
            if attempt == UPLOADS:
                raise
            # The client gives an upload up whose connection breaks, and would finish the run without it.
            print(f"the model was not uploaded, retrying: {one_line(error)}", file=sys.stderr)
            logged = _retry(log)
        else:
            return
