"""python -m wandb_tl.rank: order models by how well their frozen features classify your pictures."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from pathlib import PurePath
from typing import TYPE_CHECKING

from wandb_tl import loading
from wandb_tl.cache_folder import cache_limit
from wandb_tl.command_line import Command, add_local_flags, local_flags, shell_command
from wandb_tl.config import FIELDS, RunConfig, with_dataset_of_folder
from wandb_tl.errors import ExitCode, FailedError, InputError, UsageError, one_line
from wandb_tl.hyperparameters import Value
from wandb_tl.sweeping import embedded_server, sweep_definitions

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from wandb_tl.analysis.ranking import Ranked, Ranking
    from wandb_tl.training.datasets import Dataset
    from wandb_tl.training.process_cache import ProcessCache

# The hyperparameters that decide the features of frozen layers, besides the model.
SETTINGS = (
    *("dataset", "data_dir", "resize", "on_bad_image", "train_limit", "test_limit"),
    *("val_fraction", "fold", "test_fraction"),
    *("image_size", "norm", "precision", "pretrained", "model_kwargs", "seed"),
)
# Held out of the training images unless the settings say otherwise, as in the preset of the next command.
VAL_FRACTION = 0.2
PRESET = "pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="timm models, such as resnet18.a1_in1k, or filters in quotes: 'resnet*' means each architecture "
        "with its default weights, 'resnet50.*' each of the weights of one",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a hyperparameter, as in run_sweep: {', '.join(SETTINGS)}; may be repeated",
    )
    add_local_flags(parser, "log to")


def run(options: argparse.Namespace) -> int:
    """Rank the models, and log the ranking. FAILED if none of them can be judged."""
    if not options.models:
        raise UsageError("names no models; takes timm models or filters, such as 'resnet*'")
    settings = settings_of(options.set)
    # Checked before the libraries are loaded; each model has its own later.
    config_of(settings, RunConfig().model_name)
    cache_limit()
    with embedded_server.selected(options.local, options.root):
        rank(options, settings)
    return ExitCode.OK


def settings_of(texts: list[str]) -> dict[str, Value]:
    """The hyperparameters of --set. InputError for one that has several values or decides no features."""
    settings: dict[str, Value] = {}
    for text in texts:
        name, parameter = sweep_definitions.parse_setting(text)
        if name == "model_name":
            raise InputError("--set model_name: models are arguments of this command, without --set")
        if name not in SETTINGS:
            raise InputError(
                f"--set {name}: decides nothing about frozen features; takes {', '.join(SETTINGS)}"
            )
        if "value" not in parameter:
            raise InputError(f"--set {text}: takes one value; run_sweep tries several")
        settings[name] = parameter["value"]
    if settings.get("norm") == "batch":
        raise InputError("--set norm: with batch, features depend on the batch; takes source or calibrated")
    if not {"val_fraction", "fold"} & set(settings):
        settings["val_fraction"] = VAL_FRACTION
    return with_dataset_of_folder(settings)


def config_of(settings: dict[str, Value], model: str) -> RunConfig:
    """The hyperparameters of a model whose classifier alone is fitted."""
    # The smallest batch: a probe has none, and there may be few pictures.
    return RunConfig.from_flags({**settings, "model_name": model, "batch_size": 2})


def rank(options: argparse.Namespace, settings: dict[str, Value]) -> None:
    """Judge the models and print the ranking, in a W&B run; FailedError if none can be judged."""
    with loading.libraries():
        from wandb_tl.analysis.ranking import Ranking
        from wandb_tl.training import model_names, ranking_run, tracking

    names = model_names.expand(options.models, bool(settings.get("pretrained", True)))
    if settings.get("pretrained", True):
        names = names_within_reach(names)
    config = config_of(settings, names[0])
    data_name = PurePath(config.data_dir).name or config.dataset
    logged = {name: getattr(config, name) for name in SETTINGS}
    with ranking_run.start(data_name, {**logged, "models": names}) as wandb_run:
        began = time.perf_counter()
        judging = Judge(settings)
        try:
            judged = judging.judge(names)
        except KeyboardInterrupt:
            print("\nThe same command reuses the features that it has computed.", file=sys.stderr)
            raise
        if not judged:
            raise FailedError(f"none of the models can be judged ({len(names)} tried); the reasons are above")
        ranking = Ranking(judged)
        print(f"\n{ranking.table()}\n\n{ranking.sentences(judging.conditions)}", flush=True)
        seconds = time.perf_counter() - began
        print(f"Models judged: {len(judged)} of {len(names)}, in {seconds:,.0f} s.", flush=True)
        problems = "\n".join(f"{name}: {reason}" for name, reason in judging.problems.items())
        summary = ranking.summary() | {"seconds": seconds, "not_judged": problems}
        ranking_run.log(wandb_run, ranking.columns(), summary)
        path, url = tracking.path_on_server(wandb_run), wandb_run.url
    if path:
        print(f"In W&B: {how_to_look(path, str(url), options)}")
    command = next_command(options, config, judging.train_images, ranking)
    print(f"To train {finalists_in_words(ranking)}: {command}")


def names_within_reach(names: list[str]) -> list[str]:
    """The models whose weights can be loaded. Prints which are left out; FailedError if all of them are."""
    from wandb_tl.analysis.ranking import in_words
    from wandb_tl.training import model_names

    reach = model_names.within_reach(names)
    if reach.left_out:
        text = f"the hub does not answer ({reach.reason[:200]}), and the weights are not on this machine"
        if not reach.names:
            raise FailedError(f"no model can be loaded: {text}; --set pretrained=false ranks random weights")
        print(f"Left out, because {text}: {in_words(reach.left_out)}", file=sys.stderr, flush=True)
    return reach.names


class Judge:
    """Judges models on the same images.

    problems: by model, why it cannot be judged. conditions: the device and the precision. train_images: their
    number.
    """

    def __init__(self, settings: dict[str, Value]) -> None:
        from wandb_tl.training import devices
        from wandb_tl.training.process_cache import ProcessCache

        self._settings, self._cache = settings, ProcessCache()
        self._device = devices.fastest()
        self._say = once()
        self.problems: dict[str, str] = {}
        self.train_images = 0

    @property
    def conditions(self) -> str:
        from wandb_tl.training import devices

        precision = devices.resolve_precision(str(self._settings.get("precision", "auto")), self._device)
        return f"{devices.device_name(self._device)}, {precision}"

    def judge(self, names: list[str]) -> list[Ranked]:
        """The models that can be judged; prints a line per model on a terminal, and why others cannot be."""
        from wandb_tl.training import models

        configs = [config_of(self._settings, name) for name in names]
        # Models that want the same squares one after the other: their pictures are loaded once.
        configs.sort(key=lambda config: repr(models.framing(config)))
        judged: list[Ranked] = []
        for number, config in enumerate(configs, 1):
            data = self._load(config, len(configs))
            place = f"{number}/{len(configs)} {config.model_name}"
            try:
                ranked = judge(config, data, self._device, self._cache)
            except Exception as error:
                # A model's code can fail in any way; what is wrong with the images is found before.
                self.problems[config.model_name] = one_line(error)
                print(f"{place}: cannot be judged: {one_line(error)[:300]}", file=sys.stderr, flush=True)
                continue
            judged.append(ranked)
            if sys.stderr.isatty():
                percent = 100 * float(ranked.probe.mean())
                print(f"{place}: {percent:.2f} %, {ranked.milliseconds:.3g} ms/image", file=sys.stderr)
        return judged

    def _load(self, config: RunConfig, models: int) -> Dataset:
        """The images, as this model sees them. InputError if there are none for validation.

        models: how many are judged by them.
        """
        from wandb_tl.training import datasets, tracking

        artifact = tracking.download_pictures(config)
        data = datasets.load(config, self._cache.images, artifact.folder if artifact else None, self._say)
        if data.val is None or not len(data.val):
            raise InputError("val_fraction: there are no validation images, which judge the models; use 0.2")
        self.train_images = len(data.train)
        self._say(
            f"Models to judge: {models:,}, by {len(data.train):,} training and {len(data.val):,} validation "
            f"images of {len(data.class_names)} classes at {config.image_size} px"
        )
        return data


def judge(config: RunConfig, data: Dataset, device: torch.device, cache: ProcessCache) -> Ranked:
    """A model with the validation images that a probe and nearest neighbours classify correctly."""
    from wandb_tl.analysis.ranking import Ranked
    from wandb_tl.training import frozen_features, probe

    # What the frozen layers of each run print is too much for many models.
    with contextlib.redirect_stdout(io.StringIO()):
        model = frozen_features.of_model(config, data, device, cache.activations)
    classes = len(data.class_names)
    # Training images choose the penalty: chosen on the validation images, it would flatter their accuracy.
    logits = probe.fit(model.train, None, classes).logits(model.val.rows)
    votes = probe.knn_scores(model.train, model.val.rows, classes)
    by_probe, by_knn = ((scores.argmax(1) == model.val.labels).cpu().numpy() for scores in (logits, votes))
    return Ranked(config.model_name, by_probe, by_knn, model.milliseconds, model.parameters)


def once() -> Callable[[str], None]:
    """A function that prints a text unless it has printed it before."""
    printed: set[str] = set()

    def say(text: str) -> None:
        if text not in printed:
            printed.add(text)
            print(text, flush=True)

    return say


def how_to_look(path: str, url: str, options: argparse.Namespace) -> str:
    """How to look at the run."""
    if not options.local:
        return url
    return shell_command("wandb_tl.local", *embedded_server.open_arguments(path, options.root))


def finalists_in_words(ranking: Ranking) -> str:
    from wandb_tl.analysis.formatting import count

    number = len(ranking.finalists)
    return (
        "the best model of the frontier"
        if number == 1
        else f"the best {count(number, 'model')} of the frontier"
    )


def next_command(options: argparse.Namespace, config: RunConfig, train_images: int, ranking: Ranking) -> str:
    """The command that starts a sweep over the best models with the same images."""
    preset = sweep_definitions.load(PRESET, [])["parameters"]
    values: dict[str, Value] = {"model_name": ",".join(ranking.finalists)}
    # What the preset has another value for, and what the settings change.
    for name in SETTINGS:
        value = getattr(config, name)
        default = preset[name].get("value") if name in preset else FIELDS[name].default
        if value != default and not (name == "dataset" and config.data_dir):
            values[name] = value
    batch_size = int(str(preset["batch_size"]["value"]))
    if train_images < batch_size:
        values["batch_size"] = 1 << (train_images.bit_length() - 1)
    settings = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    return shell_command("wandb_tl.run_sweep", PRESET, *local_flags(options), *settings)


COMMAND = Command(
    name="rank",
    summary="which timm models suit your pictures, before any training",
    description="Order timm models by how well their frozen features classify held-out validation images: "
    "with a linear probe and with nearest neighbours. Also print the time per image and the number of "
    "parameters, and mark the models that no other one beats in both accuracy and time.",
    epilog="Example: tf_efficientnet_lite0 'resnet*' --local --set data_dir=~/pictures --set image_size=96. "
    "Without the timm hub, it ranks the models whose weights are on this machine. A later run of the same "
    "model reuses the features. WANDB_MODE=disabled ranks without a W&B server. The exit code is 1 only if "
    "no model can be judged.",
    add_arguments=add_arguments,
    run=run,
    ends_on=("SIGTERM", "SIGHUP"),
    settings=SETTINGS,
)

if __name__ == "__main__":
    COMMAND.start()
