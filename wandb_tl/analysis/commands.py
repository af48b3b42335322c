"""Commands as plain data: those that train the best recipe again, predict with it, and run another sweep."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wandb_tl.config import FIELDS, RunConfig
from wandb_tl.hyperparameters import Value

# The preset that a next sweep starts from: it repeats recipes with several seeds.
PRESET = "seeds"
# The hyperparameters that the preset sets: a command that is about other recipes sets them too.
SET_BY_PRESET = (
    *("model_name", "finetuning", "unfreeze", "batch_size", "epochs", "optimizer", "lr", "weight_decay"),
    *("scheduler", "image_size", "seed", "dataset", "train_limit"),
)
# The preset that a next search starts from, how many runs it has, and the hyperparameters that it sets. It
# varies the first ones.
SEARCH_PRESET, SEARCH_RUNS = "tune", 24
VARIED_BY_SEARCH = ("finetuning", "unfreeze", "optimizer", "lr", "weight_decay")
SET_BY_SEARCH = (
    *VARIED_BY_SEARCH,
    *("scheduler", "val_fraction", "model_name", "dataset", "train_limit", "image_size", "batch_size"),
    "epochs",
)


@dataclass(frozen=True)
class CommandLine:
    """A command of this package: its module, such as wandb_tl.train, and its arguments."""

    module: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return self.with_python("python")

    def with_python(self, python: str) -> str:
        """The command line for a shell, with this Python."""
        return shlex.join([python, "-m", self.module, *self.arguments])

    def with_flags(self, flags: Sequence[str]) -> CommandLine:
        """The same command with more flags, such as --local."""
        return CommandLine(self.module, (*self.arguments, *flags))


def train(config: RunConfig, varied: Sequence[str]) -> CommandLine | None:
    """Trains a recipe again. Flags are what the sweep varies and what is not the default.

    None for a model or images that Python code has handed over: no command can.
    """
    if config.is_own_data or config.is_own_model:
        return None
    values = matter(config, varied)
    flags = (argument for name, value in values.items() for argument in (f"--{name}", str(value)))
    return CommandLine("wandb_tl.train", tuple(flags))


def predict(path: str, best_run: str) -> CommandLine:
    """Classifies pictures with the best run of a sweep, or of a project, ENTITY/PROJECT."""
    model = f"{path}/{best_run}" if path.count("/") == 1 else path
    return CommandLine("wandb_tl.predict", (model, "PICTURES"))


def sweep(config: RunConfig, values: Mapping[str, Sequence[Value]]) -> CommandLine | None:
    """Runs a sweep about a recipe that tries the values by hyperparameter; several names multiply.

    None for a model or images that Python code has handed over.
    """
    return _run_sweep(PRESET, config, matter(config, SET_BY_PRESET), values)


def search(config: RunConfig, values: Mapping[str, Sequence[Value]]) -> CommandLine | None:
    """Searches the values by hyperparameter, with the other hyperparameters of a recipe.

    None for a model or images that Python code has handed over.
    """
    fixed = matter(config, SET_BY_SEARCH) | {name: config.as_dict()[name] for name in VARIED_BY_SEARCH}
    if config.val_fraction == 0:
        # Validation images choose the best run: the preset holds some out if there is no validation split.
        fixed.pop("val_fraction", None)
    return _run_sweep(SEARCH_PRESET, config, fixed, values)


def _run_sweep(
    preset: str, config: RunConfig, fixed: Mapping[str, Value], values: Mapping[str, Sequence[Value]]
) -> CommandLine | None:
    if config.is_own_data or config.is_own_model:
        return None
    settings = {name: [value] for name, value in fixed.items()}
    settings |= {name: list(tried) for name, tried in values.items()}
    flags = (
        argument
        for name, tried in sorted(settings.items(), key=lambda item: (len(item[1]) == 1, _position(item[0])))
        for argument in ("--set", f"{name}={','.join(map(str, tried))}")
    )
    return CommandLine("wandb_tl.run_sweep", (preset, *flags))


def matter(config: RunConfig, names: Sequence[str]) -> dict[str, Value]:
    """The named hyperparameters of a recipe and those that are not the default, where they have an effect."""
    return {
        name: value
        for name, value in config.as_dict().items()
        if name not in config.without_effect and (name in names or value != FIELDS[name].default)
    }


def _position(name: str) -> int:
    return list(FIELDS).index(name)
