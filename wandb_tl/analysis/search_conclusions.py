"""What a search says, in sentences: the report, the last lines of the commands and notebooks share them.

Sentences are Markdown in which `code` is the only markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from wandb_tl.analysis.commands import SEARCH_RUNS
from wandb_tl.analysis.formatting import code, conjunction, count, level, probability, signed
from wandb_tl.analysis.importance import LEAST_RECIPES, Importance
from wandb_tl.analysis.next_runs import LEAST_SEEDS
from wandb_tl.analysis.next_search import NextSearch
from wandb_tl.analysis.runs_by_recipe import METRIC
from wandb_tl.analysis.searches import LEAST_CORRELATED, Hyperparameter, Search

# What the command is for that trains the best recipe of a search again.
CONFIRM = f"to confirm row 1 with {LEAST_SEEDS} seeds that the search has not used"
# What to install for the importance of hyperparameters.
INSTALL = "pip install scikit-learn"


def introduction(search: Search) -> str:
    """How many recipes were compared, and by which metric."""
    method = {"bayes": "A Bayesian search", "random": "A random search"}.get(search.method, "A search")
    text = f"{method} of {count(len(search.metric), 'recipe')}, ordered by {code(search.judged_by)}"
    if search.judged_by.startswith("val/"):
        text += ", so that no test image chooses"
    elif search.judged_by == METRIC:
        text += (
            ", because some runs have no validation accuracy: the test images choose, which makes the best "
            "accuracy look better than it is"
        )
    if lost := search.diverged:
        verb = "is" if lost == 1 else "are"
        text += f"; {count(lost, 'recipe')} that diverged {verb} the worst"
    text += f". The best quarter is {count(search.quarter, 'recipe')}."
    if search.left_out:
        text += (
            f" {count(search.left_out, 'run')} without results, such as those that were stopped early, "
            f"{'is' if search.left_out == 1 else 'are'} not among them: all that follows is about the others."
        )
    return text


def bounds(search: Search, plan: NextSearch) -> list[str]:
    """Which hyperparameters have their best value at a bound of what was searched."""
    return [_bound(one, plan) for one in search.hyperparameters if one.end is not None]


def _bound(one: Hyperparameter, plan: NextSearch) -> str:
    assert one.space is not None
    text = f"At a bound: the best {code(f'{one.name}={level(one.best)}')} lies at the {one.end} end of "
    text += f"{level(one.space.low)} to {level(one.space.high)}"
    if one.leans:
        text += ", and so does the best quarter"
    else:
        text += f", but the best quarter does not ({values_of_best(one)}), so that may be chance"
    if plan.changes[one.name] == "widened":
        return f"{text}. The next search goes beyond it."
    return f"{text}. Values beyond it are not allowed."


def values_of_best(one: Hyperparameter) -> str:
    """The values that the best quarter has: a range, or the share of each value."""
    if not one.best_quarter:
        return ""
    if one.counts:
        return ", ".join(
            f"{level(value)}: {best} of {total}" for value, (best, total) in one.counts.items() if total
        )
    first, last = one.best_quarter[0], one.best_quarter[-1]
    return level(first) if first == last else f"{level(first)} to {level(last)}"


def correlations(search: Search) -> str:
    """Which hyperparameters go with the metric, and that this says nothing about causes."""
    pairs = [(one, one.correlation) for one in search.hyperparameters if one.correlation is not None]
    if not pairs:
        return (
            f"There is no rank correlation: it takes at least {LEAST_CORRELATED} recipes and numbers that "
            "differ."
        )
    settled = [
        f"{code(one.name)} {signed(correlation.rho)} (n = {correlation.n}, corrected p "
        f"{_equals(correlation.p_corrected)})"
        for one, correlation in sorted(pairs, key=lambda pair: -abs(pair[1].rho))
        if correlation.settled
    ]
    what = conjunction(settled) if settled else "none is settled"
    text = f"Rank correlation with {code(search.judged_by)} (Spearman): {what}; not causal"
    text += ", as recipes of a search differ in several hyperparameters at once"
    if search.method == "bayes":
        text += ", and a Bayesian search returns to what was good"
    return f"{text}. It shows only what rises or falls throughout, not an optimum inside the range."


def importance(search: Search, importances: Sequence[Importance]) -> str:
    """Which hyperparameters matter most, or why that is unknown.

    importances: as importance.importances() returns them.
    """
    if len(search.hyperparameters) == 1:
        return f"Only {code(search.hyperparameters[0].name)} differs, so there is no importance to compare."
    if (n := len(search.metric)) < LEAST_RECIPES:
        return f"No importance: {n} recipes are too few, it takes {LEAST_RECIPES}."
    if len(set(search.ranks)) == 1:
        return f"No importance: all recipes have the same {code(search.judged_by)}."
    if not importances:
        return f"No importance: it needs the package scikit-learn ({INSTALL})."
    settled = [
        f"{code(one.name)} {signed(one.mean)} ± {one.half_width:.2f}" for one in importances if one.settled
    ]
    if not settled:
        return (
            f"Importance: none is settled. {count(n, 'recipe')} do not show which hyperparameter matters "
            "within what was searched; every interval includes 0."
        )
    others = "" if len(settled) == len(importances) else "; the intervals of the others include 0"
    return f"Importance, with 95 % intervals: {conjunction(settled)}{others}."


def method(search: Search, importances: Sequence[Importance]) -> str:
    """How the numbers of the table are computed. importances: as importance.importances() returns them."""
    sentences = []
    if any(one.counts for one in search.hyperparameters):
        sentences.append(
            "“1 of 7” in the column of the best quarter: of 7 recipes with this value, it has 1."
        )
    if any(one.correlation for one in search.hyperparameters):
        sentences.append("p is corrected by Holm for all hyperparameters.")
    if importances:
        sentences.append(
            "Importance is permutation importance in random forests that predict the rank of a recipe: how "
            "much the squared error for recipes that a forest has not seen grows if the values of a "
            "hyperparameter are shuffled, as a share of the variance. Its intervals are over the recipes, "
            "and hold together. Hyperparameters that happen to vary together share it, or one gets what is "
            "due to another."
        )
    return " ".join(sentences)


def next_step(plan: NextSearch) -> str:
    """What the first command of the next search is for."""
    if plan.search is None:
        return CONFIRM
    if plan.is_small and "widened" not in plan.changes.values():
        return f"to search the same values with more runs ({SEARCH_RUNS} runs)"
    words = [
        f"{code(name)} {change}" for name, change in plan.changes.items() if change in ("widened", "narrowed")
    ]
    return f"to search on with {conjunction(words)} ({SEARCH_RUNS} runs)"


def confirmation(search: Search) -> str:
    """What the command is for that trains the best recipe of a search again, and what its runs show."""
    if not search.judged_by.startswith("val/"):
        # The test images have chosen the recipe, with whichever seeds it is trained.
        return CONFIRM
    return f"{CONFIRM}; their test accuracy is the one to report"


def _equals(p: float) -> str:
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"
