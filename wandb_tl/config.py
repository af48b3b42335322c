"""RunConfig: every hyperparameter of a run, declared once.

The flags of `python -m wandb_tl.train`, the keys of `run.config`, the parameters that a sweep file may name
and the table in docs/recipes.md are all generated from the fields below.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wandb_tl.errors import InputError, nearest
from wandb_tl.hyperparameters import Field, Value, allowed, bounded, coerce, option, short
from wandb_tl.model_kwargs import parse_model_kwargs

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
# The W&B job type of the runs of inspect_data, which train nothing.
INSPECTION = "inspect_data"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The hyperparameters of one run. Raises InputError for a value that a field does not allow."""

    model_name: str = option("resnet50.tv_in1k", "timm model; the part after the dot names its weights")
    model_kwargs: str = option(
        "",
        "more arguments of timm.create_model, such as patch_size=8 drop_path_rate=0.1; in_chans=1 makes a "
        "model of grey pictures",
    )
    pretrained: bool = option(True, "start from ImageNet weights instead of random weights")
    finetuning: bool = option(False, "train the stages that `unfreeze` selects, not only the new classifier")
    unfreeze: str = option(
        "last_stage",
        "stages that finetuning trains: the last one, all, or how many, counted from the end",
        pattern=r"last_stage|all|0*[1-9]\d*",
        takes="last_stage, all or a number of stages",
    )
    batch_size: int = option(64, "images per optimizer step; BatchNorm needs at least 2", least=2)
    epochs: int = option(10, "passes over the training images", least=1)
    optimizer: str = option("Adam", "optimizer of the trainable layers", choices=("Adam", "SGD", "AdamW"))
    lr: float = option(0.001, "learning rate", above=0)
    momentum: float = option(0.9, "momentum of SGD; Adam and AdamW ignore it", least=0, below=1)
    weight_decay: float = option(0.1, "weight decay of SGD and AdamW; Adam ignores it", least=0)
    scheduler: str = option("constant", "learning rate schedule", choices=("constant", "cosine"))
    norm: str = option(
        "auto",
        "BatchNorm statistics of the frozen layers: from the weights (source), estimated once on the "
        "training images (calibrated), or of each batch, as in a model left in train mode (batch); auto is "
        "source with pretrained weights and calibrated with random weights",
        choices=("auto", "source", "calibrated", "batch"),
    )
    image_size: int = option(224, "height and width of the model's input in pixels", least=8)
    augment: str = option(
        "none", "random augmentation of the training images", choices=("none", "flip", "flip_crop")
    )
    precision: str = option(
        "auto",
        "number format of the forward pass; auto is bf16 if the device computes in it, otherwise fp16 on a "
        "GPU and fp32 on a CPU",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    compile: str = option(
        "auto",
        "use torch.compile for the trainable layers; auto compiles on a GPU if the run has enough steps to "
        "repay it",
        choices=("auto", "always", "never"),
    )
    seed: int = option(
        0, "random seed of the weights, the order of images and augmentation", least=0, below=2**31
    )
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
        if 0 < self.train_limit < self.batch_size:
            raise InputError(f"batch_size: got {self.batch_size}, more than train_limit ({self.train_limit})")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> RunConfig:
        """Build from names and values; InputError for an unknown name."""
        check_names(values)
        return cls(**values)

    @classmethod
    def from_flags(cls, values: Mapping[str, Any]) -> RunConfig:
        """Build from the values that a person typed: data_dir alone means a folder of pictures."""
        return cls.from_mapping(with_dataset_of_folder(values))

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
    def model_arguments(self) -> dict[str, Any]:
        """model_kwargs by name."""
        return parse_model_kwargs(self.model_kwargs)

    @property
    def norm_in_effect(self) -> str:
        """`norm` with auto resolved: source, calibrated or batch."""
        if self.norm == "auto":
            return "source" if self.pretrained else "calibrated"
        return self.norm

    @property
    def stages_to_open(self) -> int | None:
        """How many stages are trained besides the classifier; None for the whole network."""
        if not self.finetuning:
            return 0
        if self.unfreeze == "all":
            return None
        return 1 if self.unfreeze == "last_stage" else int(self.unfreeze)

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
        idle = {
            "compile": True,  # how fast, not what
            "save_weights": True,  # what is kept, not what is learned
            "unfreeze": not self.finetuning,
            "momentum": self.optimizer != "SGD",
            "weight_decay": self.optimizer == "Adam",
            "data_dir": self.dataset != "folder",
            "resize": self.has_arrays,
            "on_bad_image": self.has_arrays,
            "weights_file": not self.pretrained,
        }
        return frozenset(name for name, is_idle in idle.items() if is_idle)


FIELDS: dict[str, Field] = {spec.name: spec for spec in dataclasses.fields(RunConfig)}

# What other libraries call these hyperparameters. Error messages suggest the name of this package.
SYNONYMS = {
    "arch": "model_name",
    "architecture": "model_name",
    "backbone": "model_name",
    "model": "model_name",
    "bs": "batch_size",
    "train_batch_size": "batch_size",
    "max_epochs": "epochs",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "opt": "optimizer",
    "optim": "optimizer",
    "learning_rate": "lr",
    "base_lr": "lr",
    "wd": "weight_decay",
    "sched": "scheduler",
    "lr_scheduler": "scheduler",
    "img_size": "image_size",
    "imgsz": "image_size",
    "input_size": "image_size",
    "resolution": "image_size",
    "size": "image_size",
    "augmentation": "augment",
    "amp": "precision",
    "dtype": "precision",
    "mixed_precision": "precision",
    "torchcompile": "compile",
    "random_seed": "seed",
    "random_state": "seed",
    "data": "data_dir",
    "data_path": "data_dir",
    "root": "data_dir",
    "val_split": "val_fraction",
    "validation_split": "val_fraction",
    "checkpoint_path": "weights_file",
    "weights": "weights_file",
    "freeze": "unfreeze",
}


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
