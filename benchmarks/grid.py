"""python benchmarks/grid.py: the eight runs of the original experiment, naive and ours.

Naive is the loop of tutorial.py, eight times in one process, without W&B. Ours is the whole command
run_sweep --local --in-process, from nothing: server, agents, runs with their figures and models, table.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report
import timm
import tutorial
from safetensors.torch import save_file

from wandb_tl import datasets
from wandb_tl.config import RunConfig, cache_dir

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--train-images", type=int, default=1000)
    parser.add_argument("--test-images", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    work = {
        "image_size": options.image_size,
        "train_limit": options.train_images,
        "test_limit": options.test_images,
        "epochs": options.epochs,
    }
    data = datasets.load(RunConfig(**work))
    with tempfile.TemporaryDirectory() as folder:
        ours = run_sweep(Path(folder), work)
    began = time.perf_counter()
    for pretrained, finetuning, optimizer in itertools.product((True, False), (True, False), ("Adam", "SGD")):
        recipe = {"pretrained": pretrained, "finetuning": finetuning, "optimizer": optimizer}
        tutorial.train(RunConfig(**work, **recipe), data.train, data.test, report.device())
    naive = time.perf_counter() - began
    report.report(
        f"grid_{options.image_size}px",
        f"eight runs of ResNet-50, {len(data.train):,} training and {len(data.test):,} test images at "
        f"{options.image_size} px, {options.epochs} epochs: {naive / ours:.1f}x faster "
        f"(tutorial {naive:.0f} s, ours {ours:.0f} s with server, tracking and table)",
        {"tutorial_seconds": naive, "sweep_seconds": ours},
    )


def run_sweep(folder: Path, work: dict[str, int]) -> float:
    """Seconds of the whole command, with nothing there before but the data and a file of weights."""
    weights = folder / "weights.safetensors"
    save_file(timm.create_model("resnet50").state_dict(), weights)
    (folder / "cache").mkdir()
    (folder / "cache" / "FashionMNIST").symlink_to(cache_dir() / "FashionMNIST")
    given = work | {"weights_file": weights, "norm": "source"}
    command = [sys.executable, "-m", "wandb_tl.run_sweep", str(REPOSITORY / "sweep.yaml"), "--local"]
    command += ["--in-process", "--root", str(folder / "root"), "--reports", str(folder / "reports")]
    command += [text for name, value in given.items() for text in ("--set", f"{name}={value}")]
    began = time.perf_counter()
    environment = os.environ | {"WANDB_TL_CACHE": str(folder / "cache")}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
