"""The answer that a sweep gives, as plain data: which recipe to use, how sure that is, and at what price.

The report, the last lines of the commands and a notebook say it in words: conclusions.py has the sentences.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wandb_tl.analysis import (
    commands,
    effects,
    interactions,
    next_runs,
    next_search,
    pareto,
    prices,
    runs_by_recipe,
    searches,
    selection,
    ties,
)
from wandb_tl.analysis.commands import CommandLine
from wandb_tl.analysis.effects import Effect, Lead
from wandb_tl.analysis.interactions import Interaction
from wandb_tl.analysis.intervals import Mean
from wandb_tl.analysis.next_runs import NextRuns
from wandb_tl.analysis.next_search import NextSearch
from wandb_tl.analysis.pareto import Front
from wandb_tl.analysis.prices import FrozenPass, Price
from wandb_tl.analysis.proportions import McNemar
from wandb_tl.analysis.runs_by_recipe import METRIC, RunsByRecipe, ValuesInEffect
from wandb_tl.analysis.searches import Search
from wandb_tl.analysis.selection import Selection
from wandb_tl.analysis.ties import Tie
from wandb_tl.config import FIELDS, RunConfig
from wandb_tl.errors import InputError
from wandb_tl.run_states import RunState

# A cheaper recipe is worth naming if it takes at most this share of the best one's time.
CHEAPER = 0.5


@dataclass(frozen=True)
class Recipe:
    """A recipe and its results.

    row: in the table of results, from 1. hyperparameters: those that differ between the recipes, as they take
    effect; None where one has no effect. judged: the mean of the metric that orders the recipes. accuracy:
    test accuracy in per cent, the mean over n seeds with its 95 % t-interval. low, high: per cent, the exact
    95 % interval of one model with this accuracy on other test images; NaN if the number of test images is
    unknown. best_run: the id of its best run.
    """

    row: int
    hyperparameters: ValuesInEffect
    judged: float
    accuracy: Mean
    low: float
    high: float
    price: Price
    best_run: str


@dataclass(frozen=True)
class Diverged:
    """A run whose loss is not a number. row: of its recipe, from 1; None if it has no test accuracy."""

    run: str
    name: str
    row: int | None


@dataclass(frozen=True, repr=False)
class Answer:
    """What the runs of a sweep say about its recipes.

    path: ENTITY/PROJECT/SWEEP.
    recipes: best first; judged_by names the metric that orders them. winner is the first one.
    tied: rows whose recipes are as good as the winner by that metric. tied_runs: ids of runs of the winner
    that are as good as its best run by that metric. tie: if too few images choose between the recipes.
    selection: how validation images chose the winner, None if the test images did.
    frozen: the computation that the time of a run of the winner leaves out, None if there is none.
    images: the number of test images, NaN if unknown.
    runs, seeds: of these recipes, how many runs and which seeds. has_luck: whether some of them depend on
    their seed.
    leads: of the winner over the other recipes, in points. contenders are those that are not settled.
    effects: of the changes that lead from the winner to another recipe, in points, largest first.
    interactions: of two hyperparameters in recipes within reach of the winner, in points, largest first.
    inseparable: hyperparameters that always change together. never_alone: those that never change alone.
    diverged: runs whose loss is not a number.
    cheaper: the most accurate recipe on the frontier that takes at most half of the winner's time, or None.
    frontier: rows that no recipe beats in both accuracy and time, the most accurate first.
    price_notes: what to know before comparing times, in sentences.
    train: trains the winner again; None if Python code has handed the model or the images over.
    predict: classifies pictures with its best run. next_runs: the next sweep.
    other_images: how many runs are not compared because they have other test images.
    left_out: how many runs of the sweep have no results, by state. copies: how many have taken those of an
    equal run.
    mcnemar: of the models of rows 1 and 2, if each recipe ran once.
    search, next_search: what a random or Bayesian search says, and what follows from it; None for a grid.
    front: of a sweep with several objectives, None for other sweeps. Such a sweep has no search by one
    metric: train, predict and next_runs are about the first run of the front.
    """

    path: str
    recipes: tuple[Recipe, ...]
    judged_by: str
    tied: tuple[int, ...]
    tied_runs: tuple[str, ...]
    images: float
    runs: int
    seeds: tuple[int, ...]
    has_luck: bool
    leads: tuple[Lead, ...]
    effects: tuple[Effect, ...]
    interactions: tuple[Interaction, ...]
    inseparable: tuple[tuple[str, ...], ...]
    never_alone: tuple[str, ...]
    diverged: tuple[Diverged, ...]
    cheaper: Recipe | None
    frontier: tuple[int, ...]
    price_notes: tuple[str, ...]
    train: CommandLine | None
    predict: CommandLine
    next_runs: NextRuns
    other_images: int
    left_out: dict[str, int]
    mcnemar: McNemar | None = None
    search: Search | None = None
    next_search: NextSearch | None = None
    tie: Tie | None = None
    selection: Selection | None = None
    frozen: FrozenPass | None = None
    copies: int = 0
    front: Front | None = None

    @property
    def winner(self) -> Recipe:
        return self.recipes[0]

    @property
    def contenders(self) -> tuple[Lead, ...]:
        """The recipes that may be as good as the winner: its lead over them is not settled."""
        return tuple(lead for lead in self.leads if not lead.settled)

    @property
    def better(self) -> tuple[Lead, ...]:
        """The recipes that are settled to be better than the winner on the test images, best first.

        None of a sweep with several objectives, which has no winner.
        """
        return self.selection.better if self.selection and self.front is None else ()

    @property
    def finished(self) -> int:
        """How many runs of the sweep have finished, with those that are not compared."""
        return self.runs + self.other_images + self.copies + self.left_out.get(RunState.FINISHED, 0)

    @property
    def most_seeds(self) -> int:
        """The largest number of seeds of a recipe."""
        return max(recipe.accuracy.n for recipe in self.recipes)

    def with_flags(self, flags: Sequence[str]) -> Answer:
        """The same answer with more flags in all of its commands, such as --local."""

        def more(command: CommandLine | None) -> CommandLine | None:
            return command and command.with_flags(flags)

        search = self.next_search
        return dataclasses.replace(
            self,
            train=more(self.train),
            predict=self.predict.with_flags(flags),
            next_runs=dataclasses.replace(self.next_runs, command=more(self.next_runs.command)),
            next_search=search
            and dataclasses.replace(
                search, search=more(search.search), confirmation=more(search.confirmation)
            ),
        )

    def lead_over(self, recipe: Recipe) -> Lead:
        """The winner's lead over another recipe."""
        return self.leads[recipe.row - 2]

    def __str__(self) -> str:
        # The sentences know this module.
        from wandb_tl.analysis import conclusions

        return "\n".join(conclusions.last_lines(self))

    # The fields would fill screens of a Python shell.
    __repr__ = __str__

    def _repr_html_(self) -> str:
        # It draws, which only a notebook asks for.
        from wandb_tl.analysis.answer_html import render

        return render(self)


