"""What run_sweep looks at before it creates a sweep: its pictures, its metric, and its points."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wandb_tl import loading
from wandb_tl.command_line import shell_command
from wandb_tl.config import RECIPE, with_recipe
from wandb_tl.errors import InputError
from wandb_tl.sweeping import equal_points, search_metric, sweep_definitions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wandb_tl.config import RunConfig
    from wandb_tl.sweeping.sweep_definitions import Definition, Parameter


def check_metric(definition: Definition, has_pictures: bool) -> None:
    """Print warnings about the metric of a search. InputError if its runs never log it.

    InputError also if runs lack the validation images that keep=best or patience need.

    has_pictures: whether the pictures of the runs are on this machine.
    """
    has_validation = _has_validation if has_pictures else _is_assumed
    for warning in search_metric.check(definition, has_validation):
        print(f"warning: {warning}", file=sys.stderr)
    parameters = definition.get("parameters") or {}
    for name, default in (("keep", "last"), ("patience", 0)):
        spec = parameters.get(name, {})
        chosen = [value for value in spec.get("values", [spec.get("value", default)]) if value != default]
        for config in sweep_definitions.data_configs(definition) if chosen else []:
            if not search_metric.has_validation_images(config, definition, has_validation):
                wanted = f"{name}: {chosen[0]} needs validation images, and there are none"
                raise InputError(f"{wanted}; use --set val_fraction=0.2")


def check_repeatable(definition: Definition, has_pictures: bool) -> None:
    """InputError if the recipes of a sweep cannot be judged by their mean over seeds on validation images.

    has_pictures: whether the pictures of its runs are on this machine.
    """
    if not sweep_definitions.is_plain(definition):
        raise InputError("--seeds: the sweep's runs are not plain wandb_tl.train")
    if len(definition.get("metrics") or ()) > 1:
        raise InputError("--seeds: the sweep has several objectives, so no recipe is the best one")
    parameters = definition.get("parameters") or {}
    for name in ("seed", "fold"):
        if _varies(parameters, name):
            raise InputError(f"--seeds: the sweep varies {name} itself; leave out one of the two")
    has_validation = _has_validation if has_pictures else _is_assumed
    for config in sweep_definitions.data_configs(definition) if parameters else []:
        if not search_metric.has_validation_images(config, definition, has_validation):
            raise InputError(
                "--seeds: validation images judge the recipes, and there are none; use --set val_fraction=0.2"
            )


def _varies(parameters: Mapping[str, Parameter], name: str) -> bool:
    """Whether runs of a sweep have several values of a hyperparameter, by itself or as a part of recipes."""
    spec = parameters.get(name, {"value": ""})
    # Without these, it has a distribution, or bounds alone.
    if "value" not in spec and len(spec.get("values", ())) != 1:
        return True
    recipes = parameters.get(RECIPE, {}).get("values", ())
    return len({with_recipe({RECIPE: recipe}).get(name) for recipe in recipes}) > 1


def _has_validation(data_dir: str) -> bool:
    from wandb_tl.pictures import survey

    return survey.has_split(data_dir, "val")


def _is_assumed(data_dir: str) -> bool:
    """In place of _has_validation, of pictures on other machines."""
    return True


def print_equal_points(definition: Definition) -> None:
    """Say how many points of a grid are equal to others, if some are, and how many must fail.

    InputError if all of them must.
    """
    count = equal_points.count(definition)
    if count is not None and count.contradiction:
        if not count.points:
            raise InputError(count.contradiction)
        total = count.points + count.contradictions
        print(
            f"warning: {count.contradictions:,} of {total:,} runs will fail: {count.contradiction}",
            file=sys.stderr,
        )
    if count is not None and count.distinct < count.points:
        print(
            f"{count.points:,} points, {count.distinct:,} distinct: a run whose point equals a finished "
            "one takes its results",
            file=sys.stderr,
        )


def check_pictures(definition: Definition, artifacts: bool) -> None:
    """Describe and decode the pictures that the runs train on. InputError if a run could not use them.

    The agents find them decoded. artifacts: check the pictures of artifacts, which need the server, or else
    those of folders.
    """
    configs = [
        config
        for config in sweep_definitions.data_configs(definition)
        if config.dataset == "folder" and config.data_dir.startswith("artifact:") == artifacts
    ]
    if not configs:
        return
    with loading.libraries():
        from wandb_tl.training import datasets

    cache, printed = datasets.ImageCache(), set()

    def print_once(text: str) -> None:
        if text not in printed:
            printed.add(text)
            print(f"{text}\n", flush=True)

    for config in configs:
        data = datasets.load(config, cache, artifact_folder(config) if artifacts else None, print_once)
        if data.val is None:
            search_metric.check_loaded(definition, config)
        if pairs := datasets.pairs_across_splits(data):
            held_out = (
                f"--fold={config.fold}" if config.fold else f"--val_fraction={config.val_fraction}",
                f"--test_fraction={config.test_fraction}",
            )
            inspect = shell_command("wandb_tl.inspect_data", config.data_dir, *held_out)
            print_once(
                f"About {pairs:,} pairs of training and held-out pictures look alike. To see them: {inspect}"
            )


def artifact_folder(config: RunConfig) -> Path | None:
    """The folder of a downloaded artifact of pictures."""
    # It imports wandb, which reads its environment then: the server's variables must be set before.
    from wandb_tl.training import tracking

    artifact = tracking.download_pictures(config)
    return artifact.folder if artifact else None
