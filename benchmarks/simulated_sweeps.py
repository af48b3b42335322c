"""python benchmarks/simulated_sweeps.py: how often a report is right about sweeps whose truth is known.

The accuracies of the 32 recipes of reports/results.csv, and of 2 x 2 x 2 recipes, are drawn: a level that all
recipes of a seed share, and a spread of each recipe's own. In sweeps with duds, one seed in five gives bad
random weights, which cost every recipe some points. Test accuracy orders the recipes, or validation accuracy
of the same models on many images or on few. A claim is false if it says "settled" of two recipes that
are equal in truth, or has the wrong sign.
"""

from __future__ import annotations

import argparse
import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import report

from wandb_tl.analysis import effects, interactions
from wandb_tl.analysis.intervals import mean_of
from wandb_tl.analysis.runs_by_recipe import MEANS, METRIC, SELECTION, RunsByRecipe
from wandb_tl.config import RunConfig

# The hyperparameters that differ between the recipes of a grid.
VARIED = ("pretrained", "finetuning", "optimizer", "weight_decay", "norm")
# Points: spread of the level of a seed; how far behind random weights are in some sweeps, and where they are
# at the border of reach, so that chance decides whether an interaction counts them.
LEVEL, FAR, BORDER = 0.5, 20.0, 10.0
# Points: what the choice of validation images adds to the mean accuracy of a recipe; 0 without such images.
VALIDATION = (0.0, 0.2, 1.0, 4.0)


@dataclass(frozen=True)
class Truth:
    """What is true of the recipes of a sweep. mean: points of a recipe's accuracy above the others."""

    name: str
    mean: Callable[[RunConfig], float]
    unequal: bool = False
    duds: bool = False
    random_trunks: bool = False
    fails: bool = False


