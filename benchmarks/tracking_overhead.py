"""python benchmarks/tracking_overhead.py: the same run with W&B online, offline and disabled.

Whole runs in one warm process: from wandb.init to the end of run.finish, in turn, the median of each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import report
import wandb
from local_server import serving

from wandb_tl import train
from wandb_tl.config import RunConfig
from wandb_tl.training import datasets, models, run_lifecycle
from wandb_tl.training.process_cache import ProcessCache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=35, help="enough for a run of a minute")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = RunConfig(
        model_name="tf_efficientnet_lite0",
        finetuning=True,
        image_size=64,
        train_limit=5000,
        epochs=options.epochs,
    )
    seconds: dict[str, list[float]] = {"disabled": [], "offline": [], "online": []}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as environment:
        os.environ.update(environment)
        data = datasets.load(config)
        run_once(RunConfig(**config.as_dict() | {"epochs": 1}), data, "disabled")
        for _ in range(options.rounds):
            for mode, taken in seconds.items():
                taken.append(run_once(config, data, mode))
    median = {mode: statistics.median(taken) for mode, taken in seconds.items()}
    cost = {mode: 100 * (median[mode] / median["disabled"] - 1) for mode in ("offline", "online")}
    report.report(
        "tracking_overhead",
        f"a run of {median['disabled']:.1f} s: W&B online costs {cost['online']:+.1f} %, "
        f"offline {cost['offline']:+.1f} % (medians of {options.rounds})",
        seconds,
    )


def run_once(config: RunConfig, data: datasets.Dataset, mode: str) -> float:
    device = report.device()
    os.environ["WANDB_MODE"] = mode
    run_lifecycle.forget_environment()
    model = models.build(config, len(data.class_names)).to(device)
    began = time.perf_counter()
    with run_lifecycle.start(config) as run:
        ready = train.Prepared(config, data, model, device)
        finished = train.train_and_log(ready, run, ProcessCache())
    finished.result.checkpoint.discard()
    wandb.teardown()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
