"""What trains and evaluates a model epoch by epoch: its parts, and how they are set up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from wandb_tl.config import RunConfig
from wandb_tl.progress import tqdm
from wandb_tl.training import devices, distributed, freezing, frozen_part, mixing, probing
from wandb_tl.training.accumulation import Forward, TrainingStep
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.cuda_graphs import GraphedStep, Step
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.devices import Autocast
from wandb_tl.training.evaluate import Evaluation, evaluate
from wandb_tl.training.inputs import Inputs
from wandb_tl.training.kept_weights import BestEpoch, MovingAverage
from wandb_tl.training.memory import KEPT_BYTES, Parts, keep_freed_memory
from wandb_tl.training.objective import Objective, draw_order
from wandb_tl.training.optimizers import make_optimizer, make_schedule
from wandb_tl.training.weight_update import WeightUpdate

# Steps of a run from which a CUDA graph repays its capture. On an H100 it takes 0.05 s, and saves 2 ms per
# step of a classifier and 6 ms of a ResNet-50's last stage.
STEPS_TO_GRAPH = 50
# Values of `augment` that are computed on the GPU alone. A graph would repeat random numbers of the CPU.
DRAWN_ON_GPU = ("none", "flip", "flip_crop")


@dataclass(frozen=True)
class Trainer:
    """What the loop works with.

    head: the classifier. forward: the trainable part for evaluation. step: updates the weights with a batch
    of training images. evaluation: the parts in which evaluation fits the memory. average: of the weights, if
    the recipe has one. best: the weights of the best epoch, if the recipe keeps them.
    """

    config: RunConfig
    trainable: nn.Module
    head: tuple[nn.Module, ...]
    inputs: dict[str, Inputs]
    classes: int
    device: torch.device
    autocast: Autocast
    forward: Forward
    step: Step
    evaluation: Parts
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler
    average: MovingAverage | None
    best: BestEpoch | None

    @property
    def stateful(self) -> dict[str, Any]:
        """What a checkpoint has, by name."""
        parts = {"trainable": self.trainable, "optimizer": self.optimizer, "schedule": self.schedule}
        optional = {"scaler": self.scaler, "average": self.average, "best": self.best}
        return parts | {name: part for name, part in optional.items() if part is not None}

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train for one epoch; returns its row of metrics."""
        if self.config.is_probe:
            classifier = probing.linear_classifier(self.config, self.trainable)
            return {"epoch": epoch} | probing.fit(self.config, classifier, self.inputs)
        config, inputs = self.config, self.inputs["train"]
        self._open_stages(epoch)
        freezing.train_mode(self.trainable, config.norm_in_effect)
        # Seeded by the number of the epoch, so that a resumed run draws what an uninterrupted one draws.
        torch.manual_seed(config.seed * 10_000 + epoch)
        order = draw_order(config, inputs.labels, self.classes)
        distributed.draw_own_numbers()
        loss_sum, hits = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        lr = math.nan
        batches = split_batches(order, config.batch_size)
        for batch in tqdm(batches, f"epoch {epoch}/{config.epochs}", leave=False):
            loss, right = self.step(batch)
            loss_sum += loss
            hits += right
            lr = self._after_update()
        return {
            "epoch": epoch,
            "train/loss": distributed.total(loss_sum).item() / len(order),
            "train/accuracy": distributed.total(hits).item() / len(order),
            "train/lr": lr,
        }

    def _after_update(self) -> float:
        """What follows an update of the weights; returns its learning rate, that of the classifier."""
        if self.average is not None:
            self.average.update()
        lr = max(map(float, self.schedule.get_last_lr()))
        self.schedule.step()
        return lr

    def _open_stages(self, epoch: int) -> None:
        """Let the classifier train alone in the first epochs, if the recipe says so."""
        if not self.config.finetuning or not self.config.head_epochs:
            return
        head = {id(weight) for classifier in self.head for weight in classifier.parameters()}
        is_open = epoch > self.config.head_epochs
        for group in self.optimizer.param_groups:
            for weight in group["params"]:
                weight.requires_grad_(is_open or id(weight) in head)

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """The weights that are evaluated, for the block: the average, if the recipe has one."""
        with self.average.in_place() if self.average is not None else nullcontext():
            yield

    def keeps_last(self, epoch: int) -> bool:
        """Whether the run keeps the weights that it has after this epoch, its last one."""
        return self.best is None or self.best.epoch == epoch

    def settle(self) -> None:
        """Leave the weights in the model that the run keeps."""
        if self.best is not None:
            self.best.apply()
        elif self.average is not None:
            self.average.apply()

    def logits(self, split: str) -> Tensor:
        """Logits (N, K) in float32 of all images of a split."""
        self.trainable.eval()
        chunk = devices.chunk_size(self.device, self.config.image_size)
        return predict(self.forward, self.inputs[split], chunk, self.autocast, self.evaluation)

    def evaluate(self, split: str) -> Evaluation:
        """Evaluate the model on all images of a split."""
        return evaluate(self.logits(split), self.inputs[split].labels)


