"""Shared by all tests: real Fashion-MNIST in one cache folder, and a wandb that writes nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from wandb_tl import datasets
from wandb_tl.config import RunConfig, cache_dir

LITE0 = {"model_name": "tf_efficientnet_lite0", "image_size": 32, "precision": "fp32"}


@pytest.fixture(scope="session", autouse=True)
def one_thread_per_core() -> None:
    torch.set_num_threads(os.cpu_count() or 1)


@pytest.fixture(scope="session")
def fashion_mnist_cache() -> Path:
    """The cache folder that holds Fashion-MNIST, fetched once if it was not there."""
    datasets.load(RunConfig(train_limit=64))
    return cache_dir()


@pytest.fixture(scope="session")
def few_images(fashion_mnist_cache: Path) -> datasets.Dataset:
    """256 training and 128 test images."""
    return datasets.load(RunConfig(train_limit=256, test_limit=128))


@pytest.fixture
def run_environment(tmp_path: Path, fashion_mnist_cache: Path) -> dict[str, str]:
    """The environment of a run process without any W&B server: offline, its files under tmp_path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return kept | {
        "WANDB_TL_CACHE": str(fashion_mnist_cache),
        "WANDB_DIR": str(tmp_path),
        "WANDB_CONFIG_DIR": str(tmp_path),
        "WANDB_CACHE_DIR": str(tmp_path),
        "WANDB_DATA_DIR": str(tmp_path),
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
        "NETRC": str(tmp_path / "netrc"),
    }
