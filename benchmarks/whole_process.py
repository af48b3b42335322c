"""Commands as a user waits for them: whole processes that run a checkout's code in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from wandb_tl.cache_folder import cache_dir
from wandb_tl.config import RunConfig
from wandb_tl.training import datasets

REPOSITORY = Path(__file__).parents[1]


def variables(folder: Path, checkout: Path = REPOSITORY) -> dict[str, str]:
    """Environment variables of commands that run the checkout's code and write to the folder.

    The cache that they name is created in the folder and contains only the data.
    """
    datasets.load(RunConfig())  # downloads the data if necessary
    cache = folder / "cache"
    cache.mkdir(parents=True)
    (cache / "FashionMNIST").symlink_to(cache_dir() / "FashionMNIST")
    own = {"PYTHONPATH": checkout, "WANDB_TL_CACHE": cache, "WANDB_DIR": folder, "WANDB_SILENT": "true"}
    return os.environ | {name: str(value) for name, value in own.items()}


def seconds_of(arguments: list[object], folder: Path, environment: dict[str, str]) -> float:
    """Seconds that `python ARGUMENTS` takes from start to exit, in the folder. It must succeed."""
    command = [sys.executable, *map(str, arguments)]
    began = time.perf_counter()
    # Not in the repository: the current folder comes before PYTHONPATH.
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if result.returncode:
        sys.exit(f"{' '.join(command)}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    return seconds
