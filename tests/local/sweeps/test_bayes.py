"""Bayesian search against W&B's own engine: the same data, the same process, no worse regret."""

from __future__ import annotations

import json
import math
import random
import time
import warnings
from collections.abc import Callable

import numpy as np
import psutil
import pytest
import yaml
from live_server import Server
from threadpoolctl import threadpool_limits

from wandb_tl.local.sweeps import bayes, distributions, grid

with warnings.catch_warnings():
    # The engine's own warnings.
    warnings.simplefilter("ignore")
    from sweeps import SweepRun
    from sweeps import bayes_search as engine
    from sweeps.params import HyperParameter

SPECS = {
    "u": {"distribution": "uniform", "min": -1.0, "max": 3.0},
    "lu": {"distribution": "log_uniform", "min": -5, "max": 1},
    "luv": {"distribution": "log_uniform_values", "min": 1e-5, "max": 0.1},
    "ilu": {"distribution": "inv_log_uniform", "min": -5, "max": 1},
    "iluv": {"distribution": "inv_log_uniform_values", "min": 1e-5, "max": 0.1},
    "n": {"distribution": "normal", "mu": 1, "sigma": 2},
    "ln": {"distribution": "log_normal", "mu": 1.0, "sigma": 0.5},
    "b": {"distribution": "beta", "a": 2, "b": 5},
    "b2": {"distribution": "beta", "a": 0.5, "b": 0.7},
    "qu": {"distribution": "q_uniform", "min": 0, "max": 10, "q": 2},
    "qlu": {"distribution": "q_log_uniform", "min": 0, "max": 4, "q": 3},
    "qluv": {"distribution": "q_log_uniform_values", "min": 1, "max": 100, "q": 0.5},
    "qn": {"distribution": "q_normal", "mu": 3.0, "q": 0.25},
    "qln": {"distribution": "q_log_normal", "q": 1},
    "qb": {"distribution": "q_beta", "a": 2, "b": 2, "q": 0.1},
    "i": {"min": 1, "max": 7},
    "c": {"values": ["a", "b", "c", "d", "e"]},
    "cp": {"values": ["a", "b", "c"], "probabilities": [0.2, 0.3, 0.5]},
}


@pytest.mark.parametrize("name", SPECS)
def test_distributions_are_those_of_the_engine(name: str) -> None:
    spec, reference = SPECS[name], HyperParameter(name, SPECS[name])
    for part in np.random.default_rng(0).random(50).tolist():
        value, expected = distributions.quantile(spec, part), reference.ppf(part)
        assert value == expected if isinstance(expected, str) else math.isclose(value, expected, rel_tol=1e-9)
        if name == "cp":
            continue  # The engine's own function fails there.
        place = np.array([spec["values"].index(value) if name == "c" else value])
        assert distributions.probability(spec, value) == pytest.approx(reference.cdf(place)[0], abs=1e-9)


CONFIG = {
    "method": "bayes",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {
        "batch": {"min": 1, "max": 64},
        "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1.0},
        "optimizer": {"values": ["adam", "sgd", "lion"]},
        "outer": {"parameters": {"depth": {"min": 0.5, "max": 2.5}, "fixed": {"value": 7}}},
    },
}
STATES = ("finished", "running", "failed", "crashed", "killed", "preempting", "preempted", "pending")


def runs(goal: str, seed: int) -> tuple[list[bayes.Trial], list[SweepRun]]:
    """The same 24 runs for us and for the engine: of all states, with and without values and summary."""
    rng = random.Random(seed)
    ours, theirs = [], []
    for _ in range(24):
        point = grid.draw(CONFIG, rng)
        values = [rng.uniform(-2, 5) for _ in range(rng.choice((0, 1, 6)))]
        logged = [*values, *rng.choice(([], [float("nan")], [float("inf")]))]
        summary = rng.choice((None, rng.uniform(-2, 5)))
        state = rng.choice(STATES)
        ends = (min(values), max(values), values[-1]) if values else (None, None, None)
        ours.append(bayes.Trial(state, point, *ends, summary))
        theirs.append(
            SweepRun(
                state=state,
                config=point,
                history=[{"loss": value} for value in logged],
                summary_metrics={} if summary is None else {"loss": summary},
            )
        )
    return ours, theirs


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
@pytest.mark.parametrize("impute", ["worst", "best", "latest"])
@pytest.mark.parametrize("while_running", ["false", "best", "latest", "worst"])
def test_observations_are_those_of_the_engine(goal: str, impute: str, while_running: str) -> None:
    metric = {"name": "loss", "goal": goal, "impute": impute, "impute_while_running": while_running}
    config = CONFIG | {"metric": metric}
    for seed in range(5):
        ours, theirs = runs(goal, seed)
        points, values, pending = bayes.observations(config, ours)
        _, their_points, their_pending, their_values, _ = engine._construct_gp_data(theirs, config)
        np.testing.assert_allclose(points, np.asarray(their_points).reshape(-1, 4), atol=1e-9)
        np.testing.assert_allclose(pending, np.asarray(their_pending).reshape(-1, 4), atol=1e-9)
        np.testing.assert_allclose(values, their_values, atol=1e-9)


