"""python -m wandb_tl.train: one run, from its config to its results in W&B. training/loop.py trains."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from wandb_tl import loading, signals
from wandb_tl.cache_folder import cache_limit
from wandb_tl.command_line import Command, add_local_flags, local_flags, shell_command
from wandb_tl.config import FIELDS, RECIPE, RunConfig
from wandb_tl.errors import ExitCode, InputError
from wandb_tl.hyperparameters import SYNONYMS, Value, allowed
from wandb_tl.sweeping import embedded_server

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from torch import nn

    from wandb_tl.training.datasets import Dataset
    from wandb_tl.training.evaluate import Evaluation
    from wandb_tl.training.loop import Result
    from wandb_tl.training.model_description import ModelDescription
    from wandb_tl.training.own_data import OwnData
    from wandb_tl.training.own_model import OwnModel
    from wandb_tl.training.process_cache import ProcessCache
    from wandb_tl.training.tracking import InputArtifact, Run

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
    parser.add_argument(
        f"--{RECIPE}",
        default=argparse.SUPPRESS,
        metavar="'NAME=VALUE NAME=VALUE…'",
        help="several hyperparameters in one flag, as sweeps over a list of recipes pass them on",
    )
    add_local_flags(parser, "log to")
    # An agent that hands a run out again adds a flag of its own.
    parser.add_argument("--_wandb", help=argparse.SUPPRESS)


def config_of(options: argparse.Namespace) -> RunConfig:
    """The hyperparameters that the flags give. InputError for a value that a field does not take."""
    names = {*FIELDS, RECIPE}
    return RunConfig.from_flags({name: value for name, value in vars(options).items() if name in names})


def run(options: argparse.Namespace, cache: ProcessCache | None = None) -> int:
    """Train by the flags, in a W&B run.

    cache: the process's, if it has several runs; it keeps images and activations between them.
    """
    config = config_of(options)
    # Bad input is refused before the libraries are loaded, and before there is a run.
    cache_limit()
    with ExitStack() as stack:
        if options.local:
            server = stack.enter_context(closing(embedded_server.SharedServer(options.root)))
            # wandb reads them when it is imported.
            os.environ.update(server.environment)
        name = train(config, cache)
    if name is None:
        return ExitCode.OK
    predict = shell_command("wandb_tl.predict", name, "PICTURES", *local_flags(options))
    print(f"Model: {name}. To classify pictures with it: {predict}", flush=True)
    return ExitCode.OK


def train(config: RunConfig, cache: ProcessCache | None) -> str | None:
    """Train in a W&B run; returns the path of its model, on the server or in the current folder.

    None in a process that torchrun has started besides the first one of the run, and for a run that takes the
    results of an equal one, see sweeping/equal_runs.py.
    """
    with signals.terminated_by_signals(), ExitStack() as stack:
        try:
            with loading.libraries():
                # `media` and `loop` are used below: they are loaded here so that no signal interrupts it.
                from wandb_tl.figures import media as media
                from wandb_tl.sweeping import equal_runs
                from wandb_tl.training import distributed, run_lifecycle, tracking
                from wandb_tl.training import loop as loop
                from wandb_tl.training.process_cache import ProcessCache

            cache = cache or ProcessCache()
            stack.enter_context(distributed.joined(config))
            alone = distributed.count() == 1
            if alone and (twin := equal_runs.find(config, run_lifecycle.values_of_run())):
                with run_lifecycle.start(config) as wandb_run:
                    print(f"equals the finished run {twin.id}, whose results it takes", flush=True)
                    equal_runs.copy(twin, wandb_run)
                return None
            ready = prepare(config, cache)
            if distributed.rank():
                help_to_train(ready, cache)
                return None
            with run_lifecycle.start(config) as wandb_run:
                name = tracking.path_on_server(wandb_run) or str(MODELS / wandb_run.id)
                finished = train_and_log(ready, wandb_run, cache)
        except signals.Terminated as end:
            if not distributed.rank():
                run_lifecycle.preempt_handed_out_run(end)
            raise
    # Only now is everything uploaded: a run that is killed before this resumes from its checkpoint.
    finished.result.checkpoint.discard()
    return name


@dataclass(frozen=True)
class Prepared:
    """What a run works with. artifacts: those that data_dir and weights_file name, if they name some."""

    config: RunConfig
    data: Dataset
    model: nn.Module
    device: torch.device
    artifacts: tuple[InputArtifact, ...] = ()


@dataclass(frozen=True)
class Finished:
    """The result of a run. figures: by media key. description: of its model."""

    result: Result
    figures: dict[str, Figure]
    description: ModelDescription


@dataclass(frozen=True)
class OwnInputs:
    """What Python code hands over instead of names: images, a network, or neither."""

    data: OwnData | None = None
    model: OwnModel | None = None

    @property
    def names(self) -> dict[str, Value]:
        """The hyperparameters that name them."""
        names: dict[str, Value] = {}
        if self.data is not None:
            names["dataset"] = self.data.name
        if self.model is not None:
            names["model_name"] = self.model.name
        return names


def prepare(config: RunConfig, cache: ProcessCache, own: OwnInputs | None = None) -> Prepared:
    """Load the images and build the model of a run. InputError if the config names some that cannot be."""
    from wandb_tl.training import datasets, devices, model_folder, models, tracking

    own = own or OwnInputs()
    device = devices.fastest()
    pictures = tracking.download_pictures(config)
    weights = tracking.download_weights(config)
    data = datasets.load(config, cache.images, pictures.folder if pictures else None, own=own.data)
    if data.val is None and (option := config.needs_validation):
        raise InputError(f"{option}: there are no validation images; set val_fraction, such as 0.2")
    start = model_folder.starting_weights(config, data.class_names, weights.folder if weights else None)
    say = partial(print, flush=True)
    model = models.build(config, len(data.class_names), own.model, start, say).to(device)
    artifacts = tuple(artifact for artifact in (pictures, weights) if artifact)
    return Prepared(config, data, model, device, artifacts)


def help_to_train(ready: Prepared, cache: ProcessCache) -> None:
    """Train together with the first process of the run, which logs."""
    from wandb_tl.training import loop, run_lifecycle

    run = run_lifecycle.no_run()
    loop.train(ready.config, ready.data, ready.model, ready.device, run, lambda *_: {}, cache.activations)


def train_and_log(
    ready: Prepared,
    wandb_run: Run,
    cache: ProcessCache,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> Finished:
    """Train the model, and log its metrics, figures, tables and weights.

    on_epoch: called with the metrics of each epoch. The checkpoint of the result is to be discarded when the
    W&B run is over.
    """
    from wandb_tl.figures import media
    from wandb_tl.training import loop, tracking
    from wandb_tl.training.checkpoint_copy import CheckpointCopy

    config, data = ready.config, ready.data
    for artifact in ready.artifacts:
        wandb_run.use_artifact(artifact.artifact)
    draw = partial(media.draw, config, data, ready.model)
    copy = CheckpointCopy(wandb_run)
    with copy.uploaded_if_preempted():
        result = loop.train(
            config, data, ready.model, ready.device, wandb_run, draw, cache.activations, on_epoch, copy
        )
    tracking.log_summary(wandb_run, result.progress, result.test)
    # Before the figures: what is wrong with one of them must not cost the model.
    with logged_model(ready, wandb_run, result) as description:
        figures = draw(result.test, result.progress.rows)
        last_epoch = len(result.progress.rows)
        tracking.log_media(wandb_run, last_epoch, figures)
        tracking.log_tables(wandb_run, last_epoch, media.tabulate(data, result.test))
    return Finished(result, figures, description)


@contextmanager
def logged_model(ready: Prepared, wandb_run: Run, result: Result) -> Iterator[ModelDescription]:
    """Log the model as an artifact, which is uploaded during the block and committed when it ends.

    Without a server, it is written into a folder as well.
    """
    from wandb_tl.exporting import own_model_folder
    from wandb_tl.training import devices, model_folder, tracking
    from wandb_tl.training.model_description import ModelDescription, names_digest

    data = ready.data
    description = ModelDescription(
        config=ready.config,
        class_names=data.class_names,
        levels=data.levels,
        precision=devices.resolve_precision(ready.config.precision, ready.device),
        temperature=result.temperature,
        results=results_of(data, result),
        test_pictures=names_digest(data.test.names),
    )
    with TemporaryDirectory() as temporary:
        is_online = tracking.path_on_server(wandb_run) is not None
        folder = (Path(temporary) if is_online else MODELS) / wandb_run.id
        save = own_model_folder.save if ready.config.is_own_model else model_folder.save
        description = save(folder, ready.model, description)
        with tracking.logged_model(wandb_run, folder, description.as_dict()):
            yield description


class Evaluated(Protocol):
    """A model that has been evaluated, on validation images if there are some."""

    @property
    def val(self) -> Evaluation | None: ...

    @property
    def test(self) -> Evaluation | None: ...


def results_of(data: Dataset, result: Evaluated) -> dict[str, float]:
    """What a model's description says about how good it is; accuracies are in per cent.

    Without test images of its own, a data set has results of its validation images alone.
    """
    results: dict[str, float] = {"train_images": len(data.train)}
    test = None if data.test_is_val else result.test
    for split, evaluation in (("val", result.val), ("test", test)):
        if evaluation is not None:
            results |= {
                f"{split}_images": len(evaluation.actual),
                f"{split}_accuracy": evaluation.percent,
                f"{split}_f1_macro": evaluation.f1_macro,
                f"{split}_ece": evaluation.ece,
            }
    return results


COMMAND = Command(
    name="train",
    summary="train one model by one recipe",
    description="Train one model by one transfer-learning recipe and log its metrics and figures to W&B.",
    epilog="WANDB_MODE=offline or disabled trains without a W&B server, and writes the model into the folder "
    "models/RUN_ID. Without the timm hub: --model_name tf_efficientnet_lite0, whose weights the "
    "extra 'local' brings. Started again with its WANDB_RUN_ID, a run that was killed resumes from its last "
    "saved epoch.",
    add_arguments=add_arguments,
    run=run,
    # Not by an exit code, which an agent would count as a failure: its sweep may have stopped this run.
    dies_of_sigint=True,
    synonyms=SYNONYMS,
)

if __name__ == "__main__":
    COMMAND.start()
