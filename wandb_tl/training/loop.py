"""The training of one run: freeze, cache, train, evaluate, log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.training import devices, distributed, kept_weights, logged_images, temperature, tracking
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.checkpoints import Checkpoint, Copy, Progress
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.evaluate import Evaluation, evaluate
from wandb_tl.training.meter import Meter
from wandb_tl.training.trainer import Trainer, prepare

# Epochs between two drawings of the figures, which may take longer than an epoch; and drawings of a long run.
EPOCHS_PER_DRAWING, DRAWINGS = 5, 4


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
    distributed.same_state(list(trainer.stateful.values()))
    # A run that has only to log its results adds nothing: its training time does not grow either.
    if not kept_weights.is_over(config, progress.rows):
        progress.preparation_seconds += meter.seconds
        progress.frozen_seconds += sum(inputs.seconds for inputs in trainer.inputs.values())
    print_start(config, data, model, device, precision, progress)
    log_again(run, trainer, checkpoint, progress, draw)

    test = None
    while not kept_weights.is_over(config, progress.rows):
        row, test = train_and_test(trainer, data, len(progress.rows) + 1, progress)
        meter.add_to(progress)
        if distributed.rank() == 0:
            # What validation images decide must not be decided anew, on a GPU with other numbers.
            decides = config.patience > 0 or config.keep == "best"
            checkpoint.save_if_due(progress, decides or kept_weights.is_over(config, progress.rows))
        # The time and energy of saving count; those of figures and logging do not.
        with meter.paused(), trainer.evaluated():
            images = None
            if is_drawn(config, progress.rows):
                figures = draw(test, progress.rows)
                images = logged_images.of_figures(figures, checkpoint.images(row["epoch"]))
            tracking.log_epoch(run, row, images)
            print_epoch(config, row)
            if on_epoch is not None:
                on_epoch(row)

    trainer.settle()
    trainer.optimizer.zero_grad(set_to_none=True)
    print_end(config, trainer, progress)
    update_summary(run, config, data, trainer, precision, progress)
    val, divisor = None, 1.0
    if data.val is not None:
        logits, labels = trainer.logits("val"), trainer.inputs["val"].labels
        val, divisor = evaluate(logits, labels), temperature.fit(logits, labels)
        run.summary["temperature"] = divisor
    if test is None or not trainer.keeps_last(len(progress.rows)):
        test = trainer.evaluate("test")
    return Result(checkpoint, progress, test, val, divisor)


def train_and_test(
    trainer: Trainer, data: Dataset, epoch: int, progress: Progress
) -> tuple[dict[str, float], Evaluation]:
    """Train for one epoch and evaluate; adds the row of metrics to the progress.

    Returns the row, and the evaluation on test images.
    """
    began = time.perf_counter()
    row = trainer.train_epoch(epoch)
    progress.step_seconds += time.perf_counter() - began
    with trainer.evaluated():
        if data.val is not None:
            row |= trainer.evaluate("val").metrics("val", data.class_names)
        test = trainer.evaluate("test")
        row |= test.metrics("test", data.class_names)
        progress.rows.append(row)
        if trainer.best is not None:
            trainer.best.consider(progress.rows)
    return row, test


def log_again(
    run: tracking.Run, trainer: Trainer, checkpoint: Checkpoint, progress: Progress, draw: Draw
) -> None:
    """Log the epochs of a resumed run that the server does not have, with their figures."""
    for number, row in enumerate(progress.rows, start=1):
        rows, images = progress.rows[:number], None
        has_logged = distributed.of_first(tracking.has_logged(run, row["epoch"]))
        if is_drawn(trainer.config, rows) and not has_logged:
            # The run was killed before the server had the figures of this epoch.
            folder = checkpoint.images(row["epoch"])
            if row is progress.rows[-1]:
                with trainer.evaluated():
                    images = logged_images.of_figures(draw(trainer.evaluate("test"), rows), folder)
            else:
                images = logged_images.stored(folder)
        tracking.log_epoch(run, row, images)


def is_drawn(config: RunConfig, rows: list[dict[str, float]]) -> bool:
    """Whether figures are logged with the last of these epochs; those of a run's end have their own row.

    A classifier that trains alone on stored outputs has none: they would take longer than its training.
    """
    if not config.finetuning and config.augment == "none":
        return False
    interval = max(EPOCHS_PER_DRAWING, math.ceil(config.epochs / DRAWINGS))
    return len(rows) % interval == 0 and not kept_weights.is_over(config, rows)


def make_checkpoint(
    run: tracking.Run, trainer: Trainer, precision: str, whole: bool, copy: Copy | None
) -> Checkpoint:
    """The run's checkpoint. whole: whether the trainable part is the whole model."""
    return Checkpoint(
        (run.entity, run.project, run.id),
        # The state of a cut model has other names than that of a whole one.
        trainer.config.as_dict() | {"precision": precision, "cut": not whole},
        copy,
        **trainer.stateful,
    )


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
    metrics = ("train/loss", "train/accuracy", "val/accuracy", "test/accuracy")
    numbers = ", ".join(f"{name} {row[name]:.4f}" for name in metrics if name in row)
    print(f"epoch {row['epoch']}/{config.epochs_in_effect}: {numbers}", flush=True)


def print_end(config: RunConfig, trainer: Trainer, progress: Progress) -> None:
    """Say what is kept where it is not the last epoch of all."""
    if len(progress.rows) < config.epochs_in_effect:
        print(f"no better validation accuracy in {config.patience} epochs: training ends", flush=True)
    if trainer.best is not None:
        accuracy = progress.rows[trainer.best.epoch - 1]["val/accuracy"]
        print(f"keeps epoch {trainer.best.epoch}, val/accuracy {accuracy:.4f}", flush=True)


def update_summary(
    run: tracking.Run, config: RunConfig, data: Dataset, trainer: Trainer, precision: str, progress: Progress
) -> None:
    """Set what the run computed on, and how fast, in its summary."""
    run.summary.update(
        {
            "images_per_second": len(progress.rows) * len(data.train) / progress.step_seconds,
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
    if trainer.best is not None:
        # W&B keeps the values of the last epoch, and sweeps choose by them.
        kept = progress.rows[trainer.best.epoch - 1]
        measured = {name: value for name, value in kept.items() if name.startswith(("val/", "test/"))}
        run.summary.update(measured | {"kept_epoch": trainer.best.epoch})
    if not math.isnan(progress.energy_wh):
        run.summary["energy_wh"] = progress.energy_wh