def answer(frame: pd.DataFrame, path: str, mcnemar: McNemar | None = None) -> Answer:
    """What the runs of a frame say, see results.Results.frame(). InputError if none has a test accuracy.

    Of runs that are tested on different images, only those that share theirs with most others are compared.
    mcnemar: of the best runs of rows 1 and 2.
    """
    compared, *others = runs_by_recipe.by_test_images(frame)
    if not np.isfinite(compared[METRIC]).any():
        raise InputError(
            f"{path}: none of the {len(compared)} finished runs has a test accuracy: they diverged"
        )
    runs, table = RunsByRecipe(compared), runs_by_recipe.recipes(compared)
    costs = prices.prices(compared, table)
    recipes = _recipes(runs, table, costs)
    leads = effects.leads(runs)
    changes = effects.at_the_winner(runs, 1 + sum(not lead.settled for lead in leads))
    frontier = [
        i + 1 for i in prices.frontier([one.accuracy.mean for one in recipes], [one.seconds for one in costs])
    ]
    front = pareto.front(compared, runs)
    first_run = front.runs[0].run if front and front.runs else recipes[0].best_run
    config = _config(compared, first_run)
    tie = ties.tie(runs)
    choice = selection.selection(runs, leads)
    # More seeds would be judged by the same few images.
    too_few = tie is not None or (choice is not None and choice.better)
    plan = ties.next_runs(runs, config) if too_few else next_runs.propose(runs, config, leads)
    search = after_search = None
    if front is not None:
        plan = next_runs.repeat(plan, config)
    elif (search := searches.search(compared, runs)) is not None:
        after_search = next_search.propose(search, config, _seeds_used(frame))
        plan = dataclasses.replace(
            plan,
            row=None,
            seeds=None,
            varies=None,
            values=after_search.values,
            command=after_search.command,
            runs=after_search.runs,
        )
    return Answer(
        path=path,
        recipes=tuple(recipes),
        judged_by=runs.judged_by,
        tied=tuple(runs.tied_rows),
        tied_runs=tuple(runs.tied_runs(recipes[0].best_run)),
        images=runs.images,
        runs=len(compared),
        seeds=tuple(runs.seeds),
        has_luck=any("seed" not in _config(compared, one.best_run).without_effect for one in recipes),
        leads=tuple(leads),
        effects=tuple(changes),
        interactions=tuple(interactions.interactions(runs)),
        inseparable=tuple(effects.inseparable(runs)),
        never_alone=tuple(effects.never_alone(runs)),
        diverged=tuple(_diverged(compared, table)),
        cheaper=_cheaper(recipes, frontier),
        frontier=tuple(frontier),
        price_notes=tuple(prices.notes(compared, costs)),
        train=commands.train(config, runs.varied),
        predict=commands.predict(path if front is None else _project(path), first_run),
        next_runs=plan,
        other_images=sum(map(len, others)),
        left_out=dict(frame.attrs.get("left_out") or {}),
        copies=int(frame.attrs.get("copies") or 0),
        mcnemar=mcnemar if table["n"].max() == 1 else None,
        search=search,
        next_search=after_search,
        tie=tie,
        selection=choice,
        frozen=_frozen(compared, table),
        front=front,
    )