def prepare(
    config: RunConfig,
    data: Dataset,
    model: nn.Module,
    device: torch.device,
    precision: str,
    activations: ActivationCache,
) -> Trainer:
    """Compute the frozen part, and set up the training of the rest."""
    if device.type == "cpu" and devices.free_memory(device) > 4 * KEPT_BYTES:
        keep_freed_memory()
    autocast = devices.make_autocast(device, precision)
    if config.classifier_start == "probe" and not config.is_probe:
        probing.start_classifier(config, data, model, device, precision, activations)
    trainable, inputs = frozen_part.freeze_and_cache(config, data, model, device, precision, activations)
    if config.is_probe:
        probing.linear_classifier(config, trainable)
    if config.cutmix and not config.is_probe:
        mixing.check_cutmix(inputs["train"].batch(torch.arange(2, device=device)), config.cutmix)
    freezing.train_mode(trainable, config.norm_in_effect)
    batches = split_batches(torch.arange(len(data.train)), config.batch_size)
    trainable = distributed.synchronize_norms(trainable, min(map(len, batches)))
    forward = compiled(config, trainable)
    optimizer = make_optimizer(config, model)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    objective = Objective(config, inputs["train"].labels, len(data.class_names))
    gradients = TrainingStep(config, trainable, forward, inputs["train"], autocast, scaler, objective)
    update = WeightUpdate(config, gradients, optimizer, scaler)
    step: Step = update
    if can_be_graphed(config, inputs["train"], scaler):
        step = GraphedStep(update, update.whole, trainable, optimizer, config.batch_size)
    return Trainer(
        config=config,
        trainable=trainable,
        head=freezing.classifiers(model),
        inputs=inputs,
        classes=len(data.class_names),
        device=device,
        autocast=autocast,
        forward=forward,
        step=step,
        evaluation=Parts("evaluation"),
        optimizer=optimizer,
        schedule=make_schedule(config, optimizer, len(data.train)),
        scaler=scaler,
        average=MovingAverage(trainable, config.ema) if config.ema and not config.is_probe else None,
        best=BestEpoch(trainable) if config.keep == "best" and not config.is_probe else None,
    )


def compiled(config: RunConfig, trainable: nn.Module) -> Forward:
    """The trainable part's forward, compiled if the recipe says so, but in several processes never.

    On an H100, compiling takes half a minute, and saves 0.2 ms of a step that is a CUDA graph.
    """
    if config.compile != "always" or distributed.count() > 1 or config.is_probe:
        return trainable
    # Earlier runs of this process count towards the number of forms that PyTorch compiles of one function.
    torch.compiler.reset()
    forward: Forward = torch.compile(trainable)
    return forward


def can_be_graphed(config: RunConfig, inputs: Inputs, scaler: torch.amp.GradScaler) -> bool:
    """Whether training steps are captured as a CUDA graph: nothing in them is decided or drawn on the CPU.

    A graph has one set of weights that train.
    """
    steps = config.epochs * (len(inputs) // config.batch_size)
    is_on_gpu = inputs.labels.device.type == "cuda" and inputs.on_device and distributed.count() == 1
    is_drawn_on_gpu = config.augment in DRAWN_ON_GPU and not config.mixup and not config.cutmix
    is_one_graph = not (config.finetuning and config.head_epochs) and not scaler.is_enabled()
    is_wanted = config.compile != "never" and not config.is_probe and steps >= STEPS_TO_GRAPH
    return is_on_gpu and is_drawn_on_gpu and is_one_graph and is_wanted


def split_batches(items: Tensor, size: int) -> list[Tensor]:
    """Split a tensor along its first dimension. A last batch of one joins another: BatchNorm needs two."""
    batches = list(items.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@torch.inference_mode()
def predict(forward: Forward, inputs: Inputs, chunk: int, autocast: Autocast, memory: Parts) -> Tensor:
    """Logits (N, K) of all images of a split, `chunk` images at a time, or as many as the memory takes."""

    def logits(parts: list[Tensor]) -> list[Tensor]:
        return [forward(inputs.batch(index)).float() for index in parts]

    indices = torch.arange(len(inputs), device=inputs.labels.device).split(chunk)
    with autocast():
        return distributed.computed_together(partial(memory.run, logits), indices)
