"""Grids against W&B's own engine: which points there are, and which of them runs have taken."""

from __future__ import annotations

import json
import random
import re
import warnings
from pathlib import Path

import pytest
from live_server import Server, call
from sweep_lab import SweepLab

from wandb_tl.local.sweeps import grid, sweep_rows

with warnings.catch_warnings():
    # The engine's own warnings.
    warnings.simplefilter("ignore")
    from sweeps import SweepRun, next_runs

PARAMETERS = {
    "lr": {"values": [1, 0.1, 1e-3]},
    "flag": {"values": [True, False, None]},
    "layers": {"values": [[1, 2], [3]]},
    "model": {"values": [{"name": "a", "depth": 1}, {"name": "b"}]},
    "seed": {"min": 0, "max": 1},
    "q": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.5},
    "outer": {"parameters": {"inner": {"values": ["x", 2.0]}, "fixed": {"value": 7}}},
    "fixed": {"value": "f"},
}
CONFIG = {"method": "grid", "parameters": PARAMETERS}


def left_by_the_engine(configs: list[dict]) -> set[str]:
    runs = [SweepRun(config=config) for config in configs]
    runs_made = [run for run in next_runs(CONFIG, runs, n=1000) if run is not None]
    return {grid.canonical(run.config) for run in runs_made}


def left(configs: list[dict]) -> set[str]:
    points = (grid.grid_point(CONFIG, config) for config in configs)
    taken = {grid.canonical(point) for point in points if point is not None}
    return set(grid.grid_keys(json.dumps(PARAMETERS))) - taken


def test_all_points_are_those_of_the_engine() -> None:
    assert sweep_rows.expected_runs(CONFIG) == 3 * 3 * 2 * 2 * 2 * 2 * 2 == len(left([]))
    assert left([]) == left_by_the_engine([])


@pytest.mark.parametrize("seed", range(5))
def test_runs_take_the_points_that_the_engine_thinks_they_take(seed: int) -> None:
    """Configs as scripts leave them: other spellings of numbers, keys added, values of their own."""
    rng, configs = random.Random(seed), []
    for point in rng.sample(list(grid.grid(PARAMETERS)), 40):
        config = json.loads(json.dumps(point)) | {"_wandb": {"value": {}}, "own": {"value": 1}}
        change = rng.randrange(6)
        if change == 0:
            config["lr"]["value"] = 1.0
        elif change == 1:
            config["model"]["value"]["added"] = 1
        elif change == 2:
            config["outer"]["value"]["inner"] = rng.choice((2, "elsewhere"))
        elif change == 3:
            config["lr"]["value"] = 0.7
        elif change == 4:
            del config["flag"]
        configs.append(config)
    assert left(configs) == left_by_the_engine(configs)
    assert len(left([])) - 40 <= len(left(configs)) < len(left([]))


def test_points_of_grids_are_kept_by_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    # Those of two of these grids, of 40 points with 20 characters each.
    monkeypatch.setattr(grid.grid_keys, "most", 2000)
    grids = [json.dumps({"a": {"min": 1, "max": 40 + size}}) for size in range(3)]
    first, second = grid.grid_keys(grids[0]), grid.grid_keys(grids[1])
    assert grid.grid_keys(grids[0]) is first
    assert len(grid.grid_keys(grids[2])) == 42
    # The least recently used one made room for the last.
    assert grid.grid_keys(grids[0]) is first
    again = grid.grid_keys(grids[1])
    assert again is not second and again == second


def test_value_that_occurs_twice_makes_one_run() -> None:
    config = {"method": "grid", "parameters": {"a": {"values": [1, 1, 2]}}}
    assert sweep_rows.expected_runs(config) == 2
    assert sweep_rows.expected_runs(config | {"run_cap": 1}) == 1
    assert sweep_rows.expected_runs({"method": "random", "parameters": config["parameters"]}) is None


DRAWN = """
method: {method}
metric: {{name: loss, goal: minimize}}
controller: {{type: cloud, seed: {seed}}}
parameters:
  lr: {{distribution: log_uniform_values, min: 0.001, max: 1}}
  flag: {{values: [true, false]}}
"""


def points_of(lab: SweepLab, config: str, count: int = 8) -> list[str]:
    """The points that a new sweep hands out to an agent, whose runs log a loss that depends on the point."""
    sweep = lab.sweep(config)
    agent, drawn = lab.agent(sweep), []
    for _ in range(count):
        [command] = lab.beat(agent)
        drawn.append(grid.canonical(command["args"]))
        loss = abs(command["args"]["lr"]["value"] - 0.1)
        files = {"wandb-history.jsonl": {"offset": 0, "content": [json.dumps({"loss": loss})]}}
        lab.post(command["run_id"], files=files, complete=True, exitcode=0)
    return drawn


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_seed_draws_the_same_points_again(tmp_path: Path, method: str) -> None:
    lab = SweepLab(tmp_path)
    first = points_of(lab, DRAWN.format(method=method, seed=3))
    assert first == points_of(lab, DRAWN.format(method=method, seed=3)) and len(set(first)) == len(first)
    others = points_of(lab, DRAWN.format(method=method, seed=4))
    without = [points_of(lab, DRAWN.format(method=method, seed="null")) for _ in range(2)]
    assert len({*first, *others, *without[0], *without[1]}) == 4 * len(first)


def test_a_seeded_draw_whose_run_was_deleted_is_drawn_again(tmp_path: Path) -> None:
    lab = SweepLab(tmp_path)
    sweep = lab.sweep(DRAWN.format(method="random", seed=3))
    agent, commands = lab.agent(sweep), []
    for _ in range(3):
        commands += lab.beat(agent)
        lab.post(commands[-1]["run_id"], complete=True, exitcode=0)
    lab.inside(lambda db: db.run("DELETE FROM run WHERE name = ?", commands[1]["run_id"]))
    again = lab.beat(agent)[0]["args"], lab.beat(agent)[0]["args"]
    assert again[0] == commands[1]["args"] and again[1] not in [command["args"] for command in commands]


def test_points_that_a_seed_draws_twice_are_run_twice(tmp_path: Path) -> None:
    lab = SweepLab(tmp_path)
    config = "method: random\ncontroller: {type: cloud, seed: 1}\nparameters:\n  lr: {values: [0.1, 0.2]}\n"
    drawn = points_of(lab, config, 40)
    assert drawn == points_of(lab, config, 40) and 8 < drawn.count(drawn[0]) < 32


def test_the_client_passes_the_seed_on_without_a_warning(server: Server, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(DRAWN.format(method="random", seed=3) + "program: train.py\n")
    drawn = []
    for _ in range(2):
        code, out = call(server, "wandb", "sweep", "--project", "seeds", str(tmp_path / "sweep.yaml"))
        assert code == 0 and "ignored" not in out and "WARNING" not in out.upper(), out
        sweep = re.search(r"wandb agent local/seeds/(\S+)", out)[1]
        agent = server.query(CREATE, sweep=sweep)["createAgent"]["agent"]["id"]
        [command] = json.loads(server.query(BEAT, id=agent)["agentHeartbeat"]["commands"])
        drawn.append(command["args"])
    assert drawn[0] == drawn[1]


CREATE = """mutation ($sweep: String!) {
    createAgent(input: {sweep: $sweep, host: "h", projectName: "seeds"}) { agent { id } } }"""
BEAT = """mutation ($id: ID!) {
    agentHeartbeat(input: {id: $id, runState: "{}"}) { commands } }"""