TRUTHS = (
    Truth("all recipes equal", lambda config: 0),
    Truth("all equal, unequal spreads", lambda config: 0, unequal=True),
    Truth("all equal, unequal spreads, duds", lambda config: 0, unequal=True, duds=True),
    Truth("random weights far behind", lambda config: FAR * config.pretrained),
    Truth("random weights at the border of reach", lambda config: BORDER * config.pretrained),
    Truth(
        "random weights far behind and with duds of their own, finetuning one point, unequal spreads",
        lambda config: FAR * config.pretrained + config.finetuning,
        unequal=True,
        random_trunks=True,
    ),
)
# A failure that a few seeds may not show: random weights are a point better but for one seed in five, and
# equal on average. Without such a seed, no test can tell.
HIDDEN = Truth("random weights fail with one seed in five", lambda config: 0, fails=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    figures = {}
    for grid, seeds, truth in itertools.product((real_grid, cube), (3, 5), TRUTHS):
        for noise in VALIDATION:
            chosen = f", chosen by validation images that add {noise:g} points" if noise else ""
            name = f"{grid.__name__}, {seeds} seeds, {truth.name}{chosen}"
            figures[name] = rates(grid(seeds), truth, options.draws, noise)
            print(name, figures[name], flush=True)
    worst = {claim: max(one[claim] for one in figures.values()) for claim in next(iter(figures.values()))}
    interaction = np.mean([one["interaction"] for one in figures.values()])
    power = found(5, options.draws)
    hidden = rates(cube(5), HIDDEN, options.draws)
    report.report(
        "simulated_sweeps",
        f"{options.draws:,} sweeps each. The largest share of sweeps with a false claim: a change of the "
        f"best recipe {worst['change']:.1%}, the best recipe named as beaten {worst['beaten']:.1%}, "
        f"a recipe named as better than the validation images' choice {worst['better']:.1%}, an "
        f"interaction {worst['interaction']:.1%} (on average {interaction:.1%}); "
        f"changes corrected by Holm alone: {worst['change_holm_alone']:.1%}. A change worth two points is "
        f"settled in {power:.1%} of sweeps of five seeds. If random weights fail with one seed in five, and "
        f"are as good on average, {hidden['change']:.1%} of sweeps of five seeds have a false claim about a "
        "change",
        figures | {"two_points_found": power, HIDDEN.name: hidden},
    )


def real_grid(seeds: int) -> list[RunConfig]:
    """The 32 recipes of reports/results.csv: SGD without weight decay only with two of the three norms."""
    points = itertools.product((True, False), (True, False), ("source", "calibrated", "batch"))
    return [
        RunConfig(pretrained=p, finetuning=f, norm=n, optimizer=o, weight_decay=w, seed=seed)
        for p, f, n in points
        for o, w in (("Adam", 0.1), ("SGD", 0.1), ("SGD", 0.0))
        if not (n == "batch" and w == 0)
        for seed in range(seeds)
    ]


def cube(seeds: int) -> list[RunConfig]:
    """The eight recipes of the original experiment."""
    points = itertools.product((True, False), (True, False), ("Adam", "SGD"), range(seeds))
    return [RunConfig(pretrained=p, finetuning=f, optimizer=o, seed=s) for p, f, o, s in points]


def frame_of(configs: list[RunConfig]) -> pd.DataFrame:
    """The runs of a sweep as results.Results.frame() gives them, without accuracies."""
    rows = [
        config.as_dict() | {"id": f"{i:04}", "precision_in_effect": "bf16"}
        for i, config in enumerate(configs)
    ]
    return pd.DataFrame(rows).assign(**dict.fromkeys([*MEANS, METRIC], 0.0), test_images=10_000)


def with_accuracy(
    grouped: RunsByRecipe, accuracy: np.ndarray, validation: np.ndarray | None = None
) -> RunsByRecipe:
    """The same runs with other accuracies, without grouping them again, which takes most of the time.

    validation: (recipes,), what validation images add to the mean of each recipe, if they order the recipes.
    """
    runs = copy.copy(grouped)
    recipes = range(len(runs.values))
    runs.accuracy = np.array([[accuracy[int(runs.ids[i, seed][0])] for seed in runs.seeds] for i in recipes])
    runs.means = [mean_of(row) for row in runs.accuracy]
    luck = np.zeros(len(recipes)) if validation is None else validation
    runs.best_first = sorted(recipes, key=lambda recipe: -runs.means[recipe].mean - luck[recipe])
    runs.judged_by = METRIC if validation is None else SELECTION
    runs.rows = {recipe: row for row, recipe in enumerate(runs.best_first, 1)}
    return runs


def rates(configs: list[RunConfig], truth: Truth, draws: int, noise: float = 0.0) -> dict[str, float]:
    """The share of sweeps with at least one false claim, by kind of claim.

    noise: points that validation images add to the mean of a recipe; 0 if test accuracy orders the recipes.
    """
    generator = np.random.default_rng([len(configs), *truth.name.encode()])
    grouped = RunsByRecipe(frame_of(configs))
    counts = dict.fromkeys(("change", "change_holm_alone", "beaten", "better", "interaction"), 0)
    for _ in range(draws):
        accuracy, mean = draw(configs, truth, generator)
        validation = noise * generator.normal(size=len(grouped.values)) if noise else None
        runs = with_accuracy(grouped, accuracy, validation)
        # By row: the recipes in the order that the accuracies give them.
        true = [mean[int(runs.ids[recipe, 0][0])] for recipe in runs.best_first]
        leads = effects.leads(runs)
        contenders = 1 + sum(not lead.settled for lead in leads)
        for name, factor in (("change", contenders), ("change_holm_alone", 1)):
            changes = effects.at_the_winner(runs, factor)
            counts[name] += any(
                one.settled and one.effect.mean * (true[one.row - 1] - true[0]) <= 0 for one in changes
            )
        # Where several are the best ones, it is enough that one of them is not beaten.
        best = [row for row, one in enumerate(true, 1) if one == max(true)]
        beaten = {lead.row for lead in leads if lead.settled}
        counts["beaten"] += set(best) <= beaten
        counts["better"] += any(lead.is_behind and true[lead.row - 1] <= true[0] for lead in leads)
        # Means add up, so that no two hyperparameters act together.
        counts["interaction"] += any(one.settled for one in interactions.interactions(runs))
    return {name: count / draws for name, count in counts.items()}


def draw(
    configs: list[RunConfig], truth: Truth, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies of the runs, and the means that they are drawn around."""
    keys = [tuple(getattr(config, name) for name in VARIED) for config in configs]
    recipes = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    of_run = np.array([recipes[key] for key in keys])
    seed = np.array([config.seed for config in configs])
    random_weights = np.array([not config.pretrained for config in configs])
    mean = np.array([truth.mean(config) for config in configs], dtype=float)
    mean += 80 - mean.max()
    spread = (
        np.exp(generator.normal(-1, 1, len(recipes))).clip(max=3)
        if truth.unequal
        else np.full(len(recipes), 0.4)
    )
    accuracy = mean + LEVEL * generator.normal(size=seed.max() + 1)[seed]
    accuracy += spread[of_run] * generator.normal(size=len(configs))
    if truth.duds or truth.random_trunks:
        dud = (generator.random(seed.max() + 1) < 0.2)[seed]
        loss = dud * generator.normal(5, 2, size=len(configs))
        accuracy -= loss * (random_weights if truth.random_trunks else 1)
    if truth.fails:
        bad = (generator.random(seed.max() + 1) < 0.2)[seed]
        accuracy += random_weights * (1 - 5 * bad)
    return accuracy, mean


def found(seeds: int, draws: int) -> float:
    """The share of sweeps of 2 x 2 x 2 recipes that settle a change worth two points."""
    configs, generator = cube(seeds), np.random.default_rng(0)
    grouped, count = RunsByRecipe(frame_of(configs)), 0
    truth = Truth("two points", lambda config: 2 * config.pretrained)
    for _ in range(draws):
        runs = with_accuracy(grouped, draw(configs, truth, generator)[0])
        contenders = 1 + sum(not lead.settled for lead in effects.leads(runs))
        changes = effects.at_the_winner(runs, contenders)
        count += any(one.settled and one.changes[0].parameter == "pretrained" for one in changes)
    return count / draws


if __name__ == "__main__":
    main()
