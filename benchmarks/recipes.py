"""python benchmarks/recipes.py: one recipe by tutorial.py, by plain.py and by this package.

Whole processes that do the same work on the same machine: ResNet-50 with random weights, the same images,
batch 64, a test after each epoch; head only, and the last stage too. The package runs twice with W&B offline:
the first run finds only the data in its cache, and the second one is another run of a sweep. With several
rounds, tutorial.py runs in the first one only: it takes as long as all the others.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import report
import work
from whole_process import REPOSITORY, seconds_of, variables

BENCHMARKS = REPOSITORY / "benchmarks"
FIRST, SECOND = "our first run", "our second run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    work.add_size_flags(parser, 2000, 500)
    parser.add_argument("--rounds", type=int, default=1, help="measure everything so many times (default: 1)")
    options = parser.parse_args()
    # The first process of each kind reads its libraries from the disk: it does not count.
    small = argparse.Namespace(train_images=64, test_images=64, image_size=32, epochs=1)
    measure("false", small, tutorial=True)
    for finetuning, recipe in (("false", "head only"), ("true", "last stage")):
        rounds = [measure(finetuning, options, tutorial=number == 0) for number in range(options.rounds)]
        report.report_seconds(
            f"recipes_{recipe.replace(' ', '_')}_{options.image_size}px",
            f"{recipe}, {work.amount(options)}",
            {way: [seconds[way] for seconds in rounds if way in seconds] for way in rounds[0]},
            (FIRST, SECOND),
        )


def measure(finetuning: str, options: argparse.Namespace, tutorial: bool) -> dict[str, float]:
    """Seconds of each process; with that of tutorial.py if asked."""
    recipe = {"pretrained": "false", "finetuning": finetuning} | work.hyperparameters(options)
    ours = ["-m", "wandb_tl.train", *(f"--{name}={value}" for name, value in recipe.items())]
    flags = [f"--finetuning={finetuning}", *work.size_flags(options)]
    commands = {"tutorial": [BENCHMARKS / "tutorial.py", *flags]} if tutorial else {}
    commands |= {
        "plain": [BENCHMARKS / "plain.py", *flags, f"--precision={report.precision()}"],
        FIRST: ours,
        SECOND: ours,
    }
    with tempfile.TemporaryDirectory() as folder:
        environment = variables(Path(folder)) | {"WANDB_MODE": "offline"}
        return {way: seconds_of(command, Path(folder), environment) for way, command in commands.items()}


if __name__ == "__main__":
    main()
