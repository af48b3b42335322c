"""RunConfig: every hyperparameter of a run, declared once.

The flags of `python -m wandb_tl.train`, the keys of `run.config`, the parameters that a sweep file may name
and the table in docs/recipes.md are all generated from the fields below.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wandb_tl.errors import InputError, nearest
from wandb_tl.hyperparameters import Field, Value, allowed, coerce, option

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

# The W&B project of a run or a sweep that names none.
DEFAULT_PROJECT = "wandb_tl"
# The W&B job type of the runs of inspect_data, which train nothing.
INSPECTION = "inspect_data"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The hyperparameters of one run. Raises InputError for a value that a field does not allow."""

    model_name: str = option("resnet50.tv_in1k", "timm model; the part after the dot names its weights")
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
        pattern=rf"folder|{'|'.join(NAMED_DATASETS)}|hf:.+",
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
        "load pretrained weights from this .safetensors or .pth file instead of the timm hub",
        is_path=True,
    )

    def __post_init__(self) -> None:
        for name, spec in FIELDS.items():
            object.__setattr__(self, name, coerce(spec, getattr(self, name)))
        if self.data_dir and self.dataset != "folder":
            raise InputError(
                f"data_dir: {self.dataset} does not read it; dataset=folder trains on its pictures"
            )
        if not self.data_dir and self.dataset == "folder":
            raise InputError("data_dir: dataset=folder needs the folder of your pictures, as data_dir=PATH")
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
        """The name that W&B shows for the run."""
        return (
            f"{self.model_name}-pretrained{self.pretrained}-finetuning{self.finetuning}"
            f"-optim{self.optimizer}-seed{self.seed}"
        )

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
    def without_effect(self) -> frozenset[str]:
        """Names of the fields whose value changes nothing about what this run learns or how well."""
        idle = {
            "compile": True,  # how fast, not what
            "unfreeze": not self.finetuning,
            "momentum": self.optimizer != "SGD",
            "weight_decay": self.optimizer == "Adam",
            "data_dir": self.dataset != "folder",
            "resize": self.dataset in ARRAY_DATASETS,
            "on_bad_image": self.dataset in ARRAY_DATASETS,
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
