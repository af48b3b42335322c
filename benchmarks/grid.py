"""python benchmarks/grid.py: the eight runs of the original experiment, by plain.py and by run_sweep.

plain.py --grid is one process whose recipes share their frozen layers. Ours is the whole command
run_sweep --local, from an empty folder: server, two agents, runs with their figures and models, report.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import report
import timm
import work
from safetensors.torch import save_file
from whole_process import REPOSITORY, seconds_of, variables

BENCHMARKS = REPOSITORY / "benchmarks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    work.add_size_flags(parser, 2000, 500)
    parser.add_argument("--tutorial", action="store_true", help="tutorial.py eight times, too: a long wait")
    options = parser.parse_args()
    plain = [BENCHMARKS / "plain.py", "--grid", f"--precision={report.precision()}"]
    recipes = itertools.product(("true", "false"), ("Adam", "SGD"), range(2))
    tutorials = [
        [BENCHMARKS / "tutorial.py", f"--finetuning={finetuning}", f"--optimizer={optimizer}"]
        for finetuning, optimizer, _ in recipes
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = variables(folder)
        sizes = work.size_flags(options)
        seconds = {"plain": seconds_of([*plain, *sizes], folder, environment)}
        if options.tutorial:
            seconds["tutorial"] = sum(seconds_of([*one, *sizes], folder, environment) for one in tutorials)
        seconds["ours"] = run_sweep(folder / "ours", work.hyperparameters(options), [])
    report.report_seconds(
        f"grid_{options.image_size}px",
        f"eight runs of ResNet-50, {work.amount(options)}",
        {way: [taken] for way, taken in seconds.items()},
        ("ours",),
    )


def run_sweep(folder: Path, hyperparameters: dict[str, int | str], flags: list[str]) -> float:
    """Seconds of the whole command in a new folder that contains only the data and a file of weights."""
    environment = variables(folder)
    weights = folder / "weights.safetensors"
    save_file(timm.create_model("resnet50").state_dict(), weights)
    command = ["-m", "wandb_tl.run_sweep", REPOSITORY / "sweep.yaml", "--local", *flags]
    command += ["--root", folder / "root", "--reports", folder / "reports"]
    for name, value in (hyperparameters | {"weights_file": weights}).items():
        command += ["--set", f"{name}={value}"]
    return seconds_of(command, folder, environment)


if __name__ == "__main__":
    main()
