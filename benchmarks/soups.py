"""python benchmarks/soups.py: is the soup of a sweep better than its best run, over seeds?

For each seed a sweep of six recipes with `run_sweep recommended --local`, and then `soup`. Its runs open the
last stage of EfficientNet-Lite0 and differ in learning rate and epochs. The validation images choose the best
run and the ingredients; the test images chose nothing. Each seed gives one difference, so the interval is one
of sweeps, and not only of test images.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path

import report
from tabulate import tabulate
from whole_process import variables

from wandb_tl.analysis.intervals import mean_of

SWEPT = ["lr=0.0015,0.003,0.006", "epochs=5,10", "unfreeze=last_stage"]
SOUP = re.compile(
    r"^Mean of (\d+) runs, validation images: ([\d.]+) %, the best run alone ([\d.]+) %\.$", re.M
)
ALONE = re.compile(r"^Best run: \S+, ([\d.]+) % (?=.*^No mean is as good)", re.M | re.S)
TESTED = re.compile(r"^Test images: ([\d.]+) %, the best run alone ([\d.]+) %", re.M)


@dataclass(frozen=True)
class Outcome:
    """Ingredients and accuracies in per cent: of the soup, and of the best run before it.

    With one ingredient, no mean is as good as the best run on the validation images: the soup is that run,
    which `soup` does not test.
    """

    ingredients: int
    val: float
    best_val: float
    test: float
    best_test: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="your own pictures instead of Fashion-MNIST")
    parser.add_argument("--train_limit", type=int, default=10_000, help="of Fashion-MNIST")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--set", action="append", default=[], help="as of run_sweep, such as val_fraction=0.1"
    )
    options = parser.parse_args()
    swept = [*SWEPT, f"image_size={options.image_size}"]
    if options.data_dir:
        swept += ["dataset=folder", f"data_dir={Path(options.data_dir).resolve()}", "train_limit=0"]
    else:
        swept += [f"train_limit={options.train_limit}"]
    swept += options.set
    outcomes = []
    with tempfile.TemporaryDirectory() as name:
        environment = variables(Path(name)) | {"WANDB_SILENT": "false"}
        for seed in range(options.seeds):
            outcomes.append(soup_of([*swept, f"seed={seed}"], Path(name), environment))
            print(seed, outcomes[-1], flush=True)
    gains = {
        "validation": mean_of(one.val - one.best_val for one in outcomes),
        "test": mean_of(one.test - one.best_test if one.ingredients > 1 else 0.0 for one in outcomes),
    }
    parts = [f"{kind} {gain.mean:+.2f} ± {gain.half_width:.2f} points" for kind, gain in gains.items()]
    headings = ("seed", "runs averaged", "soup, val %", "best run, val %", "soup, test %", "best run, test %")
    rows = [(seed, *astuple(one)) for seed, one in enumerate(outcomes)]
    table = tabulate(rows, headings, tablefmt="pipe", floatfmt=".2f")
    fashion = f"Fashion-MNIST, {options.train_limit:,} images"
    images = Path(options.data_dir).name if options.data_dir else fashion
    line = f"The soup beside the best run on {images}, {options.seeds} sweeps: {', '.join(parts)}\n\n{table}"
    kind = "pictures" if options.data_dir else "fashion_mnist"
    report.report(f"soups_{kind}", line, {"outcomes": rows})


def soup_of(swept: list[str], folder: Path, environment: dict[str, str]) -> Outcome:
    """Run the sweep and make its soup."""

    def command(*arguments: str) -> str:
        """What `python -m ARGUMENTS` prints, in the folder. It must succeed."""
        line = [sys.executable, "-m", *arguments]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(line)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    flags = [part for one in swept for part in ("--set", one)]
    local = ("--local", "--root", str(folder / "root"))
    text = command("wandb_tl.run_sweep", "recommended", *local, "--agents", "1", *flags)
    sweep = re.findall(r"local/wandb_tl/(\w+)", text)[-1]
    text = command("wandb_tl.soup", f"local/wandb_tl/{sweep}", *local)
    if alone := ALONE.search(text):
        return Outcome(1, float(alone[1]), float(alone[1]), math.nan, math.nan)
    made, tested = SOUP.search(text), TESTED.search(text)
    if not made or not tested:
        sys.exit(f"no soup to compare:\n{text}")
    val, best_val = map(float, made.groups()[1:])
    return Outcome(int(made[1]), val, best_val, *map(float, tested.groups()))


if __name__ == "__main__":
    main()