def test_run_stopped_early_counts_with_what_it_reached() -> None:
    point = grid.draw(CONFIG, random.Random(0))
    stopped = bayes.Trial("killed", point, 0.4, 9.0, 0.5, 0.5, early_stopped=True)
    failed = bayes.Trial("failed", point, 0.1, 2.0, 0.1)
    _, values, _ = bayes.observations(CONFIG, [stopped, failed])
    assert values.tolist() == [0.4, 9.0]


def test_run_of_another_space_is_no_observation() -> None:
    point = grid.draw(CONFIG, random.Random(0))
    elsewhere = {**point, "optimizer": {"value": "adagrad"}}
    without = {name: value for name, value in point.items() if name != "lr"}
    trials = [bayes.Trial("finished", arguments, 1, 1, 1) for arguments in (point, elsewhere, without)]
    points, values, _ = bayes.observations(CONFIG, trials)
    assert points.shape == (1, 4) and values.shape == (1,)


@pytest.mark.parametrize("count", [2, 5, 30, 100])
def test_process_is_that_of_the_engine(count: int) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        points = rng.random((count, 3))
        values = 1e3 * (np.sin(5 * points[:, 0]) + points[:, 1] ** 2 + 0.05 * rng.standard_normal(count))
        theirs, mean, deviation = engine.fit_normalized_gaussian_process(points, values)
        length, likelihood = float(theirs.kernel_.length_scale), theirs.log_marginal_likelihood_value_
        ours = bayes.Process(points, values, length)
        assert ours.likelihoods(length)[0] == pytest.approx(likelihood, abs=1e-4)
        places = rng.random((40, 3))
        expected, spread = theirs.predict(places, return_std=True)
        got, got_spread = ours.predict(places)
        np.testing.assert_allclose(got, expected * deviation + mean, rtol=1e-6, atol=1e-6 * deviation)
        np.testing.assert_allclose(got_spread, spread * deviation, atol=1e-6 * deviation)
        if bayes.SHORTEST < length < bayes.LONGEST:
            # With the noise to choose, no length is less likely than theirs.
            fitted = bayes.Process(points, values)
            assert fitted.likelihoods(fitted.length).max() >= likelihood - 1e-3


def test_expected_improvement_chooses_as_the_engine_does() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        points, pending, candidates = rng.random((20, 2)), rng.random((3, 2)), rng.random((500, 2))
        values = ((points - 0.3) ** 2).sum(axis=1) + np.cos(7 * points[:, 0])
        chosen, *_ = engine.next_sample(
            sample_X=points, sample_y=values, current_X=pending, test_X=candidates
        )
        first, _, _ = engine.fit_normalized_gaussian_process(points, values)
        second, _, _ = engine.train_gaussian_process(points, values, current_X=pending)
        expected, _ = bayes.Process(points, values, float(first.kernel_.length_scale)).predict(pending)
        process = bayes.Process(
            np.concatenate([points, pending]),
            np.concatenate([values, expected]),
            float(second.kernel_.length_scale),
        )
        improvement = process.expected_improvement(candidates, values.min())
        np.testing.assert_allclose(candidates[np.argmax(improvement)], chosen)


def branin(point: dict, _noise: float) -> float:
    x, y = point["x"]["value"], point["y"]["value"]
    bowl = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return bowl**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.397887


