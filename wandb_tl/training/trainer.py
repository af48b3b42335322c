"""What trains and evaluates a model epoch by epoch: its parts, and how they are set up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from wandb_tl.config import RunConfig
from wandb_tl.progress import tqdm
from wandb_tl.training import cuda_graphs, devices, distributed, freezing, frozen_part, mixing, probing
from wandb_tl.training.accumulation import TrainingStep
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.cuda_graphs import Forward
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.devices import Autocast
from wandb_tl.training.evaluate import Evaluation, evaluate
from wandb_tl.training.inputs import Inputs
from wandb_tl.training.kept_weights import BestEpoch, MovingAverage
from wandb_tl.training.memory import KEPT_BYTES, Parts, keep_freed_memory
from wandb_tl.training.objective import Objective, draw_order
from wandb_tl.training.optimizers import make_optimizer, make_schedule

# Steps of a run from which on a GPU torch.compile repays its half a minute (at half a millisecond per step),
# and a CUDA graph its second. Estimates, not measured on a GPU.
STEPS_TO_COMPILE = 60_000
STEPS_TO_GRAPH = 500


@dataclass(frozen=True)
class Trainer:
    """What the loop works with.

    head: the classifier. forward: the trainable part for evaluation. step: forward and backward pass of a
    batch of training images. evaluation: the parts in which evaluation fits the memory. average: of the
    weights, if the recipe has one. best: the weights of the best epoch, if the recipe keeps them.
    """

    config: RunConfig
    trainable: nn.Module
    head: tuple[nn.Module, ...]
    inputs: dict[str, Inputs]
    classes: int
    device: torch.device
    autocast: Autocast
    forward: Forward
    step: TrainingStep
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
            if len(index := distributed.share(batch)):
                loss, right = self.step(index, config.augment)
                loss_sum += loss * len(index)
                hits += right
            lr = self._update_weights(len(index) / len(batch))
        return {
            "epoch": epoch,
            "train/loss": distributed.total(loss_sum).item() / len(order),
            "train/accuracy": distributed.total(hits).item() / len(order),
            "train/lr": lr,
        }

    def _update_weights(self, share: float) -> float:
        """One optimizer step; returns its learning rate, that of the classifier."""
        distributed.sum_gradients(self.optimizer, share)
        if self.config.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.trainable.parameters(), self.config.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
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
    forward, training_forward = speed_up(config, trainable, inputs["train"], autocast)
    optimizer = make_optimizer(config, model)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    objective = Objective(config, inputs["train"].labels, len(data.class_names))
    step = TrainingStep(config, trainable, training_forward, inputs["train"], autocast, scaler, objective)
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


def speed_up(
    config: RunConfig, trainable: nn.Module, inputs: Inputs, autocast: Autocast
) -> tuple[Forward, Forward]:
    """The trainable part's forward for evaluation and for training steps, in the form that the run repays.

    In several processes, where the other forms have not been tried, it is the plain one. A CUDA graph has one
    set of weights that train.
    """
    device = inputs.labels.device
    steps = config.epochs * -(-len(inputs) // config.batch_size)
    if distributed.count() > 1 or config.is_probe:
        return trainable, trainable
    long = device.type == "cuda" and steps >= STEPS_TO_COMPILE
    if config.compile == "always" or (config.compile == "auto" and long):
        compiled = torch.compile(trainable)
        return compiled, compiled
    is_one_graph = not (config.finetuning and config.head_epochs)
    if device.type == "cuda" and steps >= STEPS_TO_GRAPH and config.compile == "auto" and is_one_graph:
        index = torch.arange(config.batch_size, device=device)
        graphed = None
        # A batch that does not fit has no graph: its parts are computed without one.
        with suppress(torch.OutOfMemoryError):
            graphed = cuda_graphs.capture(trainable, inputs.batch(index), inputs.labels[index], autocast)
        if graphed is not None:
            return trainable, cuda_graphs.for_full_batches(graphed, trainable, config.batch_size)
    return trainable, trainable


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
