"""Runs of sweeps as Results.frame() gives them, with accuracies that a test decides."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wandb_tl.config import RunConfig

GRID = {"pretrained": [True, False], "finetuning": [True, False], "optimizer": ["Adam", "SGD"]}


def grid(
    parameters: Mapping[str, Sequence], seeds: Iterable[int] = range(5), **fixed: Any
) -> list[RunConfig]:
    """The configs of a grid, each with every seed."""
    points = [
        dict(zip(parameters, values, strict=True)) for values in itertools.product(*parameters.values())
    ]
    return [RunConfig(**fixed | point, seed=seed) for point in points for seed in seeds]


def runs_of(configs: list[RunConfig], accuracy: Callable[[RunConfig], float] | Sequence) -> pd.DataFrame:
    """accuracy: test accuracy in per cent, a number for each config or a function of it."""
    numbers = [accuracy(config) for config in configs] if callable(accuracy) else accuracy
    rows = [
        config.as_dict()
        | {"id": f"run{i:04}", "name": config.run_name, "test_accuracy": number}
        | {"avg_train_loss": 1 / number, "avg_train_accuracy": number / 100}
        | {"train_seconds": 10.0 + i, "images_per_second": 100.0 + i, "peak_memory_mb": 500.0}
        | {"energy_wh": float("nan"), "train_images": 5000.0, "test_images": 10000.0}
        | {"precision_in_effect": "bf16", "norm_in_effect": config.norm_in_effect, "device": "CPU"}
        for i, (config, number) in enumerate(zip(configs, numbers, strict=True))
    ]
    return pd.DataFrame(rows)


def noisy(
    configs: Sequence[RunConfig], effect: Callable[[RunConfig], float], noise: float = 0.4
) -> pd.DataFrame:
    """Runs whose accuracy is the effect of their recipe plus noise."""
    random = np.random.default_rng(0)
    return runs_of(configs, [effect(config) + noise * random.normal() for config in configs])


def sweep(seeds: Iterable[int] = range(5)) -> pd.DataFrame:
    """Finetuning helps, and takes 100 times as long; random weights are far behind."""
    frame = noisy(
        grid(GRID, seeds), lambda c: 70 + 10 * c.pretrained + 3 * c.finetuning + (c.optimizer == "Adam"), 0.2
    )
    frame["train_seconds"] = np.where(frame["finetuning"], 200.0, 2.0) + frame["seed"]
    return frame
