"""Bayesian search: a Gaussian process, fitted to the values of a sweep's runs, proposes the next point.

The procedure is that of W&B's own engine (https://github.com/wandb/sweeps, MIT): every parameter is
represented by its cumulative probability, a Matérn-3/2 process is fitted to the normalized metric, running
runs count with the value that the process predicts for them, and of 1,000 random points the one with the
largest expected improvement is tried next.

Three things differ from the engine, because they find better points. The process models noise: without it, a
metric that differs between two equal runs leads to ever shorter lengths, and the search circles around its
first good point. Candidates are judged at the values that their runs will have. And some of them are near the
best point so far. Points are vectors in the unit cube; values are to be minimized.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from wandb_tl.local.records.run_states import ENDED_BADLY, RunState
from wandb_tl.local.sweeps import distributions, grid
from wandb_tl.local.sweeps.observations import Trial, sign_of
from wandb_tl.local.sweeps.sweep_config import Imputation, Parameter, Point, SweepConfig

Array = NDArray[np.float64]

# The least noise on the kernel's diagonal, and the term that keeps deviations above zero, as in the engine.
NUGGET = 1e-7
LEAST_DEVIATION = 1e-6
# The values that the fit tries for the noise's share of the variance and for the kernel's length.
NOISES = (NUGGET, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
SHORTEST, LONGEST = 0.03, 30.0
# The numbers of candidates anywhere and near the best point so far, and their normal deviation from it.
CANDIDATES, NEIGHBOURS, NEAR = 1000, 250, 0.05
# Fitting costs the cube of this number. Of more runs, each proposal uses another random choice.
MOST_OBSERVATIONS = 100


def seed_of(text: str) -> int:
    """The seed that a text stands for."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def propose(config: SweepConfig, trials: Sequence[Trial], seed: int) -> Point:
    """The next point to try; the same one for the same seed and trials."""
    rng = np.random.default_rng(seed)
    points, values, pending = observations(config, trials)
    candidates = _candidates(points, values, rng)
    places = _places(searched(config), candidates)
    coordinates = iter(candidates[best_candidate(points, values, pending, places, rng)])

    def value_of(spec: Parameter) -> Any:
        share = 0.0 if distributions.is_constant(spec) else float(next(coordinates))
        return distributions.quantile(spec, share)

    return grid.as_point((path, value_of(spec)) for path, spec in grid.leaves(config["parameters"]))


def searched(config: SweepConfig) -> list[tuple[grid.ParameterPath, Parameter]]:
    """The parameters that vary, which are the axes of the unit cube."""
    leaves = grid.leaves(config["parameters"])
    return [(path, spec) for path, spec in leaves if not distributions.is_constant(spec)]


def observations(config: SweepConfig, trials: Sequence[Trial]) -> tuple[Array, Array, Array]:
    """Points with their values, to be minimized, and the points of running runs.

    A run that failed gets the value that `metric.impute` selects, by default the worst one that any run
    logged. A run that early termination stopped counts with the value that it reached: the engine takes it
    for a failure, which misleads the search (wandb/sweeps#59).
    """
    impute, running = config["metric"].get("impute"), config["metric"].get("impute_while_running")
    sign, worst = sign_of(config), _worst(config, trials)
    axes = searched(config)
    points, values, pending = [], [], []
    for trial in trials:
        point = _coordinates(axes, trial.arguments)
        if point is None:
            # A point of another space: a prior run of another script, say.
            continue
        best = trial.extreme(least=sign > 0)
        if trial.state == RunState.FINISHED or (trial.state == RunState.KILLED and trial.early_stopped):
            value = _imputed(trial, impute, best, worst) if best is None else best
        elif trial.state in ENDED_BADLY:
            value = _imputed(trial, impute, best, worst)
        elif trial.state == RunState.RUNNING and running in get_args(Imputation):
            value = _imputed(trial, running, best, worst) if best is None else best
        else:
            pending.append(point)
            continue
        points.append(point)
        values.append(sign * value)
    width = len(axes)
    return (
        np.array(points, dtype=float).reshape(-1, width),
        np.array(values, dtype=float),
        np.array(pending, dtype=float).reshape(-1, width),
    )


def _worst(config: SweepConfig, trials: Sequence[Trial]) -> float:
    """The worst value that a run which has ended logged, 0 if none logged one."""
    least = sign_of(config) > 0
    over = [trial for trial in trials if trial.state == RunState.FINISHED or trial.state in ENDED_BADLY]
    values = [value for trial in over if (value := trial.extreme(not least)) is not None]
    return (max(values) if least else min(values)) if values else 0.0


def _imputed(trial: Trial, how: str | None, best: float | None, worst: float) -> float:
    """The value of a run that has none, or none that counts; 0 where it logged nothing to choose from."""
    value = {"latest": trial.latest, "best": best}.get(how or "", worst)
    return 0.0 if value is None else value


