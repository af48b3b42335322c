"""python benchmarks/fit_overhead.py: what a run costs beyond its arithmetic, one after another in a process.

wandb_tl.fit trains short runs whose activations are cached already, as in a notebook, with the embedded
server. A run's overhead is the time of the call less its `train_seconds`, which last from the look-up of the
activations to the last test.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import report
import work
from local_server import serving

MODEL = "tf_efficientnet_lite0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=8)
    work.add_size_flags(parser, 5000, 0)
    parser.set_defaults(epochs=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as environment:
        os.environ.update(environment | {"WANDB_SILENT": "true"})
        first, *overheads = [overhead(options, seed) for seed in range(options.runs + 1)]
    mean, spread = statistics.mean(overheads), f"{min(overheads):.2f} to {max(overheads):.2f}"
    report.report(
        "fit_overhead",
        f"overhead of {options.runs} runs by wandb_tl.fit in one process: {mean:.2f} s per run ({spread}; "
        f"the first one, with imports and the frozen pass, {first:.1f} s)",
        {"first": first, "others": overheads},
    )


def overhead(options: argparse.Namespace, seed: int) -> float:
    """Seconds of a run that are not those of its training."""
    import wandb_tl

    values = {"model_name": MODEL, "seed": seed} | work.hyperparameters(options)
    began = time.perf_counter()
    result = wandb_tl.fit(**values)
    return time.perf_counter() - began - result.train_seconds


if __name__ == "__main__":
    main()
