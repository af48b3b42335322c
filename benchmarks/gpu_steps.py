"""python benchmarks/gpu_steps.py: a training step of each kind on a GPU, and the pass of the frozen layers.

ResNet-50 with random weights, batches of 64: the step as single kernels (compile=never), as one CUDA graph
(auto), and compiled and as one graph (always). Milliseconds are of a second epoch, after one that warms up.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable

import report
import torch
import work
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.training import datasets, models, trainer
from wandb_tl.training.process_cache import ProcessCache

CASES = [(stage, how) for how in ("never", "auto") for stage in (True, False)] + [(True, "always")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    work.add_size_flags(parser, 20_000, 4096)
    parser.add_argument("--optimizer", choices=("Adam", "SGD"), default="Adam")
    options = parser.parse_args()
    names = {"image_size": options.image_size, "epochs": options.epochs, "optimizer": options.optimizer}
    limits = {"train_limit": options.train_images, "test_limit": options.test_images}
    config = RunConfig(pretrained=False, norm="source", **names, **limits)
    cache = ProcessCache()
    data = datasets.load(config, cache.images)
    model = models.build(config, len(data.class_names))
    figures = {}
    for finetuning, how in CASES:
        recipe = dataclasses.replace(config, finetuning=finetuning, compile=how)
        title = f"{'last stage' if finetuning else 'head'}, compile={how}"
        figures[title] = measured(recipe, data, model, cache)
        print(f"{title}: {figures[title]}", flush=True)
    steps = ", ".join(f"{title} {one['step_ms']:.2f} ms" for title, one in figures.items())
    passes = max(one.get("pass_images_per_second", 0) for one in figures.values())
    report.report(
        f"gpu_steps_{options.image_size}px",
        f"ResNet-50 at {options.image_size} px, {options.optimizer}: {steps}; "
        f"pass up to layer4 {passes:,.0f} images/s",
        figures,
    )


def measured(
    config: RunConfig, data: datasets.Dataset, model: nn.Module, cache: ProcessCache
) -> dict[str, float]:
    """Milliseconds of a step, seconds that the first epoch took longer, and images a second of the pass."""
    device = report.device()
    own = models.build(config, len(data.class_names))
    own.load_state_dict(model.state_dict())
    one = trainer.prepare(config, data, own.to(device), device, report.precision(), cache.activations)
    first, second = (seconds_of(lambda number=number: one.train_epoch(number), device) for number in (1, 2))
    steps = -(-len(data.train) // config.batch_size)
    result = {"step_ms": 1000 * second / steps, "first_epoch_s": first - second}
    if seconds := one.inputs["train"].seconds:
        result["pass_images_per_second"] = len(data.train) / seconds
    return result


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
