"""How much each hyperparameter of a search matters: permutation importance in random forests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from wandb_tl.analysis.intervals import ALPHA
from wandb_tl.analysis.runs_by_recipe import Floats, in_order
from wandb_tl.analysis.searches import Search
from wandb_tl.hyperparameters import Value

# With fewer recipes, simulated searches in which nothing matters have settled importances too often.
LEAST_RECIPES = 20
# Cross-validation and how often it is repeated; trees of a forest; how often values are shuffled.
FOLDS, REPEATS, TREES, SHUFFLES = 6, 3, 30, 5


@dataclass(frozen=True)
class Importance:
    """What shuffling a hyperparameter does to a forest's predictions for recipes that it has not seen.

    mean: the increase of the squared error, as a share of the variance of what is predicted. half_width: of
    its t-interval over the recipes; the intervals of all hyperparameters hold together with 95 % confidence.
    """

    name: str
    mean: float
    half_width: float

    @property
    def settled(self) -> bool:
        return self.mean > self.half_width


def importances(search: Search) -> list[Importance]:
    """The importance of each hyperparameter for the rank of a recipe by the metric, the largest first.

    Empty if there are too few recipes, if only one hyperparameter differs, or without scikit-learn. Ranks in
    place of the metric: recipes that diverged are the worst ones, but do not outweigh all others. The same
    search gives the same numbers.
    """
    names = [one.name for one in search.hyperparameters]
    ranks = np.asarray(search.ranks)
    if len(ranks) < LEAST_RECIPES or len(names) == 1 or ranks.std() == 0:
        return []
    features = np.column_stack([_numbers(one.values) for one in search.hyperparameters])
    try:
        increases = _increases(features, (ranks - ranks.mean()) / ranks.std())
    except ModuleNotFoundError:
        return []
    quantile = stats.t.ppf(1 - ALPHA / 2 / len(names), len(ranks) - 1)
    half_widths = quantile * increases.std(axis=0, ddof=1) / math.sqrt(len(ranks))
    means = increases.mean(axis=0)
    return [Importance(names[i], float(means[i]), float(half_widths[i])) for i in np.argsort(-means)]


def _increases(features: Floats, target: Floats) -> Floats:
    """How much the squared error of each recipe grows by shuffling each column: (recipes, columns)."""
    # It is in the extra "inspect", which few have installed.
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    random = np.random.default_rng(0)
    increases = np.zeros(features.shape)
    for seed in range(REPEATS):
        for train, test in KFold(FOLDS, shuffle=True, random_state=seed).split(features):
            forest = RandomForestRegressor(TREES, random_state=seed).fit(features[train], target[train])
            tables = [features[test]]
            for column in range(features.shape[1]):
                for _ in range(SHUFFLES):
                    shuffled = features[test]
                    shuffled[:, column] = random.permutation(features[:, column])[: len(test)]
                    tables.append(shuffled)
            # One call for all: a forest takes longer to start than to predict.
            errors = (forest.predict(np.concatenate(tables)).reshape(len(tables), -1) - target[test]) ** 2
            by_column = errors[1:].reshape(features.shape[1], SHUFFLES, -1).mean(axis=1)
            increases[test] += (by_column - errors[0]).T / REPEATS
    return increases


def _numbers(values: Sequence[Value | None]) -> Floats:
    """Values as numbers; strings by their place in order, NaN without effect, which a tree can split off."""
    if any(isinstance(value, str) for value in values):
        levels = in_order(value for value in values if value is not None)
        values = [None if value is None else levels.index(value) for value in values]
    return np.array([math.nan if value is None else float(value) for value in values])
