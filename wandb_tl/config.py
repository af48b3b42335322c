"""RunConfig: every hyperparameter of a run, declared once.

The flags of `python -m wandb_tl.train`, the keys of `run.config`, the parameters that a sweep file may name
and the table in docs/recipes.md are all generated from the fields below.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wandb_tl.errors import InputError, nearest
from wandb_tl.hyperparameters import SYNONYMS, Field, Value, allowed, bounded, coerce, option, short
from wandb_tl.model_kwargs import parse_model_kwargs
from wandb_tl.recipe_options import RecipeOptions

# Data sets that are downloaded by name.
NAMED_DATASETS = (
    "fashion_mnist",
    "mnist",
    "kmnist",
    "cifar10",
    "cifar100",
    "flowers102",
    "food101",
    "oxford_iiit_pet",
)
# Those whose images are small arrays of one size, resized on the device: `resize` does not apply to them.
ARRAY_DATASETS = ("fashion_mnist", "mnist", "kmnist", "cifar10", "cifar100")

# Names that images get which Python code hands over: arrays of one size, or pictures; with their digest.
OWN_DATA = "(arrays|pictures):[0-9a-f]{12}"

# What the name of a network begins with that Python code hands over.
OWN_MODEL = "own:"

# What the name of every run says.
NAMED = ("model_name", "pretrained", "finetuning", "optimizer", "seed")

# The W&B project of a run or a sweep that names none.
DEFAULT_PROJECT = "wandb_tl"
# The W&B job types of the runs of inspect_data, rank and soup, which train nothing.
INSPECTION, RANKING, SOUP = "inspect_data", "rank", "soup"
# The parameter of a sweep, and the flag of train, that sets several hyperparameters: a grid multiplies its
# parameters, and lists recipes with this one.
RECIPE = "recipe"
# The key of the summary that names the run whose results a run has, see sweeping/equal_runs.py.
EQUAL_TO = "equal_to"


@dataclass(frozen=True, kw_only=True)
class RunConfig(RecipeOptions):
    """The hyperparameters of one run. Raises InputError for a value that a field does not allow."""

    dataset: str = option(
        "fashion_mnist",
        "the images: a data set by name, or your own pictures (folder) at data_dir; hf:NAME loads a data set "
        "of the Hugging Face hub with the package datasets",
        pattern=rf"folder|{'|'.join(NAMED_DATASETS)}|hf:.+|{OWN_DATA}",
        takes=f"folder, {', '.join(NAMED_DATASETS)} or hf:NAME",
    )
    data_dir: str = option(
        "",
        "where your pictures are: a folder with one folder per class, with or without train, val and test "
        "folders around them; a .csv or .jsonl file of paths and labels; or a W&B artifact, as "
        "artifact:ENTITY/PROJECT/NAME:ALIAS",
        is_path=True,
    )
    resize: str = option(
        "crop",
        "how a picture becomes a square: crop keeps the centre, by the crop fraction of the model's weights; "
        "squash changes the aspect ratio; pad adds a border",
        choices=("crop", "squash", "pad"),
    )
    on_bad_image: str = option(
        "fail",
        "what to do about pictures that cannot be read: fail lists them all, skip trains without them",
        choices=("fail", "skip"),
    )
    train_limit: int = option(
        0,
        "training images to use, of each class its share, the same ones for every seed; 0 means all",
        least=0,
    )
    test_limit: int = option(0, "test images to use, of each class its share; 0 means all", least=0)
    val_fraction: float = option(
        0.0,
        "fraction of each class's training images held out for validation, if there is no validation split",
        least=0,
        below=1,
    )
    fold: str = option(
        "",
        "which part of the training images is held out for validation: 2/5 is the second of five equal "
        "parts of each class; with it, leave val_fraction out",
        pattern=r"|0*[1-9]\d*/0*[1-9]\d*",
        takes="K/N, such as 2/5",
    )
    test_fraction: float = option(
        0.2,
        "fraction of each class's images held out for testing, if there is neither a test nor a validation "
        "split",
        above=0,
        below=1,
    )
    weights_file: str = option(
        "",
        "start from these weights instead of those of the timm hub: a .safetensors or .pth file; the folder "
        "of a trained model, such as models/RUN; or its W&B artifact, as ENTITY/PROJECT/model-RUN:ALIAS",
        is_path=True,
    )
    save_weights: str = option(
        "auto",
        "tensors in the model artifact of the run: those that it trains (trained) or all (whole), which load "
        "without the timm hub and take 94 MB for a ResNet-50; auto is whole with a weights_file, otherwise "
        "trained",
        choices=("auto", "trained", "whole"),
    )

    def __post_init__(self) -> None:
        for name, spec in FIELDS.items():
            object.__setattr__(self, name, coerce(spec, getattr(self, name)))
        self.check_recipe()
        if self.fold and self.val_fraction:
            raise InputError("fold: it says which images are held out; leave val_fraction out")
        if self.fold and not 1 <= self.fold_of[0] <= self.fold_of[1] > 1:
            raise InputError(f"fold: got {self.fold}, takes K/N with K from 1 to N, such as 2/5")
        if parse_model_kwargs(self.model_kwargs) and self.is_own_model:
            raise InputError("model_kwargs: your own model is built already; leave model_kwargs out")
        if self.data_dir and self.dataset != "folder":
            raise InputError(
                f"data_dir: {self.dataset} does not read it; dataset=folder trains on its pictures"
            )
        if not self.data_dir and self.dataset == "folder":
            raise InputError("data_dir: dataset=folder needs the folder of your pictures, as data_dir=PATH")
        if self.is_own_model and (not self.pretrained or self.weights_file):
            raise InputError("pretrained: your own model starts from its weights; leave weights_file out")
        if self.pretrained and self.weights_artifact and self.save_weights == "trained":
            raise InputError("save_weights: a model that starts from an artifact is saved whole; use auto")
        if 0 < self.train_limit < self.batch_size and not self.is_probe:
            raise InputError(f"batch_size: got {self.batch_size}, more than train_limit ({self.train_limit})")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> RunConfig:
        """Build from names and values; InputError for an unknown name."""
        check_names(values)
        return cls(**values)

    @classmethod
    def from_flags(cls, values: Mapping[str, Any]) -> RunConfig:
        """Build from the values that a person typed: data_dir alone means a folder of pictures."""
        return cls.from_mapping(with_dataset_of_folder(with_recipe(values)))

    def as_dict(self) -> dict[str, Value]:
        return dataclasses.asdict(self)

    @property
    def run_name(self) -> str:
        """The name that W&B shows: as in the original experiment, with what else is not at its default."""
        name = (
            f"{self.model_name}-pretrained{self.pretrained}-finetuning{self.finetuning}"
            f"-optim{self.optimizer}-seed{self.seed}"
        )
        # data_dir says enough about the images; a digest says nothing.
        unnamed = {*NAMED, *self.without_effect, *(["dataset"] if self.data_dir or self.is_own_data else [])}
        others = [
            short(spec, value)
            for field, spec in FIELDS.items()
            if field not in unnamed and (value := getattr(self, field)) != spec.default
        ]
        return bounded("-".join([name, *others]))

    @property
    def fold_of(self) -> tuple[int, int]:
        """fold as (K, N); (0, 0) if it is not set."""
        number, _, count = self.fold.partition("/")
        return (int(number), int(count)) if self.fold else (0, 0)

    @property
    def has_arrays(self) -> bool:
        """Whether the images are small arrays of one size."""
        return self.dataset in ARRAY_DATASETS or self.dataset.startswith("arrays:")

    @property
    def is_own_data(self) -> bool:
        """Whether Python code has handed the images over."""
        return self.dataset.startswith(("arrays:", "pictures:"))

    @property
    def is_own_model(self) -> bool:
        """Whether Python code has handed the network over."""
        return self.model_name.startswith(OWN_MODEL)

    @property
    def weights_artifact(self) -> str:
        """The W&B artifact that weights_file names, as ENTITY/PROJECT/NAME:ALIAS; "" if it names a path."""
        return artifact_named(self.weights_file)

    @property
    def saves_whole_model(self) -> bool:
        """Whether the model artifact of the run has all tensors of the model."""
        from_file = self.pretrained and bool(self.weights_file)
        is_in_auto = from_file or self.is_own_model
        return self.save_weights == "whole" or (self.save_weights == "auto" and is_in_auto)

    @property
    def without_effect(self) -> frozenset[str]:
        """Names of the fields whose value changes nothing about what this run learns or how well."""
        idle = self.idle_options() | {
            "compile": True,  # how fast, not what
            "save_weights": True,  # what is kept, not what is learned
            "data_dir": self.dataset != "folder",
            "resize": self.has_arrays,
            "on_bad_image": self.has_arrays,
            "weights_file": not self.pretrained,
            # A probe draws nothing but the random weights of a network that is not pretrained.
            "seed": self.is_probe and self.pretrained,
        }
        return frozenset(name for name, is_idle in idle.items() if is_idle)


FIELDS: dict[str, Field] = {spec.name: spec for spec in dataclasses.fields(RunConfig)}


def artifact_named(text: str) -> str:
    """The W&B artifact ENTITY/PROJECT/NAME:ALIAS that a text names; "" if it is a path of this machine."""
    name = text.removeprefix("artifact:")
    return name if re.fullmatch(r"([^/:\\]+/){2}[^/:\\]+:[^/:\\]+", name) else ""


def check_names(names: Iterable[str]) -> None:
    """Raise InputError for a name that is not a hyperparameter."""
    for name in names:
        if name not in FIELDS:
            close = nearest(name, FIELDS, SYNONYMS)
            hint = f"; did you mean {close}?" if close else ""
            raise InputError(f"{name}: no such hyperparameter{hint}")


def with_dataset_of_folder(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with dataset=folder if they have a data_dir and no dataset."""
    implied = {"dataset": "folder"} if "data_dir" in values and "dataset" not in values else {}
    return implied | dict(values)


