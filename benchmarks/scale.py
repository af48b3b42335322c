"""python benchmarks/scale.py: how time and memory grow with images, their size, classes and recipes.

One axis at a time from a common centre: ResNet-18 with random weights, of which only the head trains, in
whole processes, ours with W&B. Prints a table with the exponents between neighbouring points: at 1, the cost
grows as fast as the work. Writes it and a plot to results/ after each point.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import report
import work
from matplotlib.figure import Figure
from whole_process import REPOSITORY, Usage, usage_of, variables

BENCHMARKS = REPOSITORY / "benchmarks"
MODEL = "resnet18"
PLAIN, SHARED, FIRST = "plain", "plain, one process", "our first run"
SECOND, SWEEP = "our second run", "our sweep"
# Labels that no data set has, which only Python code can hand over.
FIT = """
import argparse, json, sys
import work
import wandb_tl
point = argparse.Namespace(**json.loads(sys.argv[1]), data_dir=work.CACHE)
splits = [work.fashion_mnist(point, train) for train in (True, False)]
data = tuple((images, work.divided(labels, point.classes)) for images, labels in splits)
wandb_tl.fit(data=data, **json.loads(sys.argv[2]))
"""


@dataclass(frozen=True)
class Point:
    """An amount of work."""

    train_images: int
    image_size: int
    test_images: int
    epochs: int
    classes: int = 10
    recipes: int = 1


Axes = dict[str, list[int]]
CENTRE = Point(train_images=4000, image_size=64, test_images=1000, epochs=10)
AXES = {
    "train_images": [1000, 4000, 16_000, 60_000],
    "image_size": [64, 128, 224],
    "classes": [10, 100, 1000],
    "recipes": [1, 4, 16, 64],
}
# To see that the script works: the times are mostly those of imports.
QUICK_CENTRE = Point(train_images=500, image_size=32, test_images=500, epochs=2)
QUICK_AXES = {"train_images": [500, 2000], "image_size": [32, 64], "classes": [10, 100], "recipes": [1, 3]}
# What each axis compares. For one recipe, plain code that shares its frozen part is the same as plain code.
KINDS = {
    "train_images": (PLAIN, "train"),
    "image_size": (PLAIN, "train"),
    "classes": (PLAIN, "fit"),
    "recipes": (PLAIN, SHARED, SWEEP),
}
OURS = (FIRST, SECOND, SWEEP)
COLOURS = {PLAIN: "#555555", SHARED: "#999999", FIRST: "#E69F00", SECOND: "#0072B2", SWEEP: "#D55E00"}
WORDS = {
    "train_images": "training images",
    "image_size": "image size, pixels",
    "classes": "classes",
    "recipes": "recipes",
}
COSTS = {"seconds": "seconds", "rss_gb": "resident memory, GB", "own_gb": "own memory, GB"}


@dataclass(frozen=True)
class Row:
    """A way to do the work of a point.

    exponents: of each cost, since the point before it on the axis. each: seconds since then for each further
    amount of work like the first point's: start-up hides in the exponents, but not in these.
    """

    axis: str
    value: int
    way: str
    usage: Usage
    exponents: dict[str, float]
    each: float | None

    def __str__(self) -> str:
        cost = f"{self.usage.seconds:.1f} s, {self.usage.own_gb:.2f} GB"
        return f"{self.axis} {self.value:,}, {self.way}: {cost}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small points alone, in minutes")
    parser.add_argument("--resume", action="store_true", help="keep what an interrupted call has measured")
    options = parser.parse_args()
    name = "scale_quick" if options.quick else "scale"
    centre, axes = (QUICK_CENTRE, QUICK_AXES) if options.quick else (CENTRE, AXES)
    usages = earlier(name) if options.resume else {}
    # The first process of each kind reads its libraries from the disk: it does not count.
    for kind in () if options.quick else (PLAIN, "train"):
        measure(kind, QUICK_CENTRE)
    rows: list[Row] = []
    for axis, values in axes.items():
        for value in values:
            for kind in KINDS[axis]:
                point = point_of(centre, axis, value, kind)
                usages[key(kind, point)] = usages.get(key(kind, point)) or measure(kind, point)
            rows = [row for axis, values in axes.items() for row in rows_of(axis, values, centre, usages)]
            latest = [row for row in rows if (row.axis, row.value) == (axis, value)]
            write(name, "; ".join(map(str, latest)), usages, rows)
    write(name, growth(rows), usages, rows)
    print("", *table(rows), sep="\n")


def point_of(centre: Point, axis: str, value: int, kind: str) -> Point:
    """A point of an axis. Plain code with a process for each recipe shares nothing: one is measured."""
    return centre if axis == "recipes" and kind == PLAIN else replace(centre, **{axis: value})


def key(kind: str, point: Point) -> str:
    return f"{kind} {json.dumps(asdict(point))}"


def measure(kind: str, point: Point) -> dict[str, Usage]:
    """What the runs of a kind take, one after the other in a folder that contains only the data at first."""
    plain = [BENCHMARKS / "plain.py", *work.size_flags(point), f"--precision={report.precision()}"]
    plain += [f"--model={MODEL}", f"--classes={point.classes}", f"--learning-rates={point.recipes}"]
    recipe = {"model_name": MODEL, "pretrained": False, "finetuning": False} | work.hyperparameters(point)
    sweep = recipe | {"optimizer": "Adam", "lr": ",".join(map(str, work.learning_rates(point.recipes)))}
    # The images are limited before they are handed over.
    own_data = recipe | {"train_limit": 0, "test_limit": 0}
    train = ["-m", "wandb_tl.train", *(f"--{name}={value}" for name, value in recipe.items())]
    fit = ["-c", FIT, json.dumps(asdict(point)), json.dumps(own_data)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = variables(folder)
        environment["PYTHONPATH"] += f":{BENCHMARKS}"
        if kind == SWEEP:
            command = ["-m", "wandb_tl.run_sweep", REPOSITORY / "sweep.yaml", "--local"]
            command += ["--root", folder / "root", "--reports", folder / "reports"]
            command += [f"--set={name}={value}" for name, value in sweep.items()]
            return {SWEEP: usage_of(command, folder, environment)}
        environment["WANDB_MODE"] = "offline"
        if kind in (PLAIN, SHARED):
            return {kind: usage_of(plain, folder, environment)}
        command = train if kind == "train" else fit
        return {way: usage_of(command, folder, environment) for way in (FIRST, SECOND)}


def rows_of(
    axis: str, values: list[int], centre: Point, usages: dict[str, dict[str, Usage]]
) -> Iterator[Row]:
    """The rows of an axis, as far as they have been measured."""
    before: dict[str, tuple[float, Usage]] = {}
    for value, kind in itertools.product(values, KINDS[axis]):
        # The work of an image goes with its area.
        amount = (value / values[0]) ** (2 if axis == "image_size" else 1)
        for way, usage in usages.get(key(kind, point_of(centre, axis, value, kind)), {}).items():
            if axis == "recipes" and kind == PLAIN:
                usage = replace(usage, seconds=value * usage.seconds)
            exponents, each = {}, None
            if way in before:
                less, cheaper = before[way]
                each = (usage.seconds - cheaper.seconds) / (amount - less)
                exponents = {
                    cost: math.log(getattr(usage, cost) / getattr(cheaper, cost)) / math.log(amount / less)
                    for cost in COSTS
                }
            before[way] = amount, usage
            yield Row(axis, value, way, usage, exponents, each)


def earlier(name: str) -> dict[str, dict[str, Usage]]:
    """What an earlier call has measured."""
    figures = json.loads((report.RESULTS / f"{name}.json").read_text(encoding="utf-8"))["figures"]
    return {
        key: {way: Usage(**usage) for way, usage in ways.items()} for key, ways in figures["usages"].items()
    }


def write(name: str, line: str, usages: dict[str, dict[str, Usage]], rows: list[Row]) -> None:
    """Print the line; write it, what has been measured, the table and the plot."""
    figures = {
        "usages": {key: {way: asdict(usage) for way, usage in ways.items()} for key, ways in usages.items()},
        "table": table(rows),
    }
    report.report(name, line, figures)
    plot(rows).savefig(report.RESULTS / f"{name}.png")


def growth(rows: list[Row]) -> str:
    """The largest exponent of each cost of ours, and where it is."""
    ours = [row for row in rows if row.way in OURS and row.exponents]
    parts = []
    for cost, words in COSTS.items():
        row = max(ours, key=lambda row: row.exponents[cost])
        parts.append(f"{words}: {row.exponents[cost]:.2f} ({row.way}, {row.axis} {row.value:,})")
    return f"fastest growth of ours, as an exponent of the work: {'; '.join(parts)}"


def table(rows: list[Row]) -> list[str]:
    """The rows in Markdown."""
    lines = [
        f"| axis | | way | each further, s | {' | | '.join(COSTS.values())} | |",
        "|:--|--:|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [row.axis, f"{row.value:,}", row.way, "" if row.each is None else f"{row.each:.2f}"]
        for cost in COSTS:
            exponent = f"^{row.exponents[cost]:.2f}" if row.exponents else ""
            cells += [f"{getattr(row.usage, cost):.{1 if cost == 'seconds' else 2}f}", exponent]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def plot(rows: list[Row]) -> Figure:
    """Each cost by each axis; the dotted line is plain code's time if it grew as fast as the work."""
    figure = Figure((3.6 * len(KINDS), 3 * len(COSTS)), layout="constrained")
    panels = figure.subplots(len(COSTS), len(KINDS), sharex="col", sharey="row", squeeze=False)
    for (cost, axis), axes in zip(itertools.product(COSTS, KINDS), panels.flat, strict=True):
        axes.set_xscale("log")
        axes.set_yscale("log" if cost == "seconds" else "linear")
        for way, colour in COLOURS.items():
            points = [row for row in rows if (row.axis, row.way) == (axis, way)]
            values, costs = [row.value for row in points], [getattr(row.usage, cost) for row in points]
            axes.plot(values, costs, marker="o", color=colour, label=way)
            if points and (way, cost) == (PLAIN, "seconds"):
                power = 2 if axis == "image_size" else 1
                axes.plot(values, [costs[0] * (value / values[0]) ** power for value in values], "k:", lw=1)
        values = sorted({row.value for row in rows if row.axis == axis})
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    for axis, axes in zip(KINDS, panels[-1], strict=True):
        axes.set_xlabel(WORDS[axis])
    # Only now: with a limit of its own, an axis no longer makes room for what the others of its row show.
    for (cost, words), axes in zip(COSTS.items(), panels[:, 0], strict=True):
        axes.set_ylabel(words)
        if cost != "seconds":
            axes.set_ylim(bottom=0)
    panels[0, 0].legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