def _coordinates(axes: list[tuple[grid.ParameterPath, Parameter]], point: Point) -> list[float] | None:
    """A point in the unit cube, None for one that has a value that a parameter cannot have."""
    coordinates = []
    for path, spec in axes:
        share = distributions.probability(spec, grid.value_at(point, path))
        if share is None:
            return None
        coordinates.append(share)
    return coordinates


def _candidates(points: Array, values: Array, rng: np.random.Generator) -> Array:
    width = points.shape[1]
    candidates = rng.random((CANDIDATES, width))
    if not len(points):
        return candidates
    near = points[int(np.argmin(values))] + NEAR * rng.standard_normal((NEIGHBOURS, width))
    # Clipped short of the edges, where unbounded distributions have no value.
    return np.concatenate([candidates, np.clip(near, 1e-3, 1 - 1e-3)])


def _places(axes: list[tuple[grid.ParameterPath, Parameter]], candidates: Array) -> Array:
    """The candidates moved to the values that their parameters can have.

    The share of a category is as wide as its probability, but all its runs are observed at one coordinate.
    """
    places = candidates.copy()
    for column, (_, spec) in enumerate(axes):
        if distributions.is_discrete(spec):
            values = [distributions.quantile(spec, share) for share in candidates[:, column].tolist()]
            places[:, column] = [distributions.probability(spec, value) for value in values]
    return places


def best_candidate(
    points: Array, values: Array, pending: Array, candidates: Array, rng: np.random.Generator
) -> int:
    """The index of the candidate to try; the first, a random one, with fewer than two observations."""
    if len(points) < 2:
        return 0
    best = float(values.min())
    if len(points) > MOST_OBSERVATIONS:
        sample = rng.choice(len(points), MOST_OBSERVATIONS, replace=False)
        points, values = points[sample], values[sample]
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
    """A Gaussian process with a Matérn-3/2 kernel of unit variance, and the most likely length and noise.

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
        misfit: Array = ((directions.T @ self.targets) ** 2 / spread).sum(axis=1)
        determinant: Array = np.log(spread).sum(axis=1)
        return -0.5 * (misfit + determinant + len(self.targets) * math.log(2 * math.pi))

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the function at points, in the units of the values."""
        mean, deviation = self._predict(points)
        return mean * self.deviation + self.mean, deviation * self.deviation

    def expected_improvement(self, points: Array, best: float) -> Array:
        """The expected improvement on `best`, the least value so far, at points, in normalized units."""
        mean, deviation = self._predict(points)
        gain = (best - self.mean) / self.deviation - mean
        z: Array = gain / (deviation + LEAST_DEVIATION)
        below: Array = np.array([distributions.NORMAL.cdf(value) for value in z])
        density: Array = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        return gain * below + deviation * density

    @property
    def fits_badly(self) -> bool:
        """Whether the fitted length is at a bound, where the process does not describe the function."""
        return bool(np.isclose(math.log(self.length), [math.log(SHORTEST), math.log(LONGEST)]).any())

    def _predict(self, points: Array) -> tuple[Array, Array]:
        across = _matern(_distances(points, self.points), self.length)
        reduced = np.linalg.solve(self.factor, across.T)
        variance = 1 - (reduced**2).sum(axis=0)
        return across @ self.weights, np.sqrt(np.maximum(variance, 0))

    def _fit(self) -> tuple[float, float]:
        """The most likely length and noise: the best of a coarse grid, then by golden section around it."""
        likelihoods: dict[float, Array] = {}

        def likelihood(logarithm: float) -> float:
            if logarithm not in likelihoods:
                likelihoods[logarithm] = self.likelihoods(math.exp(logarithm))
            return float(likelihoods[logarithm].max())

        grid = [float(length) for length in np.linspace(math.log(SHORTEST), math.log(LONGEST), 15)]
        best = grid.index(max(grid, key=likelihood))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        golden = (math.sqrt(5) - 1) / 2
        for _ in range(10):
            left, right = high - golden * (high - low), low + golden * (high - low)
            if likelihood(left) > likelihood(right):
                high = right
            else:
                low = left
        best_length = max(likelihoods, key=likelihood)
        return math.exp(best_length), NOISES[int(np.argmax(likelihoods[best_length]))]


def _distances(some: Array, others: Array) -> Array:
    squares = np.zeros((len(some), len(others)))
    # By parameters: all differences at once could take gigabytes.
    for own, other in zip(some.T, others.T, strict=True):
        squares += (own[:, None] - other[None, :]) ** 2
    return np.sqrt(squares)


def _matern(distances: Array, length: float) -> Array:
    scaled = math.sqrt(3) * distances / length
    return (1 + scaled) * np.exp(-scaled)
