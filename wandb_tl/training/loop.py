"""The training of one run: freeze, cache, train, evaluate, log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler
from tqdm import tqdm

from wandb_tl.config import RunConfig
from wandb_tl.training import cuda_graphs, devices, freezing, frozen_part, tracking
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.checkpoints import Checkpoint, Progress
from wandb_tl.training.cuda_graphs import Forward
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.devices import Autocast
from wandb_tl.training.evaluate import Evaluation, evaluate
from wandb_tl.training.inputs import Inputs

# Steps of a run from which on a GPU torch.compile repays its half a minute (at half a millisecond per step),
# and a CUDA graph its second. Estimates, not measured on a GPU.
STEPS_TO_COMPILE = 60_000
STEPS_TO_GRAPH = 500
# Epochs between two drawings of the figures.
EPOCHS_PER_DRAWING = 5


# Draws figures of a run, by media key, from its latest test and its rows of metrics, one per epoch.
Draw = Callable[[Evaluation, list[dict[str, float]]], dict[str, Figure]]


@dataclass(frozen=True)
class Result:
    """A finished training: its checkpoint (to be discarded when the run is over), progress and last test."""

    checkpoint: Checkpoint
    progress: Progress
    test: Evaluation


@dataclass(frozen=True)
class Trainer:
    """What the loop works with.

    forward: the trainable part for evaluation. training_forward: the same function for training steps, in the
    fastest form that this run repays.
    """

    config: RunConfig
    trainable: nn.Module
    inputs: dict[str, Inputs]
    device: torch.device
    autocast: Autocast
    forward: Forward
    training_forward: Forward
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Train for one epoch; returns its row of metrics."""
        config, inputs = self.config, self.inputs["train"]
        freezing.train_mode(self.trainable, config.norm_in_effect)
        # Seeded by the number of the epoch, so that a resumed run draws what an uninterrupted one draws.
        torch.manual_seed(config.seed * 10_000 + epoch)
        order = torch.randperm(len(inputs), device=self.device)
        loss_sum, hits = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        lr = math.nan
        batches = split_batches(order, config.batch_size)
        for index in tqdm(batches, f"epoch {epoch}/{config.epochs}", leave=False, disable=None):
            labels = inputs.labels[index]
            with self.autocast():
                logits = self.training_forward(inputs.batch(index, config.augment))
            loss = F.cross_entropy(logits.float(), labels)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            (lr,) = map(float, self.schedule.get_last_lr())
            self.schedule.step()
            loss_sum += loss.detach() * len(index)
            hits += (logits.argmax(1) == labels).sum()
        return {
            "epoch": epoch,
            "train/loss": loss_sum.item() / len(order),
            "train/accuracy": hits.item() / len(order),
            "train/lr": lr,
        }

    def evaluate(self, split: str) -> Evaluation:
        """Evaluate the model on all images of a split."""
        self.trainable.eval()
        inputs = self.inputs[split]
        chunk = devices.chunk_size(self.device, self.config.image_size)
        return evaluate(predict(self.forward, inputs, chunk, self.autocast), inputs.labels)


def train(
    config: RunConfig,
    data: Dataset,
    model: nn.Module,
    device: torch.device,
    run: tracking.Run,
    draw: Draw,
    activations: ActivationCache,
) -> Result:
    """Train the model on the data by the config; log every epoch to the run, and figures every few epochs."""
    meter = Meter(device)
    precision = devices.resolve_precision(config.precision, device)
    trainer = prepare(config, data, model, device, precision, activations)
    checkpoint = make_checkpoint(run, trainer, precision, whole=trainer.trainable is model)
    progress = checkpoint.load()
    print_start(config, data, device, precision, progress)
    for row in progress.rows:
        tracking.log_epoch(run, row)

    test = None
    for epoch in range(len(progress.rows) + 1, config.epochs + 1):
        began = time.perf_counter()
        row = trainer.train_epoch(epoch)
        progress.step_seconds += time.perf_counter() - began
        if data.val is not None:
            row |= trainer.evaluate("val").metrics("val", data.class_names)
        test = trainer.evaluate("test")
        row |= test.metrics("test", data.class_names)
        progress.rows.append(row)
        meter.add_to(progress)
        checkpoint.save(progress)
        # The time and energy of saving count; those of figures and logging do not.
        with meter.paused():
            figures = None
            if epoch % EPOCHS_PER_DRAWING == 0 and epoch < config.epochs:
                figures = draw(test, progress.rows)
            tracking.log_epoch(run, row, figures)
            print_epoch(config, row)

    update_summary(run, config, data, trainer, precision, progress)
    return Result(checkpoint, progress, test or trainer.evaluate("test"))


