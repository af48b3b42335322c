"""The training of one run: freeze, cache, train, evaluate, log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from wandb_tl.config import RunConfig
from wandb_tl.progress import tqdm
from wandb_tl.training import (
    cuda_graphs,
    devices,
    distributed,
    freezing,
    frozen_part,
    logged_images,
    temperature,
    tracking,
)
from wandb_tl.training.accumulation import TrainingStep
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.checkpoints import Checkpoint, Copy, Progress
from wandb_tl.training.cuda_graphs import Forward
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.devices import Autocast
from wandb_tl.training.evaluate import Evaluation, evaluate
from wandb_tl.training.inputs import Inputs
from wandb_tl.training.memory import Parts
from wandb_tl.training.meter import Meter
from wandb_tl.training.optimizers import make_optimizer, make_schedule

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
    """A finished training: its checkpoint (to be discarded when the run is over), progress and last test.

    val: the last evaluation on the validation images, None if there are none. temperature: see
    training/temperature.py, chosen on them.
    """

    checkpoint: Checkpoint
    progress: Progress
    test: Evaluation
    val: Evaluation | None
    temperature: float


@dataclass(frozen=True)
class Trainer:
    """What the loop works with.

    forward: the trainable part for evaluation. step: forward and backward pass of a batch of training images.
    evaluation: the parts in which evaluation fits the memory.
    """

    config: RunConfig
    trainable: nn.Module
    inputs: dict[str, Inputs]
    device: torch.device
    autocast: Autocast
    forward: Forward
    step: TrainingStep
    evaluation: Parts
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
        distributed.draw_own_numbers()
        loss_sum, hits = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        lr = math.nan
        batches = split_batches(order, config.batch_size)
        for batch in tqdm(batches, f"epoch {epoch}/{config.epochs}", leave=False):
            if len(index := distributed.share(batch)):
                loss, logits = self.step(index, config.augment)
                loss_sum += loss * len(index)
                hits += (logits.argmax(1) == inputs.labels[index]).sum()
            distributed.sum_gradients(self.optimizer, len(index) / len(batch))
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            (lr,) = map(float, self.schedule.get_last_lr())
            self.schedule.step()
        return {
            "epoch": epoch,
            "train/loss": distributed.total(loss_sum).item() / len(order),
            "train/accuracy": distributed.total(hits).item() / len(order),
            "train/lr": lr,
        }

    def logits(self, split: str) -> Tensor:
        """Logits (N, K) in float32 of all images of a split."""
        self.trainable.eval()
        chunk = devices.chunk_size(self.device, self.config.image_size)
        return predict(self.forward, self.inputs[split], chunk, self.autocast, self.evaluation)

    def evaluate(self, split: str) -> Evaluation:
        """Evaluate the model on all images of a split."""
        return evaluate(self.logits(split), self.inputs[split].labels)


def train(
    config: RunConfig,
    data: Dataset,
    model: nn.Module,
    device: torch.device,
    run: tracking.Run,
    draw: Draw,
    activations: ActivationCache,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    copy: Copy | None = None,
) -> Result:
    """Train the model on the data by the config; log every epoch to the run, and figures every few epochs.

    copy: of the checkpoint. on_epoch: called with the metrics of each epoch, after they are logged.
    """
    meter = Meter(device)
    precision = devices.resolve_precision(config.precision, device)
    trainer = prepare(config, data, model, device, precision, activations)
    checkpoint = make_checkpoint(run, trainer, precision, trainer.trainable is model, copy)
    progress = distributed.of_first(checkpoint.load())
    distributed.same_state([trainer.trainable, trainer.optimizer, trainer.schedule, trainer.scaler])
    # A run that has only to log its results adds nothing: its training time does not grow either.
    if len(progress.rows) < config.epochs:
        progress.preparation_seconds += meter.seconds
        progress.frozen_seconds += sum(inputs.seconds for inputs in trainer.inputs.values())
    print_start(config, data, model, device, precision, progress)
    test = None
    for row in progress.rows:
        images = None
        has_logged = distributed.of_first(tracking.has_logged(run, row["epoch"]))
        if is_drawn(config, row) and not has_logged:
            # The run was killed before the server had the figures of this epoch.
            folder = checkpoint.images(row["epoch"])
            if row is progress.rows[-1]:
                test = trainer.evaluate("test")
                images = logged_images.of_figures(draw(test, progress.rows), folder)
            else:
                images = logged_images.stored(folder)
        tracking.log_epoch(run, row, images)

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
        if distributed.rank() == 0:
            checkpoint.save(progress)
        # The time and energy of saving count; those of figures and logging do not.
        with meter.paused():
            images = None
            if is_drawn(config, row):
                figures = draw(test, progress.rows)
                images = logged_images.of_figures(figures, checkpoint.images(row["epoch"]))
            tracking.log_epoch(run, row, images)
            print_epoch(config, row)
            if on_epoch is not None:
                on_epoch(row)

    update_summary(run, config, data, trainer, precision, progress)
    val, divisor = None, 1.0
    if data.val is not None:
        logits, labels = trainer.logits("val"), trainer.inputs["val"].labels
        val, divisor = evaluate(logits, labels), temperature.fit(logits, labels)
        run.summary["temperature"] = divisor
    return Result(checkpoint, progress, test or trainer.evaluate("test"), val, divisor)


def is_drawn(config: RunConfig, row: dict[str, float]) -> bool:
    """Whether figures are logged with the metrics of an epoch. Those of the last have a row of their own."""
    return row["epoch"] % EPOCHS_PER_DRAWING == 0 and row["epoch"] < config.epochs


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
    freezing.train_mode(trainable, config.norm_in_effect)
    batches = split_batches(torch.arange(len(data.train)), config.batch_size)
    trainable = distributed.synchronize_norms(trainable, min(map(len, batches)))
    forward, training_forward = speed_up(config, trainable, inputs["train"], autocast)
    optimizer = make_optimizer(config, [weight for weight in model.parameters() if weight.requires_grad])
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    return Trainer(
        config=config,
        trainable=trainable,
        inputs=inputs,
        device=device,
        autocast=autocast,
        forward=forward,
        step=TrainingStep(trainable, training_forward, inputs["train"], autocast, scaler),
        evaluation=Parts("evaluation"),
        optimizer=optimizer,
        schedule=make_schedule(config, optimizer, len(data.train)),
        scaler=scaler,
    )


def speed_up(
    config: RunConfig, trainable: nn.Module, inputs: Inputs, autocast: Autocast
) -> tuple[Forward, Forward]:
    """The trainable part's forward for evaluation and for training steps, in the form that the run repays.

    In several processes, where the other forms have not been tried, it is the plain one.
    """
    device = inputs.labels.device
    steps = config.epochs * -(-len(inputs) // config.batch_size)
    if distributed.count() > 1:
        return trainable, trainable
    long = device.type == "cuda" and steps >= STEPS_TO_COMPILE
    if config.compile == "always" or (config.compile == "auto" and long):
        compiled = torch.compile(trainable)
        return compiled, compiled
    if device.type == "cuda" and steps >= STEPS_TO_GRAPH and config.compile == "auto":
        index = torch.arange(config.batch_size, device=device)
        graphed = None
        # A batch that does not fit has no graph: its parts are computed without one.
        with suppress(torch.OutOfMemoryError):
            graphed = cuda_graphs.capture(trainable, inputs.batch(index), inputs.labels[index], autocast)
        if graphed is not None:
            return trainable, cuda_graphs.for_full_batches(graphed, trainable, config.batch_size)
    return trainable, trainable


def make_checkpoint(
    run: tracking.Run, trainer: Trainer, precision: str, whole: bool, copy: Copy | None
) -> Checkpoint:
    """The run's checkpoint. whole: whether the trainable part is the whole model."""
    return Checkpoint(
        (run.entity, run.project, run.id),
        # The state of a cut model has other names than that of a whole one.
        trainer.config.as_dict() | {"precision": precision, "cut": not whole},
        copy,
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
def predict(forward: Forward, inputs: Inputs, chunk: int, autocast: Autocast, memory: Parts) -> Tensor:
    """Logits (N, K) of all images of a split, `chunk` images at a time, or as many as the memory takes."""

    def logits(parts: list[Tensor]) -> list[Tensor]:
        return [forward(inputs.batch(index)).float() for index in parts]

    indices = torch.arange(len(inputs), device=inputs.labels.device).split(chunk)
    with autocast():
        return distributed.computed_together(partial(memory.run, logits), indices)


def print_start(
    config: RunConfig,
    data: Dataset,
    model: nn.Module,
    device: torch.device,
    precision: str,
    progress: Progress,
) -> None:
    """Print what a run works on, what of the model it trains, and where it resumes."""
    sizes = f"{len(data.train):,} training and {len(data.test):,} test images at {config.image_size} px"
    print(f"{config.run_name}: {sizes}, {precision} on {devices.device_name(device)}", flush=True)
    weights = list(model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    print(f"trains {trained:,} of {sum(weight.numel() for weight in weights):,} parameters", flush=True)
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
            "preparation_seconds": progress.preparation_seconds,
            "frozen_seconds": progress.frozen_seconds,
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
    if data.val is not None:
        run.summary["val_images"] = len(data.val)
    if not math.isnan(progress.energy_wh):
        run.summary["energy_wh"] = progress.energy_wh
