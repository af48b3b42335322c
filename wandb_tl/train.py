"""python -m wandb_tl.train: one run, from its config to its results in W&B."""

from __future__ import annotations

import os
import platform
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from wandb_tl import datasets, figures, models, tracking
from wandb_tl.activations import Inputs
from wandb_tl.checkpoints import Checkpoint, Progress
from wandb_tl.config import InputError, RunConfig
from wandb_tl.evaluate import Evaluation, confident_mistakes_first, evaluate, one_of_each_class

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Training images that BatchNorm statistics are estimated on: far more than their precision needs. In batches
# of one size on every device, because each batch counts the same.
CALIBRATION_IMAGES = 8192
CALIBRATION_BATCH = 64
PREDICTIONS_SHOWN = 64
EXAMPLES_SHOWN = 40
# What shells make of a command that died of SIGINT.
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Train by command-line flags. Exit code 2 and one line for bad input, 130 if interrupted."""
    try:
        config = RunConfig.from_args(sys.argv[1:] if arguments is None else arguments)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        data = datasets.load(config)
        model = models.build(config, len(data.class_names)).to(device)
        with tracking.start(config) as run:
            checkpoint = train(config, data, model, device, run)
        # Only now has W&B everything: a run that is killed before goes on from its checkpoint.
        checkpoint.discard()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def train(
    config: RunConfig, data: datasets.Dataset, model: nn.Module, device: torch.device, run: tracking.Run
) -> Checkpoint:
    """Train the model on the data by the config and log what comes of it to the run.

    Returns the checkpoint, to be discarded when the run is over.
    """
    began = time.perf_counter()
    precision = resolve_precision(config.precision, device)
    autocast = partial(torch.autocast, device.type, DTYPES[precision], enabled=precision != "fp32")
    trainable, inputs = freeze_and_cache(config, data, model, device, autocast)
    forward = torch.compile(trainable) if config.compile else trainable
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
    print(f"{config.run_name}: {sizes}, {precision} on {device_name(device)}", flush=True)
    if progress.rows:
        print(f"going on after epoch {len(progress.rows)}", flush=True)
    for row in progress.rows:
        tracking.log_epoch(run, row)

    def judge(split: str) -> Evaluation:
        trainable.eval()
        logits = predict(forward, inputs[split], chunk_size(device, config.image_size), autocast)
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
                logits = forward(inputs["train"].batch(index, config.augment))
            loss = F.cross_entropy(logits.float(), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            loss_sum += loss.detach() * len(index)
            hits += (logits.argmax(1) == labels).sum()
        row = {
            "epoch": epoch,
            "train/loss": loss_sum.item() / len(order),
            "train/accuracy": hits.item() / len(order),
        }
        progress.step_seconds += time.perf_counter() - epoch_began

        if data.val is not None:
            row |= judge("val").metrics("val", data.class_names)
        test = judge("test")
        row |= test.metrics("test", data.class_names)
        progress.rows.append(row)
        progress.seconds += time.perf_counter() - began
        began = time.perf_counter()
        checkpoint.save(progress)
        tracking.log_epoch(run, row)
        shown = ("train/loss", "train/accuracy", "test/accuracy")
        numbers = ", ".join(f"{name} {row[name]:.4f}" for name in shown)
        print(f"epoch {epoch}/{config.epochs}: {numbers}", flush=True)

    log_results(config, data, model, test or judge("test"), progress, run)
    run.summary.update(
        {
            "images_per_second": config.epochs * len(data.train) / progress.step_seconds,
            "peak_memory_mb": peak_memory_mb(device),
            "device": device_name(device),
            "precision_in_effect": precision,
            "norm_in_effect": config.norm_in_effect,
            "cached": inputs["train"].cached is not None,
        }
    )
    return checkpoint


def resolve_precision(precision: str, device: torch.device) -> str:
    """`precision` with auto resolved by what the device computes in natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # Not mkldnn's own answer: it also says yes where it emulates bf16, which is slower than fp32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def freeze_and_cache(
    config: RunConfig,
    data: datasets.Dataset,
    model: nn.Module,
    device: torch.device,
    autocast: Callable,
) -> tuple[nn.Module, dict[str, Inputs]]:
    """Fix the frozen part's statistics, cut it off, and compute it once for every image it can be.

    Returns the trainable part and what it is fed, by split: "train", "val" if there is one, "test".
    """
    preprocess = models.preprocess(model, config.image_size, device)
    chunk = chunk_size(device, config.image_size)
    if config.norm_in_effect == "calibrated":
        images = data.train.images[:CALIBRATION_IMAGES]
        whole = images[: max(1, len(images) // CALIBRATION_BATCH) * CALIBRATION_BATCH]
        with autocast():
            models.calibrate(model, (preprocess(batch) for batch in whole.split(CALIBRATION_BATCH)))
    halves = None
    if config.norm_in_effect == "batch":
        print("norm=batch: the frozen part's output changes with every batch, so it is never cached")
    elif config.stages_to_open is not None:
        halves = models.split(model, preprocess(data.train.images[:2]))
        if halves is None:
            print(f"{config.model_name} cannot be cut where its frozen part ends: it is computed every epoch")
    splits = {"train": data.train, "val": data.val, "test": data.test}
    inputs = {
        name: Inputs(split, preprocess, halves and halves.frozen, autocast)
        for name, split in splits.items()
        if split is not None
    }
    for name, part in inputs.items():
        if halves is None:
            continue
        if name == "train" and config.augment != "none":
            print(f"augment={config.augment}: the frozen part of the training images is computed every epoch")
        elif not part.cache(chunk, f"frozen part, {name}"):
            print(f"{name} activations do not fit in memory: they are computed every epoch")
    return halves.trainable if halves else model, inputs


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


def chunk_size(device: torch.device, image_size: int) -> int:
    """Images a forward pass without gradients takes at a time; a CPU's caches like few."""
    if device.type != "cuda":
        return 64
    # 512 at ImageNet's 224 px keep a GPU busy; larger images are fewer, in the same memory.
    return max(32, min(512, 512 * 224**2 // image_size**2))


def log_results(
    config: RunConfig,
    data: datasets.Dataset,
    model: nn.Module,
    test: Evaluation,
    progress: Progress,
    run: tracking.Run,
) -> None:
    """What a person looks at after training: the table's numbers, the figures, examples and the model."""
    rows, names, images = progress.rows, data.class_names, data.test.images
    run.summary.update(
        {
            "avg_train_loss": sum(row["train/loss"] for row in rows) / len(rows),
            "avg_train_accuracy": sum(row["train/accuracy"] for row in rows) / len(rows),
            "test_accuracy": 100 * int((test.predicted == test.actual).sum()) / len(test.actual),
            "train_seconds": progress.seconds,
        }
    )
    actual = [names[label] for label in test.actual]
    predicted = [names[label] for label in test.predicted]
    shown = one_of_each_class(test, config.seed)[:EXAMPLES_SHOWN]
    title = config.run_name
    media = {
        "confusion_matrix": figures.confusion_matrix(test.confusion, names, title),
        "examples": figures.examples(
            images[shown], [actual[i] for i in shown], [predicted[i] for i in shown], title
        ),
        "curves": figures.curves(rows, title),
    }
    device = next(model.parameters()).device
    one = images[shown[:1]]
    pixels = models.preprocess(model, config.image_size, device)(one)
    if (maps := models.first_conv_maps(model, pixels)) is not None:
        media["feature_maps/first_conv"] = figures.feature_maps(one[0], maps.cpu(), title)
    tracking.log_media(run, config.epochs, media)

    shown = confident_mistakes_first(test, PREDICTIONS_SHOWN)
    columns = {
        "actual": [actual[i] for i in shown],
        "predicted": [predicted[i] for i in shown],
        "confidence": test.confidence[shown].tolist(),
    }
    tracking.log_predictions(run, config.epochs, images[shown], columns)
    description = {"config": config.as_dict(), "class_names": names}
    tracking.log_model(run, models.trained_tensors(model, config), description)


def device_name(device: torch.device) -> str:
    """The GPU's or the processor's name as its maker gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    described = cpuinfo.read_text() if cpuinfo.exists() else ""
    name = re.search(r"^model name\s*: (.+)$", described, re.MULTILINE)
    threads = torch.get_num_threads()
    return f"{name[1] if name else platform.processor() or 'CPU'}, {threads} thread{'s' * (threads > 1)}"


def peak_memory_mb(device: torch.device) -> float:
    """The most memory the run held: allocated on a GPU, else the process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    code = main()
    if code == INTERRUPTED:
        # Not by an exit code, which an agent would count as a failure: its sweep may have stopped this run.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(code)
