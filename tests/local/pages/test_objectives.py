"""The Pareto front of runs, and ranges on the axes of parallel coordinates."""

from __future__ import annotations

import random

import pytest

from wandb_tl.local.pages import objectives, ranges
from wandb_tl.local.pages.objectives import Objective
from wandb_tl.local.pages.values import Run
from wandb_tl.local.sweeps import sweep_config

LOSS, SPEED = Objective("loss", "loss", False), Objective("speed", "speed", True)


def run(number: int, **summary: object) -> Run:
    none: dict = {"tags": [], "group": None, "job_type": None, "sweep": "s", "row": {}}
    return Run(f"r{number}", "n", "finished", 0, 0, {}, summary, color="#000000", dash="solid", **none)


def test_runs_that_no_other_run_beats_are_on_the_front() -> None:
    values = [(1, 1), (2, 3), (3, 2), (4, 5), (5, 4), (2, 3), (1, float("nan")), (0, None)]
    runs = [run(i, loss=loss, speed=speed) for i, (loss, speed) in enumerate(values)]
    assert [one.id for one in objectives.front(runs, [LOSS, SPEED])] == ["r0", "r1", "r5", "r3"]
    assert objectives.front([], [LOSS, SPEED]) == []
    chart = objectives.scatter(runs, [LOSS, SPEED], (LOSS, SPEED))
    assert chart["front"] == [[1, 1], [2, 3], [2, 3], [4, 5]] and len(chart["points"]) == 6


def test_the_front_of_many_runs_that_are_all_on_it() -> None:
    runs = [run(i, loss=i, speed=i) for i in range(20_000)]
    assert objectives.front(runs[::-1], [LOSS, SPEED]) == runs


@pytest.mark.parametrize("seed", range(5))
def test_the_front_of_three_objectives_is_that_of_all_comparisons(seed: int) -> None:
    chance = random.Random(seed)
    third = Objective("size", "size", False)
    runs = [run(i, **{key: chance.randrange(6) for key in ("loss", "speed", "size")}) for i in range(60)]

    def costs(one: Run) -> tuple[float, ...]:
        return one.summary["loss"], -one.summary["speed"], one.summary["size"]

    best = {
        one.id
        for one in runs
        if not any(
            costs(other) != costs(one) and all(a <= b for a, b in zip(costs(other), costs(one), strict=True))
            for other in runs
        )
    }
    assert {one.id for one in objectives.front(runs, [LOSS, SPEED, third])} == best
    assert len(objectives.pairs([LOSS, SPEED, third])) == 3


def test_objectives_are_read_from_metrics_and_from_a_metric() -> None:
    several = """{method: custom, scheduler: {engine: optuna}, parameters: {a: {value: 1}},
        metrics: [{name: loss, goal: minimize}, {name: speed, goal: maximize}, {goal: minimize}]}"""
    config = sweep_config.parse(several)
    runs = [run(0, loss=1, **{"speed.max": 2})]
    assert objectives.of_sweep(config, runs) == [LOSS, Objective("speed", "speed.max", True)]
    assert sweep_config.metric_name(config) == "loss" and not sweep_config.maximizes(config)
    one = sweep_config.parse(
        "{method: random, parameters: {a: {value: 1}}, metric: {name: b, goal: maximize}}"
    )
    assert objectives.of_sweep(one, []) == [Objective("b", "b", True)]
    assert objectives.of_sweep(sweep_config.parse("{method: random, parameters: {a: {value: 1}}}"), []) == []


AXES = [
    {"type": "log", "name": "lr"},
    {"type": "category", "name": "opt", "categories": ["Adam", "Lion", "SGD"]},
]
LINES = [
    {"id": "a", "values": [0.1, "Adam"]},
    {"id": "b", "values": [0.01, "Lion"]},
    {"id": "c", "values": [None, "SGD"]},
]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({}, None),
        ({"from.lr": "", "to.other": "1"}, None),
        ({"from.lr": "0.05"}, {"a"}),
        ({"to.lr": "0.05"}, {"b"}),
        ({"from.lr": "0.01", "to.lr": "0.1"}, {"a", "b"}),
        ({"from.opt": "Lion"}, {"b", "c"}),
        ({"from.opt": "Lion", "from.lr": "0"}, {"b"}),
        ({"from.opt": "SGD", "to.opt": "Adam"}, set()),
        ({"from.lr": "nan"}, None),
        ({"from.lr": "x", "from.opt": "x"}, None),
    ],
)
def test_ranges(query: dict[str, str], ids: set[str] | None) -> None:
    assert ranges.within(AXES, LINES, query) == ids