def _project(path: str) -> str:
    """ENTITY/PROJECT of ENTITY/PROJECT/SWEEP."""
    return "/".join(path.split("/")[:2])


def _recipes(runs: RunsByRecipe, table: pd.DataFrame, costs: list[Price]) -> list[Recipe]:
    """The recipes of runs_by_recipe.recipes(), in its order."""
    return [
        Recipe(
            row=row,
            hyperparameters={name: runs.values[number][name] for name in runs.varied},
            judged=float(runs.judged[number]),
            accuracy=runs.means[number],
            low=float(line["low"]),
            high=float(line["high"]),
            price=price,
            best_run=str(line["best_run"]),
        )
        for row, (number, (_, line), price) in enumerate(
            zip(runs.best_first, table.iterrows(), costs, strict=True), 1
        )
    ]


def _cheaper(recipes: list[Recipe], frontier: list[int]) -> Recipe | None:
    limit = CHEAPER * recipes[0].price.seconds
    on_frontier = (recipes[row - 1] for row in frontier)
    return next((one for one in on_frontier if one.row > 1 and 0 < one.price.seconds <= limit), None)


def _frozen(frame: pd.DataFrame, table: pd.DataFrame) -> FrozenPass | None:
    """The pass through the frozen layers, if the best recipe has some."""
    return prices.frozen_pass(frame) if prices.has_frozen_layers(frame, table["runs"].iloc[0]) else None


def _config(frame: pd.DataFrame, run: str) -> RunConfig:
    """The hyperparameters of a run, as they were configured."""
    row = frame[frame["id"] == run].iloc[0]
    return RunConfig.from_mapping({name: row[name] for name in FIELDS})


def _seeds_used(frame: pd.DataFrame) -> set[int]:
    """The seeds of a search: of its runs, and those that its definition lists."""
    listed = (frame.attrs.get("parameters") or {}).get("seed") or {}
    values = [listed.get("value"), *listed.get("values", ())]
    return {int(seed) for seed in (*frame["seed"], *values) if seed is not None}


def _diverged(frame: pd.DataFrame, table: pd.DataFrame) -> list[Diverged]:
    rows = runs_by_recipe.row_of_each_run(table)
    lost = ~np.isfinite(frame[METRIC]) | ~np.isfinite(frame["avg_train_loss"])
    return [
        Diverged(str(run), str(name), rows.get(str(run)))
        for run, name in frame.loc[lost, ["id", "name"]].itertuples(index=False)
    ]


def is_measured_by_images(recipe: Recipe) -> bool:
    """Whether a recipe has all or no test images right in every run, so that its seeds show no spread."""
    return recipe.accuracy.mean in (0.0, 100.0) and not math.isnan(recipe.low)