class Meter:
    """Measures the time and energy of a run, and starts the measurement of its peak memory."""

    def __init__(self, device: torch.device) -> None:
        devices.reset_peak_memory(device)
        self._device = device
        self._began, self._energy = time.perf_counter(), devices.energy_wh(device)

    def add_to(self, progress: Progress) -> None:
        """Add the time and energy since the previous call, or since the start."""
        now, energy = time.perf_counter(), devices.energy_wh(self._device)
        progress.seconds += now - self._began
        progress.energy_wh += energy - self._energy
        self._began, self._energy = now, energy

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time and energy of the block."""
        began, energy = time.perf_counter(), devices.energy_wh(self._device)
        yield
        self._began += time.perf_counter() - began
        self._energy += devices.energy_wh(self._device) - energy


def prepare(
    config: RunConfig,
    data: Dataset,
    model: nn.Module,
    device: torch.device,
    precision: str,
    activations: ActivationCache,
) -> Trainer:
    """Compute the frozen part, and set up the training of the rest."""
    autocast = devices.make_autocast(device, precision)
    trainable, inputs = frozen_part.freeze_and_cache(config, data, model, device, precision, activations)
    forward, training_forward = speed_up(config, trainable, inputs["train"], autocast)
    optimizer = make_optimizer(config, [weight for weight in model.parameters() if weight.requires_grad])
    return Trainer(
        config=config,
        trainable=trainable,
        inputs=inputs,
        device=device,
        autocast=autocast,
        forward=forward,
        training_forward=training_forward,
        optimizer=optimizer,
        schedule=make_schedule(config, optimizer, len(data.train)),
        scaler=torch.amp.GradScaler(device.type, enabled=precision == "fp16"),
    )


def speed_up(
    config: RunConfig, trainable: nn.Module, inputs: Inputs, autocast: Autocast
) -> tuple[Forward, Forward]:
    """The trainable part's forward for evaluation and for training steps, in the form that the run repays."""
    device = inputs.labels.device
    steps = config.epochs * -(-len(inputs) // config.batch_size)
    long = device.type == "cuda" and steps >= STEPS_TO_COMPILE
    if config.compile == "always" or (config.compile == "auto" and long):
        compiled = torch.compile(trainable)
        return compiled, compiled
    if device.type == "cuda" and steps >= STEPS_TO_GRAPH and config.compile == "auto":
        freezing.train_mode(trainable, config.norm_in_effect)
        index = torch.arange(config.batch_size, device=device)
        graphed = cuda_graphs.capture(trainable, inputs.batch(index), inputs.labels[index], autocast)
        if graphed is not None:
            return trainable, cuda_graphs.for_full_batches(graphed, trainable, config.batch_size)
    return trainable, trainable


def make_optimizer(config: RunConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer in its fused form. SGD and AdamW have weight decay; Adam has none."""
    if config.optimizer == "SGD":
        return torch.optim.SGD(
            parameters, config.lr, config.momentum, weight_decay=config.weight_decay, fused=True
        )
    if config.optimizer == "AdamW":
        return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay, fused=True)
    return torch.optim.Adam(parameters, config.lr, fused=True)


def make_schedule(config: RunConfig, optimizer: torch.optim.Optimizer, images: int) -> LRScheduler:
    """The learning rate by step: constant, or a half cosine down to zero over the run."""
    if config.scheduler == "cosine":
        return CosineAnnealingLR(optimizer, config.epochs * -(-images // config.batch_size))
    return ConstantLR(optimizer, factor=1.0)


def make_checkpoint(run: tracking.Run, trainer: Trainer, precision: str, whole: bool) -> Checkpoint:
    """The run's checkpoint. whole: whether the trainable part is the whole model."""
    return Checkpoint(
        (run.entity, run.project, run.id),
        # The state of a cut model has other names than that of a whole one.
        trainer.config.as_dict() | {"precision": precision, "cut": not whole},
        trainable=trainer.trainable,
        optimizer=trainer.optimizer,
        schedule=trainer.schedule,
        scaler=trainer.scaler,
    )


def split_batches(items: Tensor, size: int) -> list[Tensor]:
    """Split a tensor along its first dimension. A last batch of one joins another: BatchNorm needs two."""
    batches = list(items.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@torch.inference_mode()
def predict(forward: Forward, inputs: Inputs, chunk: int, autocast: Autocast) -> Tensor:
    """Logits (N, K) of all images of a split, `chunk` images at a time."""
    indices = torch.arange(len(inputs), device=inputs.labels.device).split(chunk)
    with autocast():
        return torch.cat([forward(inputs.batch(index)).float() for index in indices])


def print_start(
    config: RunConfig, data: Dataset, device: torch.device, precision: str, progress: Progress
) -> None:
    """Print what a run works on, and where it resumes."""
    sizes = f"{len(data.train):,} training and {len(data.test):,} test images at {config.image_size} px"
    print(f"{config.run_name}: {sizes}, {precision} on {devices.device_name(device)}", flush=True)
    if progress.rows:
        print(f"resuming after epoch {len(progress.rows)}", flush=True)


def print_epoch(config: RunConfig, row: dict[str, float]) -> None:
    """Print the metrics that a person follows."""
    metrics = ("train/loss", "train/accuracy", "test/accuracy")
    numbers = ", ".join(f"{name} {row[name]:.4f}" for name in metrics)
    print(f"epoch {row['epoch']}/{config.epochs}: {numbers}", flush=True)


def update_summary(
    run: tracking.Run, config: RunConfig, data: Dataset, trainer: Trainer, precision: str, progress: Progress
) -> None:
    """Set what the run computed on, and how fast, in its summary."""
    run.summary.update(
        {
            "images_per_second": config.epochs * len(data.train) / progress.step_seconds,
            "peak_memory_mb": devices.peak_memory_mb(trainer.device),
            "train_images": len(data.train),
            "test_images": len(data.test),
            "majority_share": 100 * data.majority[1],
            "test_is_val": data.test_is_val,
            "skipped_images": data.skipped,
            "device": devices.device_name(trainer.device),
            "precision_in_effect": precision,
            "norm_in_effect": config.norm_in_effect,
            "cached": trainer.inputs["train"].cached,
        }
    )
    if not math.isnan(progress.energy_wh):
        run.summary["energy_wh"] = progress.energy_wh