def with_recipe(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with the hyperparameters of their `recipe`, as "lr=0.001 optimizer=SGD", in its place.

    InputError for a recipe that cannot be read, or that gives a hyperparameter another value than they do.
    """
    others = {name: value for name, value in values.items() if name != RECIPE}
    try:
        settings = shlex.split(str(values.get(RECIPE, "")))
    except ValueError as error:
        raise InputError(f"{RECIPE}: {values[RECIPE]}: {error}") from error
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"{RECIPE}: got {setting}, takes NAME=VALUE, separated by spaces")
        value = check_value(name, text)
        if check_value(name, others.setdefault(name, value)) != value:
            raise InputError(f"{RECIPE}: it says {setting}, and {name} is {others[name]}; leave one out")
    return others


def recipe_of(values: Mapping[str, Value]) -> str:
    """The recipe that with_recipe() reads these values from."""
    return shlex.join(f"{name}={value}" for name, value in values.items())


def check_value(name: str, value: object) -> Value:
    """The value of a hyperparameter, converted to its type. InputError for a value that is not allowed."""
    check_names([name])
    return coerce(FIELDS[name], value)


def markdown_table() -> str:
    """The hyperparameters as the table of docs/recipes.md."""
    rows = ["| name | default | allowed values | purpose |", "|:--|:--|:--|:--|"]
    for name, spec in FIELDS.items():
        default = f"`{spec.default}`" if spec.default != "" else ""
        rows.append(f"| `{name}` | {default} | {allowed(spec)} | {spec.metadata['why']} |")
    return "\n".join(rows)
