"""The training of one run: freeze, cache, train, evaluate, log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from wandb_tl.config import RunConfig
from wandb_tl.training import cuda_graphs, datasets, devices, frozen, models, tracking
from wandb_tl.training.activations import Inputs
from wandb_tl.training.checkpoints import Checkpoint, Progress
from wandb_tl.training.evaluate import Evaluation, evaluate

# Steps from which a GPU repays what compiling takes, half a minute at half a millisecond a step, and what a
# CUDA graph takes, a second. Estimates: no GPU was at hand.
STEPS_TO_COMPILE = 60_000
STEPS_TO_GRAPH = 500
# Epochs from one drawing of the figures to the next.
MEDIA_EVERY = 5


# Draws figures of a run, by media key, from its latest test and its rows of metrics, one per epoch.
Draw = Callable[[Evaluation, list[dict[str, float]]], dict[str, Figure]]


@dataclass(frozen=True)
class Result:
    """What training leaves: its checkpoint (to be discarded when the run is over), progress and last test."""

    checkpoint: Checkpoint
    progress: Progress
    test: Evaluation


def train(
    config: RunConfig,
    data: datasets.Dataset,
    model: nn.Module,
    device: torch.device,
    run: tracking.Run,
    draw: Draw,
) -> Result:
    """Train the model on the data by the config; log every epoch to the run, and figures every few epochs."""
    began, energy = time.perf_counter(), devices.energy_wh(device)
    devices.forget_peak_memory(device)
    precision = devices.resolve_precision(config.precision, device)
    autocast = partial(torch.autocast, device.type, devices.DTYPES[precision], enabled=precision != "fp32")
    trainable, inputs = frozen.freeze_and_cache(config, data, model, device, precision, autocast)
    forward, faster = speed_up(config, trainable, inputs["train"], autocast)
    optimizer = make_optimizer(config, [weight for weight in model.parameters() if weight.requires_grad])
    schedule = make_schedule(config, optimizer, len(data.train))
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    checkpoint = Checkpoint(
        (run.entity, run.project, run.id),
        # A cut model keeps its state under other names than a whole one.
        config.as_dict() | {"precision": precision, "cut": trainable is not model},
        trainable=trainable,
        optimizer=optimizer,
        schedule=schedule,
        scaler=scaler,
    )
    progress = checkpoint.load()
    sizes = f"{len(data.train):,} training and {len(data.test):,} test images at {config.image_size} px"
    print(f"{config.run_name}: {sizes}, {precision} on {devices.device_name(device)}", flush=True)
    if progress.rows:
        print(f"going on after epoch {len(progress.rows)}", flush=True)
    for row in progress.rows:
        tracking.log_epoch(run, row)

    def judge(split: str) -> Evaluation:
        trainable.eval()
        logits = predict(forward, inputs[split], devices.chunk_size(device, config.image_size), autocast)
        return evaluate(logits, inputs[split].labels)

    test = None
    for epoch in range(len(progress.rows) + 1, config.epochs + 1):
        epoch_began = time.perf_counter()
        models.train_mode(trainable, config.norm_in_effect)
        # Seeded by the epoch's number, so that a resumed run sees what an undisturbed one sees.
        torch.manual_seed(config.seed * 10_000 + epoch)
        order = torch.randperm(len(data.train), device=device)
        loss_sum, hits = torch.zeros((), device=device), torch.zeros((), device=device)
        batches = split_batches(order, config.batch_size)
        for index in tqdm(batches, f"epoch {epoch}/{config.epochs}", leave=False, disable=None):
            labels = inputs["train"].labels[index]
            with autocast():
                logits = faster(inputs["train"].batch(index, config.augment))
            loss = F.cross_entropy(logits.float(), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            (lr,) = schedule.get_last_lr()
            schedule.step()
            loss_sum += loss.detach() * len(index)
            hits += (logits.argmax(1) == labels).sum()
        row = {
            "epoch": epoch,
            "train/loss": loss_sum.item() / len(order),
            "train/accuracy": hits.item() / len(order),
            "train/lr": lr,
        }
        progress.step_seconds += time.perf_counter() - epoch_began

        if data.val is not None:
            row |= judge("val").metrics("val", data.class_names)
        test = judge("test")
        row |= test.metrics("test", data.class_names)
        progress.rows.append(row)
        progress.seconds += time.perf_counter() - began
        progress.energy_wh += devices.energy_wh(device) - energy
        began = time.perf_counter()
        checkpoint.save(progress)
        saving = time.perf_counter() - began
        drawn = None
        if epoch % MEDIA_EVERY == 0 and epoch < config.epochs:
            drawn = draw(test, progress.rows)
        tracking.log_epoch(run, row, drawn)
        shown = ("train/loss", "train/accuracy", "test/accuracy")
        numbers = ", ".join(f"{name} {row[name]:.4f}" for name in shown)
        print(f"epoch {epoch}/{config.epochs}: {numbers}", flush=True)
        # What is shown costs no training time, but saving does.
        began, energy = time.perf_counter() - saving, devices.energy_wh(device)

    run.summary.update(
        {
            "images_per_second": config.epochs * len(data.train) / progress.step_seconds,
            "peak_memory_mb": devices.peak_memory_mb(device),
            "train_images": len(data.train),
            "test_images": len(data.test),
            "device": devices.device_name(device),
            "precision_in_effect": precision,
            "norm_in_effect": config.norm_in_effect,
            "cached": inputs["train"].cached,
        }
    )
    if not math.isnan(progress.energy_wh):
        run.summary["energy_wh"] = progress.energy_wh
    return Result(checkpoint, progress, test or judge("test"))


def speed_up(
    config: RunConfig, trainable: nn.Module, inputs: Inputs, autocast: Callable
) -> tuple[Callable, Callable]:
    """The trainable part's forward for evaluation and for training steps, in the form that the run repays."""
    device = inputs.labels.device
    steps = config.epochs * -(-len(inputs) // config.batch_size)
    long = device.type == "cuda" and steps >= STEPS_TO_COMPILE
    if config.compile == "always" or (config.compile == "auto" and long):
        compiled = torch.compile(trainable)
        return compiled, compiled
    if device.type == "cuda" and steps >= STEPS_TO_GRAPH and config.compile == "auto":
        models.train_mode(trainable, config.norm_in_effect)
        index = torch.arange(config.batch_size, device=device)
        graphed = cuda_graphs.capture(trainable, inputs.batch(index), inputs.labels[index], autocast)
        if graphed is not None:
            return trainable, cuda_graphs.for_full_batches(graphed, trainable, config.batch_size)
    return trainable, trainable


def make_optimizer(config: RunConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer in its fused form. Weight decay is SGD's and AdamW's; Adam has none."""
    if config.optimizer == "SGD":
        return torch.optim.SGD(
            parameters, config.lr, config.momentum, weight_decay=config.weight_decay, fused=True
        )
    if config.optimizer == "AdamW":
        return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay, fused=True)
    return torch.optim.Adam(parameters, config.lr, fused=True)


def make_schedule(
    config: RunConfig, optimizer: torch.optim.Optimizer, images: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate by step: constant, or a half cosine down to zero over the run."""
    if config.scheduler == "cosine":
        steps = config.epochs * -(-images // config.batch_size)
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def split_batches(items: Tensor, size: int) -> list[Tensor]:
    """A tensor cut along its first dimension. BatchNorm needs two, so a last batch of one joins another."""
    batches = list(items.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@torch.inference_mode()
def predict(forward: Callable, inputs: Inputs, chunk: int, autocast: Callable) -> Tensor:
    """Logits (N, K) of all images of a split, `chunk` at a time."""
    indices = torch.arange(len(inputs), device=inputs.labels.device).split(chunk)
    with autocast():
        return torch.cat([forward(inputs.batch(index)).float() for index in indices])
