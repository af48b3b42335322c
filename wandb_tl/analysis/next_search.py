"""The next search: ranges that are widened where the best value lies at a bound, and narrowed elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from wandb_tl.analysis import commands, runs_by_recipe
from wandb_tl.analysis.commands import CommandLine
from wandb_tl.analysis.intervals import ALPHA
from wandb_tl.analysis.next_runs import LEAST_SEEDS
from wandb_tl.analysis.searches import Hyperparameter, Search, Space
from wandb_tl.config import FIELDS, RunConfig
from wandb_tl.errors import InputError
from wandb_tl.hyperparameters import Value

# A best quarter of fewer recipes is too small to leave out values.
LEAST_QUARTER = 5
# A range is narrowed to that of the best quarter with this share of it on either side ...
MARGIN = 0.1
# ... if at most this share of it remains.
NARROW = 2 / 3
# A range is widened by this share of it, and narrowed on the other side by at most the same, so that searches
# which follow a bound do not shrink.
WIDENED = 0.5
# Values in place of a range.
VALUES = 7

Change = Literal["widened", "narrowed", "kept"]


@dataclass(frozen=True)
class NextSearch:
    """What to run after a search.

    changes: what happens to each hyperparameter. values: what the command tries, by hyperparameter. search:
    searches these; None if no hyperparameter changes and there are enough recipes, so that another search
    would say the same, or if Python code has handed the model or the images over. confirmation: trains the
    best recipe with seeds that the search has not used; None in the latter case. is_small: whether there are
    too few recipes to leave out values.
    """

    changes: dict[str, Change]
    values: dict[str, list[Value]]
    search: CommandLine | None
    confirmation: CommandLine | None
    is_small: bool

    @property
    def command(self) -> CommandLine | None:
        """What to run first."""
        return self.search or self.confirmation

    @property
    def runs(self) -> int:
        """How many runs the first command has."""
        return commands.SEARCH_RUNS if self.search else LEAST_SEEDS


def propose(search: Search, config: RunConfig, seeds: Collection[int]) -> NextSearch:
    """What to run after a search. config: of its best recipe. seeds: those that the search has used."""
    is_small = search.quarter < LEAST_QUARTER
    changes: dict[str, Change] = {}
    values: dict[str, list[Value]] = {}
    for one in search.hyperparameters:
        values[one.name], changes[one.name] = _next(one, config, is_small, search.quarter)
    is_worth_it = is_small or set(changes.values()) != {"kept"}
    return NextSearch(
        changes=changes,
        values=values,
        search=commands.search(config, values) if is_worth_it else None,
        confirmation=commands.sweep(config, {"seed": fresh_seeds(seeds)}),
        is_small=is_small,
    )


def fresh_seeds(used: Collection[int]) -> list[int]:
    """The smallest LEAST_SEEDS seeds that are not among the used ones.

    The best of many runs owes its place to its seed as well: with the same one it would repeat its luck.
    """
    return list(itertools.islice((seed for seed in itertools.count() if seed not in used), LEAST_SEEDS))


def _next(one: Hyperparameter, config: RunConfig, is_small: bool, quarter: int) -> tuple[list[Value], Change]:
    """The next values of a hyperparameter, and what becomes of those that it had."""
    space = one.space
    if space is None or (space.listed and one.counts):
        every = [*one.counts, *(_untried(one, space) if space else ())]
        dropped = set() if is_small else _not_worth_trying(one, quarter)
        inside = runs_by_recipe.in_order(value for value in every if value not in dropped)
        change: Change = "narrowed" if dropped else "kept"
        low, high = 0.0, 1.0
    else:
        low, high = (0.0, 1.0) if is_small else _range_of_best(one, space)
        inside = _between(one.name, space, low, high, config)
        change = "narrowed" if (low, high) != (0, 1) else "kept"
    if space is None or one.end is None:
        return inside, change
    if space.listed and one.counts:
        wider = runs_by_recipe.in_order([*inside, *_one_step_more(one, space, config)])
    else:
        low, high = (
            (-WIDENED, max(high, 1 - WIDENED)) if one.end == "lower" else (min(low, WIDENED), 1 + WIDENED)
        )
        wider = _between(one.name, space, low, high, config)
    # Some bounds cannot be passed: no weight decay is below 0.
    is_wider = any(not space.low <= float(value) <= space.high for value in wider)
    return (wider, "widened") if is_wider else (inside, change)


def _not_worth_trying(one: Hyperparameter, quarter: int) -> set[Value]:
    """The values that the best quarter lacks although so many of all recipes have them."""
    recipes = sum(value is not None for value in one.values)
    drawn = min(quarter, len(one.best_quarter))
    rejected = {
        value
        for value, (best, total) in one.counts.items()
        if best == 0 and stats.hypergeom.cdf(0, recipes, total, drawn) < ALPHA
    }
    if one.space is None or not one.best_quarter:
        return rejected
    # Numbers keep no gap.
    first, last = float(one.best_quarter[0]), float(one.best_quarter[-1])
    return {value for value in rejected if not first < float(value) < last}


def _untried(one: Hyperparameter, space: Space) -> list[Value]:
    """The numbers that the sweep lists and no run has."""
    tried = {float(value) for value in one.counts}
    return [_rounded(one.name, number) for number in space.listed if number not in tried]


def _one_step_more(one: Hyperparameter, space: Space, config: RunConfig) -> list[Value]:
    """The number beyond the end at which the best one lies, one step further; none if it is not allowed."""
    first, second, *_ = shares = [space.share(number) for number in space.listed]
    share = first - second if one.end == "lower" else 2 * shares[-1] - shares[-2]
    value = _rounded(one.name, space.at(share))
    return [value] if _is_allowed(config, one.name, value) else []


def _range_of_best(one: Hyperparameter, space: Space) -> tuple[float, float]:
    """The shares of a space between which the best quarter lies, with a margin; all if that is most of it."""
    shares = [space.share(float(value)) for value in one.best_quarter]
    if not shares:
        return 0.0, 1.0
    low, high = max(min(shares) - MARGIN, 0.0), min(max(shares) + MARGIN, 1.0)
    return (low, high) if high - low <= NARROW else (0.0, 1.0)


def _between(name: str, space: Space, low: float, high: float, config: RunConfig) -> list[Value]:
    """Numbers between two shares of a space that a recipe can have, in order."""
    numbers = [space.at(low + (high - low) * i / (VALUES - 1)) for i in range(VALUES)]
    rounded = dict.fromkeys(_rounded(name, number) for number in numbers)
    return [value for value in rounded if _is_allowed(config, name, value)]


def _rounded(name: str, number: float) -> Value:
    """A number in two digits, or as the integer that the hyperparameter takes."""
    return round(number) if isinstance(FIELDS[name].default, int) else float(f"{number:.2g}")


def _is_allowed(config: RunConfig, name: str, value: Value) -> bool:
    try:
        RunConfig.from_mapping(config.as_dict() | {name: value})
    except InputError:
        return False
    return True
