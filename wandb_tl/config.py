"""RunConfig: every hyperparameter of a run, declared once.

The flags of `python -m wandb_tl.train`, the keys of `run.config`, the parameters that a sweep file may name
and the table in the README are all generated from the fields below.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from wandb_tl.errors import InputError, nearest


def option(
    default: Any,
    why: str,
    *,
    choices: tuple[str, ...] = (),
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
) -> Any:
    """Declare a hyperparameter: its default (which fixes its type), its allowed values, and why it exists."""
    limits = {"choices": choices, "above": above, "least": least, "below": below}
    return field(default=default, metadata={"why": why, **limits})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The hyperparameters of one run. Raises InputError for a value that a field does not take."""

    model_name: str = option("resnet50.tv_in1k", "timm model; the tag behind the dot names its weights")
    pretrained: bool = option(True, "start from ImageNet weights instead of random ones")
    finetuning: bool = option(False, "also train what `unfreeze` opens, not only the new classifier")
    unfreeze: str = option("last_stage", "what finetuning opens: last_stage, all, or a number of stages")
    batch_size: int = option(64, "images per optimizer step; BatchNorm needs two", least=2)
    epochs: int = option(10, "passes over the training images", least=1)
    optimizer: str = option("Adam", "optimizer of the trainable part", choices=("Adam", "SGD", "AdamW"))
    lr: float = option(0.001, "learning rate", above=0)
    momentum: float = option(0.9, "momentum of SGD", least=0, below=1)
    weight_decay: float = option(0.1, "weight decay of SGD and AdamW; Adam has none", least=0)
    scheduler: str = option("constant", "learning rate over the run", choices=("constant", "cosine"))
    norm: str = option(
        "auto",
        "BatchNorm statistics of the frozen part: the weights' own (source), estimated once on the training "
        "images (calibrated), or each batch's (batch, as naive code does); auto: source with pretrained "
        "weights, calibrated with random ones",
        choices=("auto", "source", "calibrated", "batch"),
    )
    image_size: int = option(224, "height and width of the model's input in pixels", least=8)
    augment: str = option("none", "random changes to training images", choices=("none", "flip", "flip_crop"))
    precision: str = option(
        "auto",
        "arithmetic of the forward pass: auto takes bf16 where the device computes in it, else fp16 on a "
        "GPU, else fp32",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    compile: str = option(
        "auto",
        "torch.compile the trained part; auto: on a GPU, where the run has steps enough to repay it",
        choices=("auto", "always", "never"),
    )
    seed: int = option(0, "random seed of weights, order of images and augmentation", least=0, below=2**31)
    dataset: str = option(
        "fashion_mnist",
        "fashion_mnist, or folder: data_dir/train/CLASS/* and data_dir/test/CLASS/*",
        choices=("fashion_mnist", "folder"),
    )
    data_dir: str = option("", "where the images are; empty: the cache folder")
    train_limit: int = option(0, "use only so many training images, the same for every seed; 0: all", least=0)
    test_limit: int = option(0, "use only so many test images; 0: all", least=0)
    val_fraction: float = option(
        0.0, "share of the training images held out as validation images", least=0, below=1
    )
    weights_file: str = option("", "pretrained weights from this .safetensors or .pth file, not the timm hub")

    def __post_init__(self) -> None:
        for name, spec in FIELDS.items():
            object.__setattr__(self, name, _coerce(spec, getattr(self, name)))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> RunConfig:
        """Build from names and values; InputError for an unknown name."""
        check_names(values)
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
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
        """How many stages train besides the classifier; None for the whole network."""
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
            "data_dir": self.dataset == "fashion_mnist",  # the same images from wherever: sha256 is checked
            "weights_file": not self.pretrained,
        }
        return frozenset(name for name, is_idle in idle.items() if is_idle)


FIELDS = {spec.name: spec for spec in dataclasses.fields(RunConfig)}

# Other words for the hyperparameters, as other libraries have them. Suggestions name ours.
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
    """Raise InputError for a name that is no hyperparameter."""
    for name in names:
        if name not in FIELDS:
            close = nearest(name, FIELDS, SYNONYMS)
            hint = f"; did you mean {close}?" if close else ""
            raise InputError(f"{name}: no such hyperparameter{hint}")


def check_value(name: str, value: Any) -> Any:
    """The value of a hyperparameter in its own type; InputError where the field does not take it."""
    check_names([name])
    return _coerce(FIELDS[name], value)


def allowed(spec: dataclasses.Field) -> str:
    """What a field takes, in words: "a number > 0"."""
    limits = spec.metadata
    if limits["choices"]:
        return "one of " + ", ".join(limits["choices"])
    if spec.name == "unfreeze":
        return "last_stage, all or a number of stages"
    kind = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}[
        type(spec.default)
    ]
    bounds = [
        f"{sign} {limits[bound]}"
        for bound, sign in (("above", ">"), ("least", ">="), ("below", "<"))
        if limits[bound] is not None
    ]
    return " and ".join([f"{kind} {bounds[0]}", *bounds[1:]]) if bounds else kind


def markdown_table() -> str:
    """The hyperparameters as the table of the README."""
    rows = ["| name | default | takes | why |", "|:--|:--|:--|:--|"]
    for name, spec in FIELDS.items():
        default = f"`{spec.default}`" if spec.default != "" else ""
        rows.append(f"| `{name}` | {default} | {allowed(spec)} | {spec.metadata['why']} |")
    return "\n".join(rows)


def _coerce(spec: dataclasses.Field, value: Any) -> Any:
    def refuse() -> NoReturn:
        hint = ""
        if isinstance(value, str) and (close := nearest(value, spec.metadata["choices"])):
            hint = f"; did you mean {close}?"
        raise InputError(f"{spec.name}: got {value!r}, takes {allowed(spec)}{hint}")

    kind, limits = type(spec.default), spec.metadata
    if kind is bool:
        result = value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())
        if result is None:
            refuse()
        return result
    if isinstance(value, bool) or value is None:
        refuse()
    try:
        # 32.0 is a whole number too: q_uniform draws it so, and an agent passes it on as text.
        result = float(value) if kind is int else kind(value)
    except (TypeError, ValueError, OverflowError):
        refuse()
    if kind is int:
        if not result.is_integer():
            refuse()
        result = int(result)
    if kind is str:
        if limits["choices"] and result not in limits["choices"]:
            refuse()
        stages = result.isdecimal() and int(result) >= 1
        if spec.name == "unfreeze" and not stages and result not in ("last_stage", "all"):
            refuse()
        return result
    within = (
        math.isfinite(result)
        and (limits["above"] is None or result > limits["above"])
        and (limits["least"] is None or result >= limits["least"])
        and (limits["below"] is None or result < limits["below"])
    )
    return result if within else refuse()
