"""python benchmarks/recipes.py: one recipe, as tutorials write it and as this package runs it.

The same work on the same machine: ResNet-50, the same images, batch 64, ten epochs, a test after each. Head
only or the last stage too; ours once with nothing computed before, and once more as a second run of a sweep.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

import report
import torch
import tutorial
import wandb

from wandb_tl import activations, datasets, models, train
from wandb_tl.config import RunConfig, cache_dir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--train-images", type=int, default=4000)
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    device = report.device()
    for finetuning in (False, True):
        config = RunConfig(
            pretrained=False,
            # Random weights, which cost what pretrained ones do; those would not be calibrated.
            norm="source",
            finetuning=finetuning,
            image_size=options.image_size,
            train_limit=options.train_images,
            test_limit=options.test_images,
            epochs=options.epochs,
            data_dir=str(cache_dir()),
        )
        data = datasets.load(config)
        ours, second = run_ours(config, data, device)
        began = time.perf_counter()
        tutorial.train(config, data.train, data.test, device)
        naive = time.perf_counter() - began
        recipe = "last stage" if finetuning else "head only"
        work = (
            f"{len(data.train):,} training and {len(data.test):,} test images at {config.image_size} px, "
            f"{config.epochs} epochs"
        )
        report.report(
            f"recipes_{recipe.replace(' ', '_')}_{config.image_size}px",
            f"{recipe}, {work}: {naive / ours:.1f}x, a second run {naive / second:.1f}x faster "
            f"(tutorial {naive:.1f} s, ours {ours:.2f} s, then {second:.2f} s)",
            {"tutorial_seconds": naive, "first_seconds": ours, "second_seconds": second},
        )


def run_ours(config: RunConfig, data: datasets.Dataset, device: torch.device) -> tuple[float, float]:
    """Seconds that the recipe takes in a cache without activations, and as another run after it.

    From the model's making to the last test, as the tutorial is timed; a run's figures come after it.
    """
    seconds = []
    before = os.environ.get("WANDB_TL_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WANDB_TL_CACHE"] = folder
        for _ in range(2):
            # What a process of its own would find: what is on disk.
            activations._used.clear()
            began = time.perf_counter()
            model = models.build(config, len(data.class_names)).to(device)
            built = time.perf_counter() - began
            with wandb.init(mode="disabled") as run:
                train.train(config, data, model, device, run).discard()
                seconds.append(built + run.summary["train_seconds"])
    if before is None:
        del os.environ["WANDB_TL_CACHE"]
    else:
        os.environ["WANDB_TL_CACHE"] = before
    return seconds[0], seconds[1]


if __name__ == "__main__":
    main()
