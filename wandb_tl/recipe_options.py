"""RecipeOptions: the hyperparameters of a model and its training, without those of the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wandb_tl.errors import InputError
from wandb_tl.hyperparameters import option
from wandb_tl.model_kwargs import parse_model_kwargs


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """What a run trains, and how."""

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
    optimizer: str = option(
        "Adam",
        "optimizer of the trainable layers; probe fits the classifier alone, exactly and without steps: its "
        "penalty is chosen on validation images",
        choices=("Adam", "SGD", "AdamW", "probe"),
    )
    lr: float = option(0.001, "learning rate", above=0)
    momentum: float = option(0.9, "momentum of SGD; Adam and AdamW ignore it", least=0, below=1)
    weight_decay: float = option(0.1, "weight decay of SGD and AdamW; Adam ignores it", least=0)
    scheduler: str = option("constant", "learning rate schedule", choices=("constant", "cosine"))
    warmup_epochs: float = option(
        0.0, "epochs in which the learning rate rises from zero, before the schedule begins", least=0
    )
    lr_decay: float = option(
        1.0,
        "learning rate of a layer as a fraction of that of the layer after it, with layers as timm counts "
        "them; 1 is the same for all, and 0.75 is usual for transformers",
        above=0,
        most=1,
    )
    head_epochs: int = option(
        0,
        "first epochs, in which the classifier trains alone; then the stages that finetuning opens train too",
        least=0,
    )
    classifier_start: str = option(
        "random",
        "weights that the classifier starts from: random ones, or those that optimizer=probe finds",
        choices=("random", "probe"),
    )
    label_smoothing: float = option(
        0.0, "share of each label that the loss spreads over all classes", least=0, below=1
    )
    class_balance: str = option(
        "none",
        "what is done for rare classes: loss weights their images up, sampling draws them more often",
        choices=("none", "loss", "sampling"),
    )
    mixup: float = option(
        0.0, "strength of mixup, in which pairs of training inputs and their labels are blended", least=0
    )
    cutmix: float = option(
        0.0, "strength of CutMix, in which a patch of an input is replaced by that of another", least=0
    )
    clip_grad: float = option(
        0.0, "largest norm of the gradient of all trainable layers together; 0 means no limit", least=0
    )
    ema: float = option(
        0.0,
        "decay of the moving average of the weights, which is what is evaluated and kept; 0 means none",
        least=0,
        below=1,
    )
    keep: str = option(
        "last",
        "epoch whose weights are tested and kept: the last one, or the best on validation images",
        choices=("last", "best"),
    )
    patience: int = option(
        0,
        "epochs without a better validation accuracy after which training ends; 0 means never",
        least=0,
    )
    norm: str = option(
        "auto",
        "BatchNorm statistics of the frozen layers: from the weights (source), estimated once on the "
        "training images (calibrated), or of each batch, as in a model left in train mode (batch); auto is "
        "source with pretrained weights and calibrated with random weights",
        choices=("auto", "source", "calibrated", "batch"),
    )
    image_size: int = option(224, "height and width of the model's input in pixels", least=8)
    augment: str = option(
        "none",
        "random augmentation of the training images: flip, flip_crop with shifts, flip_resized_crop with "
        "parts of a picture at other sizes, and trivial or randaugment with changes of colour and shape",
        choices=("none", "flip", "flip_crop", "flip_resized_crop", "trivial", "randaugment"),
    )
    precision: str = option(
        "auto",
        "number format of the forward pass; auto is bf16 if the device computes in it, otherwise fp16 on a "
        "GPU and fp32 on a CPU",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    compile: str = option(
        "auto",
        "always uses torch.compile for the trainable layers, which takes half a minute; auto does not; on a "
        "GPU, both launch a training step as one CUDA graph where they can, and never does not",
        choices=("auto", "always", "never"),
    )
    seed: int = option(
        0, "random seed of the weights, the order of images and augmentation", least=0, below=2**31
    )

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
    def is_probe(self) -> bool:
        """Whether the classifier is fitted at once instead of in epochs of steps."""
        return self.optimizer == "probe"

    @property
    def epochs_in_effect(self) -> int:
        """The most epochs that a run logs: a probe has one."""
        return 1 if self.is_probe else self.epochs

    @property
    def needs_validation(self) -> str:
        """The hyperparameter that needs validation images, as NAME=VALUE; "" if none does."""
        if self.is_probe:
            return ""
        if self.keep == "best":
            return "keep=best"
        return f"patience={self.patience}" if self.patience else ""

    def check_recipe(self) -> None:
        """InputError for hyperparameters that contradict each other."""
        if self.is_probe and self.finetuning:
            raise InputError("optimizer: probe fits the classifier of a frozen network; use finetuning=False")
        if not self.is_probe and self.warmup_epochs >= self.epochs and self.warmup_epochs:
            raise InputError(
                f"warmup_epochs: got {self.warmup_epochs}, takes less than epochs ({self.epochs})"
            )
        if self.finetuning and self.head_epochs >= self.epochs:
            raise InputError(f"head_epochs: got {self.head_epochs}, takes less than epochs ({self.epochs})")

    def idle_options(self) -> dict[str, bool]:
        """For each hyperparameter that can be without effect, whether it is."""
        steps = ["lr", "batch_size", "epochs", "scheduler", "warmup_epochs", "label_smoothing", "mixup"]
        steps += [
            "class_balance",
            "augment",
            "cutmix",
            "clip_grad",
            "ema",
            "keep",
            "patience",
            "classifier_start",
        ]
        return dict.fromkeys(steps, self.is_probe) | {
            "unfreeze": not self.finetuning,
            "lr_decay": not self.finetuning,
            "head_epochs": not self.finetuning,
            "momentum": self.optimizer != "SGD",
            "weight_decay": self.optimizer in ("Adam", "probe"),
        }
