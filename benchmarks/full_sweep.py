"""python benchmarks/full_sweep.py: the eight runs of sweep.yaml in full, for a GPU.

ResNet-50, all 60,000 training and 10,000 test images, ten epochs, by run_sweep --local from nothing;
"pretrained" weights are random ones from a file. And how near the frozen part's pass and the training steps
come to what the card can do, which is measured beside them: a large bf16 matrix product, and a copy within
its memory.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import report
import torch
import work
from grid import run_sweep

# Multiply-adds of a ResNet-50 at 224 px, forward, up to its last stage and in it; at other sizes they go with
# the number of pixels. A training step is three times the forward.
UP_TO_LAST_STAGE, LAST_STAGE = 3.28e9, 0.81e9
ATTEMPTS = 10
# What is kept of each run.
RUN = ("pretrained", "finetuning", "optimizer", "norm_in_effect", "test_accuracy", "train_seconds")
RUN += ("preparation_seconds", "frozen_seconds", "images_per_second", "energy_wh")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-sizes", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--train-images", type=int, default=0, help="0: all 60,000")
    parser.add_argument("--test-images", type=int, default=0, help="0: all 10,000")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--agents", type=int, default=1, help="several share the GPU, and its speeds")
    options = parser.parse_args()
    product, copied = ceilings(report.device())
    for size in options.image_sizes:
        sizes = argparse.Namespace(**vars(options), image_size=size)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name, "sweep")
            hyperparameters = work.hyperparameters(sizes)
            # The default, which calibrates random weights without a file.
            del hyperparameters["norm"]
            seconds = run_sweep(folder, hyperparameters, [f"--agents={options.agents}"])
            rows = pd.read_csv(folder / "reports" / "results.csv")
            passes = speeds_of_passes(folder)
        steps = rows[rows["finetuning"]]["images_per_second"].max()
        flops = 2 * (size / 224) ** 2
        shares = (max(passes) * UP_TO_LAST_STAGE * flops / product, steps * 3 * LAST_STAGE * flops / product)
        report.report(
            f"full_sweep_{size}px",
            f"sweep.yaml at {size} px, {len(rows)} runs, agents: {options.agents}: {seconds:.0f} s; "
            f"pass up to layer4 {max(passes):,.0f} images/s ({shares[0]:.0%} of the bf16 matmul ceiling of "
            f"{product / 1e12:.1f} TFLOP/s), last-stage step {steps:,.0f} images/s ({shares[1]:.0%}); "
            f"copy {copied / 1e9:,.0f} GB/s; peak memory {rows['peak_memory_mb'].max():,.0f} MB",
            {
                "seconds": seconds,
                "passes_images_per_second": passes,
                "last_stage_images_per_second": steps,
                "head_images_per_second": rows[~rows["finetuning"]]["images_per_second"].max(),
                "matmul_flops_per_second": product,
                "copy_bytes_per_second": copied,
                "peak_memory_mb": rows["peak_memory_mb"].max(),
                "energy_wh": rows["energy_wh"].sum(),
                "runs": rows[["row", *RUN]].to_dict("records"),
            },
        )


def speeds_of_passes(folder: Path) -> list[float]:
    """Images a second of each pass up to the last stage over the training images, from what the runs said."""
    said = "".join(log.read_text() for log in folder.glob("wandb/agent-*.log"))
    found = re.findall(r"frozen layers before layer4, train: .* ([\d,]+) computed in ([\d.]+) s", said)
    return [int(count.replace(",", "")) / max(float(seconds), 0.1) for count, seconds in found]


def ceilings(device: torch.device) -> tuple[float, float]:
    """Floating-point operations a second of a bf16 matrix product, and bytes a second read and written."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = torch.randn(2, side, side, device=device).bfloat16()
    source = torch.empty(2**30 if device.type == "cuda" else 2**27, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return (
        2 * side**3 / fastest(lambda: left @ right, device),
        2 * source.nbytes / fastest(lambda: target.copy_(source), device),
    )


def fastest(action: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the fastest of some attempts."""
    seconds = []
    for _ in range(ATTEMPTS):
        began = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    main()
