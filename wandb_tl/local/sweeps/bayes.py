"""Bayesian search: a Gaussian process over what a sweep's runs reached proposes the next point.

The procedure is that of W&B's own engine (https://github.com/wandb/sweeps, MIT): every parameter is looked at
through its cumulative probability, a Matérn-3/2 process is fitted to the normalized metric, runs under way
count with the value that it expects of them, and of 1,000 random points the one of the largest expected
improvement is tried next. Three things are other than there, because they find better points. The process
knows of noise: without, a metric that differs between two equal runs makes it believe in ever shorter
lengths, and the search circles around its first good point. Candidates are judged where their runs will
stand. And some of them are near the best point so far. Points are vectors in the unit cube; values are to be
minimized.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wandb_tl.local.records.database import Row
from wandb_tl.local.records.run_states import ENDED_BADLY, RunState
from wandb_tl.local.sweeps import distributions, grid

Array = NDArray[np.float64]

# The least noise on the kernel's diagonal, and what keeps a deviation above zero; both are the engine's.
NUGGET = 1e-7
LEAST_DEVIATION = 1e-6
# What is tried as the noise's share of the variance, and as the length over which values are alike.
NOISES = (NUGGET, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
SHORTEST, LONGEST = 0.03, 30.0
# How many points are considered: anywhere, and near the best one so far (a normal deviation on each axis).
CANDIDATES, NEIGHBOURS, NEAR = 1000, 250, 0.05
# Fitting costs the cube of this number; of more runs a random choice counts, another one at each proposal.
MOST_OBSERVATIONS = 100

IMPUTATIONS = ("worst", "best", "latest")


@dataclass(frozen=True)
class Trial:
    """A run as Bayesian search sees it: its point, {"lr": {"value": 0.1}, ...}, and what it logged.

    `least`, `greatest` and `latest` are those of its history's values, None for a run that logged none;
    `summary` is the one that its summary holds. `early_stopped`: hyperband asked it to stop.
    """

    state: str
    arguments: Row
    least: float | None = None
    greatest: float | None = None
    latest: float | None = None
    summary: float | None = None
    early_stopped: bool = False

    def extreme(self, least: bool) -> float | None:
        """The least or the greatest value that the run has shown."""
        logged = self.least if least else self.greatest
        found = [value for value in (logged, self.summary) if value is not None]
        return None if not found else min(found) if least else max(found)


def propose(config: Row, trials: Sequence[Trial], seed: int) -> Row:
    """The next point to try, {"lr": {"value": 0.1}, ...}; the same one for the same seed and trials."""
    rng = np.random.default_rng(seed)
    points, values, pending = observations(config, trials)
    candidates = _candidates(points, values, rng)
    standing = _standing(searched(config), candidates)
    chosen = iter(candidates[best_candidate(points, values, pending, standing, rng)])

    def value_of(path: grid.Path, spec: Row) -> Any:
        name = ".".join(path)
        constant = distributions.kind_of(name, spec) == "constant"
        return distributions.quantile(name, spec, 0.0 if constant else float(next(chosen)))

    return grid.as_arguments((path, value_of(path, spec)) for path, spec in grid.leaves(config["parameters"]))


def searched(config: Row) -> list[tuple[grid.Path, Row]]:
    """The parameters that vary, which are the axes of the unit cube."""
    leaves = grid.leaves(config["parameters"])
    return [
        (path, spec) for path, spec in leaves if distributions.kind_of(".".join(path), spec) != "constant"
    ]


def observations(config: Row, trials: Sequence[Trial]) -> tuple[Array, Array, Array]:
    """Points with their values, to be minimized, and the points of runs under way.

    A run that failed gets the value that `metric.impute` says, by default the worst one that any run logged.
    One that early termination stopped counts with what it reached: the engine takes it for a failure, which
    teaches its users' searches wrong (wandb/sweeps#59).
    """
    metric = config["metric"]
    maximize = metric.get("goal") == "maximize"
    strategy = metric.get("impute") if metric.get("impute") in IMPUTATIONS else "worst"
    running = metric.get("impute_while_running")
    over = [trial for trial in trials if trial.state == RunState.FINISHED or trial.state in ENDED_BADLY]
    found = [value for trial in over if (value := trial.extreme(least=maximize)) is not None]
    worst = (min(found) if maximize else max(found)) if found else 0.0

    def imputed(trial: Trial, how: str) -> float:
        if how == "latest":
            return 0.0 if trial.latest is None else trial.latest
        best = trial.extreme(least=not maximize) if how == "best" else worst
        return 0.0 if best is None else best

    def reached(trial: Trial, otherwise: str) -> float:
        best = trial.extreme(least=not maximize)
        return imputed(trial, otherwise) if best is None else best

    axes = searched(config)
    points, values, pending = [], [], []
    for trial in trials:
        point = _point(axes, trial.arguments)
        if point is None:
            # It did not search this space: a prior run of another script, say.
            continue
        if trial.state == RunState.FINISHED or (trial.state == RunState.KILLED and trial.early_stopped):
            value = reached(trial, strategy)
        elif trial.state in ENDED_BADLY:
            value = imputed(trial, strategy)
        elif trial.state == RunState.RUNNING and running in IMPUTATIONS:
            value = reached(trial, running)
        else:
            pending.append(point)
            continue
        points.append(point)
        values.append(-value if maximize else value)
    width = len(axes)
    return (
        np.array(points, dtype=float).reshape(-1, width),
        np.array(values, dtype=float),
        np.array(pending, dtype=float).reshape(-1, width),
    )


def _point(axes: list[tuple[grid.Path, Row]], arguments: Row) -> list[float] | None:
    point = []
    for path, spec in axes:
        part = distributions.probability(".".join(path), spec, grid.value_at(arguments, path))
        if part is None:
            return None
        point.append(part)
    return point


def _candidates(points: Array, values: Array, rng: np.random.Generator) -> Array:
    width = points.shape[1]
    candidates = rng.random((CANDIDATES, width))
    if not len(points):
        return candidates
    near = points[int(np.argmin(values))] + NEAR * rng.standard_normal((NEIGHBOURS, width))
    # Not quite to the edge, where unbounded distributions have no value.
    return np.concatenate([candidates, np.clip(near, 1e-3, 1 - 1e-3)])


def _standing(axes: list[tuple[grid.Path, Row]], candidates: Array) -> Array:
    """Where the candidates stand once their parameters have taken values that they can have.

    The share of a category is as wide as its probability, but runs of it are all seen at one place.
    """
    standing = candidates.copy()
    for column, (path, spec) in enumerate(axes):
        name = ".".join(path)
        if distributions.is_discrete(name, spec):
            parts = candidates[:, column].tolist()
            values = [distributions.quantile(name, spec, part) for part in parts]
            standing[:, column] = [distributions.probability(name, spec, value) for value in values]
    return standing


def best_candidate(
    points: Array, values: Array, pending: Array, candidates: Array, rng: np.random.Generator
) -> int:
    """Which of the candidates to try: any, as they are random, with fewer than two observations."""
    if len(points) < 2:
        return 0
    best = float(values.min())
    if len(points) > MOST_OBSERVATIONS:
        kept = rng.choice(len(points), MOST_OBSERVATIONS, replace=False)
        points, values = points[kept], values[kept]
    process = Process(points, values)
    if process.fits_badly:
        return 0
    if len(pending):
        pending = pending[:MOST_OBSERVATIONS]
        expected, _ = process.predict(pending)
        points, values = np.concatenate([points, pending]), np.concatenate([values, expected])
        process = Process(points, values, process.length, process.noise)
    return int(np.argmax(process.expected_improvement(candidates, best)))


class Process:
    """A Gaussian process with a Matérn-3/2 kernel of unit variance; length and noise are the likeliest.

    Formulas: Rasmussen and Williams, Gaussian Processes for Machine Learning, (2.25), (2.26), (2.30), (4.17).
    """

    def __init__(
        self, points: Array, values: Array, length: float | None = None, noise: float = NUGGET
    ) -> None:
        scale = max(float(np.abs(values).max()), 1.0)
        # Scaled first: the mean of very large values would overflow.
        scaled = values / scale
        self.mean = float(scaled.mean()) * scale
        self.deviation = (float(scaled.std()) + LEAST_DEVIATION / scale) * scale
        self.points = points
        self.targets = (scaled - scaled.mean()) / (self.deviation / scale)
        self.distances = _distances(points, points)
        self.length, self.noise = (length, noise) if length is not None else self._fit()
        kernel = _matern(self.distances, self.length)
        kernel[np.diag_indices_from(kernel)] += self.noise
        self.factor = np.linalg.cholesky(kernel)
        self.weights = np.linalg.solve(self.factor.T, np.linalg.solve(self.factor, self.targets))

    def likelihoods(self, length: float) -> Array:
        """The log marginal likelihood of the observations for a length of the kernel and each of NOISES."""
        variances, directions = np.linalg.eigh(_matern(self.distances, length))
        # Rounding may put an eigenvalue of zero below it.
        spread = np.maximum(variances, 0)[None, :] + np.array(NOISES)[:, None]
        misfit = ((directions.T @ self.targets) ** 2 / spread).sum(axis=1)
        return -0.5 * (misfit + np.log(spread).sum(axis=1) + len(self.targets) * math.log(2 * math.pi))

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the function at points, in the units of the values."""
        mean, deviation = self._predict(points)
        return mean * self.deviation + self.mean, deviation * self.deviation

    def expected_improvement(self, points: Array, best: float) -> Array:
        """How much below `best` the function is expected to be at points, in normalized units."""
        mean, deviation = self._predict(points)
        gain = (best - self.mean) / self.deviation - mean
        z = gain / (deviation + LEAST_DEVIATION)
        below = np.array([distributions.NORMAL.cdf(value) for value in z])
        return gain * below + deviation * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

    @property
    def fits_badly(self) -> bool:
        """Whether the length has run into a bound, where the process says nothing about the function."""
        return bool(np.isclose(math.log(self.length), [math.log(SHORTEST), math.log(LONGEST)]).any())

    def _predict(self, points: Array) -> tuple[Array, Array]:
        across = _matern(_distances(points, self.points), self.length)
        reduced = np.linalg.solve(self.factor, across.T)
        variance = 1 - (reduced**2).sum(axis=0)
        return across @ self.weights, np.sqrt(np.maximum(variance, 0))

    def _fit(self) -> tuple[float, float]:
        """The most likely length and noise: the best of a coarse grid, then by golden section around it."""
        tried: dict[float, Array] = {}

        def likelihood(place: float) -> float:
            if place not in tried:
                tried[place] = self.likelihoods(math.exp(place))
            return float(tried[place].max())

        grid = [float(place) for place in np.linspace(math.log(SHORTEST), math.log(LONGEST), 15)]
        best = grid.index(max(grid, key=likelihood))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        golden = (math.sqrt(5) - 1) / 2
        for _ in range(10):
            left, right = high - golden * (high - low), low + golden * (high - low)
            if likelihood(left) > likelihood(right):
                high = right
            else:
                low = left
        found = max(tried, key=likelihood)
        return math.exp(found), NOISES[int(np.argmax(tried[found]))]


def _distances(some: Array, others: Array) -> Array:
    return np.sqrt(((some[:, None, :] - others[None, :, :]) ** 2).sum(axis=2))


def _matern(distances: Array, length: float) -> Array:
    scaled = math.sqrt(3) * distances / length
    return (1 + scaled) * np.exp(-scaled)