def quadratic(point: dict, noise: float) -> float:
    offset = {"sgd": 0.5, "adam": 0.0, "lion": 0.3}[point["optimizer"]["value"]]
    return (math.log10(point["lr"]["value"]) + 3) ** 2 / 4 + offset + 0.02 * noise


FUNCTIONS: dict[str, tuple[Callable[[dict, float], float], dict]] = {
    "branin": (branin, {"x": {"min": -5.0, "max": 10.0}, "y": {"min": 0.0, "max": 15.0}}),
    "quadratic": (
        quadratic,
        {
            "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1.0},
            "optimizer": {"values": ["sgd", "adam", "lion"]},
        },
    ),
}


# What sweeps 0.3.0 reaches with bayes_search_next_run in 30 runs, as the mean over 48 seeds of np.random. It
# takes 0.8 s a seed and differs much between them, so that it is not measured again here.
REGRET_OF_THE_ENGINE = {"branin": 0.091, "quadratic": 0.019}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_regret_after_30_runs_is_no_worse_than_the_engines(name: str) -> None:
    function, parameters = FUNCTIONS[name]
    config = {"method": "bayes", "metric": {"name": "loss", "goal": "minimize"}, "parameters": parameters}
    regrets = []
    for seed in range(12):
        noise, trials = np.random.default_rng(seed).standard_normal(30), []
        for step in range(30):
            point = bayes.propose(config, trials, seed * 1000 + step)
            value = function(point, noise[step])
            trials.append(bayes.Trial("finished", point, value, value, value))
        regrets.append(min(trial.least for trial in trials))
    assert np.mean(regrets) <= REGRET_OF_THE_ENGINE[name], regrets


def test_without_a_value_of_the_metric_points_are_drawn_at_random() -> None:
    points = [grid.draw(CONFIG, random.Random(number)) for number in range(20)]
    trials = [bayes.Trial("finished", point) for point in points]
    # The first draw of each seed, as before the first run.
    assert all(bayes.propose(CONFIG, trials, seed) == bayes.propose(CONFIG, [], seed) for seed in range(10))


def test_a_hundred_runs_propose_in_well_under_a_second_and_always_the_same() -> None:
    rng = random.Random(1)
    points = [grid.draw(CONFIG, rng) for _ in range(110)]
    losses = [abs(math.log10(point["lr"]["value"]) + 2) for point in points[:100]]
    trials = [
        bayes.Trial("finished", point, loss, loss, loss) for point, loss in zip(points, losses, strict=False)
    ]
    trials += [bayes.Trial("pending", point) for point in points[100:]]
    # As in the server. On a busy machine several threads of numpy's library mostly wait for one another.
    with threadpool_limits(1):
        began = time.thread_time()
        proposed = bayes.propose(CONFIG, trials, 1)
        # Less than a tenth of a second, whatever else the machine does.
        assert time.thread_time() - began < 1
    assert proposed == bayes.propose(CONFIG, trials, 1) != bayes.propose(CONFIG, trials, 2)
    assert proposed["outer"]["value"]["fixed"] == 7 and isinstance(proposed["batch"]["value"], int)
    assert abs(math.log10(proposed["lr"]["value"]) + 2) < 1


def first_command(server: Server, config: dict) -> dict:
    """What the server answers to the first agent of a new sweep."""
    create = """mutation ($c: String!) { upsertSweep(input: {config: $c, projectName: "p"}) {
        sweep { name } } }"""
    name = server.query(create, c=yaml.safe_dump(config))["upsertSweep"]["sweep"]["name"]
    join = """mutation ($s: String!) { createAgent(input: {projectName: "p", sweep: $s, host: "here"}) {
        agent { id } } }"""
    agent = server.query(join, s=name)["createAgent"]["agent"]["id"]
    beat = "mutation ($id: ID!) { agentHeartbeat(input: {id: $id}) { commands } }"
    [command] = json.loads(server.query(beat, id=agent)["agentHeartbeat"]["commands"])
    return command


def test_a_server_needs_no_more_threads_for_it(server: Server) -> None:
    # A random search first, so that the threads that answer requests are there.
    first_command(server, CONFIG | {"method": "random"})
    before = psutil.Process(server.process.pid).num_threads()
    assert first_command(server, CONFIG)["args"]["outer"]["value"]["fixed"] == 7
    assert psutil.Process(server.process.pid).num_threads() <= before
