"""python benchmarks/simulated_sweeps.py: how often a report is right about sweeps whose truth is known.

Eight recipes (pretrained x finetuning x optimizer) by two, three and five seeds. A run's accuracy is drawn:
80 % with a spread of 0.4 points, and two points more with pretrained weights, or none.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import pandas as pd
import report

from wandb_tl.analysis import effects, runs_by_recipe
from wandb_tl.config import RunConfig

SPREAD, EFFECT = 0.4, 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    figures = {}
    for seeds in (2, 3, 5):
        generator = np.random.default_rng(seeds)
        frame = sweep(seeds)
        draws = range(options.draws)
        found = np.mean([any(map(is_the_effect, drawn(frame, EFFECT, generator))) for _ in draws])
        wrong = np.mean([any(one.significant for one in drawn(frame, 0, generator)) for _ in draws])
        figures[f"{seeds}_seeds"] = {"found": found, "wrong": wrong}
    told = "; ".join(
        f"{name.replace('_', ' ')}: an effect of {EFFECT} points found in {rates['found']:.1%}, "
        f"any effect where there is none in {rates['wrong']:.1%}"
        for name, rates in figures.items()
    )
    report.report("simulated_sweeps", f"{options.draws:,} sweeps of 2 x 2 x 2 recipes each. {told}", figures)


def sweep(seeds: int) -> pd.DataFrame:
    """The runs of a sweep as results.Results.frame() gives them, without accuracies."""
    grid = itertools.product((True, False), (True, False), ("Adam", "SGD"), range(seeds))
    configs = [RunConfig(pretrained=p, finetuning=f, optimizer=o, seed=s) for p, f, o, s in grid]
    rows = [
        config.as_dict() | {"id": str(i), "precision_in_effect": "bf16"} for i, config in enumerate(configs)
    ]
    return pd.DataFrame(rows).assign(**dict.fromkeys(runs_by_recipe.MEANS, 0.0), test_images=10_000)


def drawn(frame: pd.DataFrame, effect: float, generator: np.random.Generator) -> list[effects.Comparison]:
    """What a report would say of one drawing of the accuracies."""
    accuracy = 80 + effect * frame["pretrained"] + SPREAD * generator.normal(size=len(frame))
    return effects.comparisons(frame.assign(**{runs_by_recipe.METRIC: accuracy}))


def is_the_effect(one: effects.Comparison) -> bool:
    return one.significant and one.kind == "main" and one.changes[0].parameter == "pretrained"


if __name__ == "__main__":
    main()
