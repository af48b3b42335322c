"""A race between the recipes of a search: which of them run with another seed, and which one wins.

The best of many recipes that ran once is partly the luckiest one. So the best quarter runs with more seeds,
one seed at a time. After each, recipes that are settled to be worse than the best one are dropped. Validation
images judge. The seed of the search counts as one of the seeds.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import pandas as pd

from wandb_tl.analysis import runs_by_recipe, table_texts
from wandb_tl.analysis.effects import Lead
from wandb_tl.analysis.formatting import (
    accuracy,
    code,
    count,
    level,
    points,
    rows_in_words,
    settings,
    verdict,
)
from wandb_tl.analysis.intervals import Mean, holm, mean_of, paired_p
from wandb_tl.analysis.runs_by_recipe import RunsByRecipe, ValuesInEffect
from wandb_tl.analysis.searches import BEST_SHARE
from wandb_tl.config import FIELDS, RunConfig
from wandb_tl.errors import InputError

# At least so many recipes run with a second seed.
LEAST = 2


@dataclass(frozen=True)
class Entrant:
    """A recipe that has run with several seeds, or will.

    config: of one of its runs. values: its hyperparameters in effect. place: by the first seed alone, from 1.
    metric: in per cent, over its seeds. lead: in points, of the recipe that was the best one after these
    seeds; None for the best one.
    """

    config: RunConfig
    values: ValuesInEffect
    place: int
    metric: Mean
    lead: Lead | None = None


@dataclass(frozen=True)
class Race:
    """A race after a number of seeds.

    judged_by: the metric, of validation images. seeds: those so far, that of the search first. points: how
    many points the search had. varied: the hyperparameters in which they differ. repeats: how many runs have
    repeated some of them. entrants: those that have run with all seeds, best first; after the first seed, the
    best quarter. dropped: those that have run with some seeds, those with the most of them first.
    """

    judged_by: str
    seeds: tuple[int, ...]
    points: int
    varied: tuple[str, ...]
    repeats: int
    entrants: tuple[Entrant, ...]
    dropped: tuple[Entrant, ...]

    @property
    def going_on(self) -> list[Entrant]:
        """The entrants that are not settled to be worse than the best one."""
        return [one for one in self.entrants if one.lead is None or not one.lead.settled]

    @property
    def winner(self) -> Entrant:
        return self.entrants[0]


def race(frame: pd.DataFrame, seeds: list[int]) -> Race:
    """The race that the runs of a search and of the sweeps that repeat its recipes are.

    frame: of all these runs, with the attrs of the search. seeds: that of the search, then those of the other
    sweeps. InputError if some runs have no validation accuracy, or fewer than two recipes have results.
    """
    compared = runs_by_recipe.by_test_images(frame)[0]
    # Another device may resolve precision=auto otherwise, which makes no other recipe here.
    runs = RunsByRecipe(compared.assign(precision_in_effect=""))
    if not runs.judged_by.startswith("val/"):
        raise InputError("--seeds: some runs have no val/accuracy; use --set val_fraction=0.2")
    means = 100 * runs.runs.groupby(["recipe", "seed"])[runs.judged_by].mean().unstack("seed")
    scores = means.reindex(columns=seeds)
    first = scores[seeds[0]].dropna().sort_values(ascending=False, kind="stable")
    if len(first) < LEAST:
        raise InputError("--seeds: takes a sweep with at least two recipes that have results")
    # How many seeds in a row each recipe has.
    lengths = scores.notna().cumprod(axis=1).sum(axis=1)
    quarter = list(first.index[: max(LEAST, math.ceil(BEST_SHARE * len(first)))])
    groups = {n: quarter if n == 1 else list(lengths.index[lengths >= n]) for n in range(1, len(seeds) + 1)}
    if not groups[len(seeds)]:
        raise InputError(f"--seeds: no recipe has results with the seeds {', '.join(map(str, seeds))}")
    step = 100 / float(compared["val_images"].min())
    places = {recipe: place for place, recipe in enumerate(first.index, 1)}
    entered = set(groups[min(2, len(seeds))])
    ordered = [
        dataclasses.replace(one, place=places[recipe])
        for n in reversed(groups)
        for recipe, one in _compare(runs, scores.loc[groups[n], seeds[:n]], step).items()
        if recipe in entered and lengths[recipe] == n
    ]
    at_the_end = len(groups[len(seeds)])
    return Race(
        judged_by=runs.judged_by,
        seeds=tuple(seeds),
        points=len(first) + sum((frame.attrs.get("left_out") or {}).values()),
        varied=tuple(runs.varied),
        repeats=int(frame["seed"].isin(seeds[1:]).sum()),
        entrants=tuple(ordered[:at_the_end]),
        dropped=tuple(ordered[at_the_end:]),
    )


def _compare(runs: RunsByRecipe, scores: pd.DataFrame, step: float) -> dict[int, Entrant]:
    """The recipes with these scores (recipes, seeds), in per cent, by number; the best one first."""
    best, *others = scores.mean(axis=1).sort_values(ascending=False, kind="stable").index
    differences = [scores.loc[best] - scores.loc[other] for other in others]
    p_values = [paired_p(one, step) for one in differences]
    leads = [
        Lead(row, mean_of(difference), p, corrected)
        for row, (difference, p, corrected) in enumerate(
            zip(differences, p_values, holm(p_values), strict=True), 2
        )
    ]
    return {
        recipe: Entrant(_config(runs, recipe), runs.values[recipe], 0, mean_of(scores.loc[recipe]), lead)
        for recipe, lead in zip((best, *others), (None, *leads), strict=True)
    }


def _config(runs: RunsByRecipe, recipe: int) -> RunConfig:
    row = runs.runs[runs.runs["recipe"] == recipe].iloc[0]
    return RunConfig.from_mapping({name: row[name] for name in FIELDS})


def next_seed(current: Race, seed: int) -> str:
    """Which recipes run with another seed."""
    going_on = len(current.going_on)
    runs = f"with seed {seed} ({count(going_on, 'run')})"
    if len(current.seeds) == 1:
        return f"The best {count(going_on, 'recipe')} of {current.points} by {current.judged_by} run {runs}."
    lost = len(current.entrants) - going_on
    are = "are" if lost > 1 else "is"
    of_all = f"{lost or 'none'} of {count(len(current.entrants), 'recipe')}"
    worse = f"{of_all} {are} settled to be worse than the best one"
    return f"After {len(current.seeds)} seeds, {worse}; {going_on} run {runs}."


def ranking(current: Race) -> str:
    """The recipes of a race as a Markdown table."""
    everyone = [*current.entrants, *current.dropped]
    rows = [
        {
            "row": str(row),
            **{name: level(one.values[name]) for name in current.varied},
            f"{current.judged_by} (%)": accuracy(one.metric.mean, one.metric.half_width),
            "seeds": str(one.metric.n),
            f"rank with seed {current.seeds[0]} alone": str(one.place),
            "behind the best by": points(one.lead.lead) if one.lead else "",
            "that is": verdict(one.lead.lead, one.lead.settled) if one.lead else "",
        }
        for row, one in enumerate(everyone, 1)
    ]
    return table_texts.markdown(pd.DataFrame(rows))


def conclusion(current: Race, seeds: int) -> str:
    """What a race says, and how many runs it has saved. seeds: how many a recipe runs with at most."""
    n = len(current.seeds)
    # An earlier command may have run more.
    seeds = max(seeds, n)
    which = ", ".join(map(str, current.seeds))
    sentences = [
        f"Means of {code(current.judged_by)} over {count(n, 'seed')} ({which}), with 95 % intervals."
    ]
    open_rows = [row for row, one in enumerate(current.entrants, 1) if one.lead and not one.lead.settled]
    if open_rows:
        sentences.append(
            f"Row 1 wins. That it is better than {rows_in_words(open_rows)} is not settled by these seeds."
        )
    else:
        sentences.append("Row 1 wins; it is settled to be better than each of the others.")
    every = current.points * (seeds - 1)
    saved = f"{count(every - current.repeats, 'run')} {'is' if every - current.repeats == 1 else 'are'} saved"
    sentences.append(
        f"{count(current.repeats, 'run')} repeated recipes. {seeds} seeds for each of the {current.points} "
        f"points would have taken {count(every, 'more run')}, so {saved}."
    )
    return " ".join(sentences)


def where_it_went_on(current: Race) -> str:
    """Which recipe several seeds chose, and which files say so: for the top of the search's report."""
    recipe = settings({name: current.winner.values[name] for name in current.varied})
    return (
        f"**The seeds chose {recipe}: see [confirmation/README.md](confirmation/README.md).** Its test "
        "accuracy there is the one to report. The recipes that ran with several seeds are in "
        f"[seeds.md](seeds.md). What follows is the answer of the first step, with seed {current.seeds[0]} "
        "alone."
    )


def confirmed(current: Race) -> str:
    """What the runs are that have trained the winner again."""
    recipe = settings({name: current.winner.values[name] for name in current.varied})
    return (
        f"The recipe that has won: {recipe}. Neither the seeds of these runs nor the test images have chosen "
        "it, so their test accuracy is the one to report."
    )
