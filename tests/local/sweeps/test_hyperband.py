"""Hyperband against W&B's own engine. test_sweeps.py has a run that it really stops."""

from __future__ import annotations

import json
import random
import time
import warnings
from pathlib import Path

import pytest
import yaml
from sweep_lab import SweepLab

from wandb_tl.local.sweeps import hand_out, hyperband

with warnings.catch_warnings():
    # The engine's own warnings.
    warnings.simplefilter("ignore")
    from sweeps import SweepRun, stop_runs


@pytest.fixture
def lab(tmp_path: Path) -> SweepLab:
    return SweepLab(tmp_path)


RULES = [
    {"min_iter": 1, "eta": 2},
    {"min_iter": 1, "eta": 2, "strict": False},
    {"min_iter": 3},
    {"min_iter": 2, "eta": 1.5, "strict": False},
    {"max_iter": 27, "s": 3},
    {"max_iter": 20, "s": 2, "eta": 2, "strict": False},
]


def config_of(rule: dict, goal: str, runs: int) -> dict:
    return {
        "method": "grid",
        "metric": {"name": "val.loss", "goal": goal},
        "early_terminate": {"type": "hyperband", **rule},
        "parameters": {"a": {"values": list(range(runs))}},
    }


@pytest.mark.slow
@pytest.mark.parametrize("goal", ["minimize", "maximize"])
@pytest.mark.parametrize("rule", RULES, ids=json.dumps)
def test_runs_are_stopped_when_the_engine_would(lab: SweepLab, rule: dict, goal: str) -> None:
    """Histories that grow in random pieces; after each piece the engine is asked about all of them."""
    rng = random.Random(json.dumps(rule) + goal)
    config = config_of(rule, goal, 12)
    sweep = lab.sweep(yaml.safe_dump(config))
    names = [lab.beat(lab.agent(sweep))[0]["run_id"] for _ in range(12)]
    histories: dict[str, list] = {name: [] for name in names}
    levels = {name: rng.gauss(0, 1) for name in names}
    lines, over, stopped = dict.fromkeys(names, 0), set(), set()
    for _ in range(150):
        name = rng.choice([name for name in names if name not in over])
        piece = [
            rng.choice((*(rng.gauss(levels[name], 0.5) for _ in range(4)), float("nan"), "text", None))
            for _ in range(rng.randint(1, 4))
        ]
        logged = [{"val": {"loss": v}} if v is not None else {"other": 1} for v in piece]
        chunk = {"offset": lines[name], "content": [json.dumps(line) for line in logged]}
        done = rng.random() < 0.01 and len(over) < 10
        end = {"complete": True, "exitcode": 0} if done else {}
        answer = lab.post(name, files={"wandb-history.jsonl": chunk}, **end)
        # A request may come twice.
        assert lab.post(name, files={"wandb-history.jsonl": chunk}, **end) == answer
        lines[name] += len(piece)
        histories[name] += [{"val.loss": v} for v in piece if v is not None]
        over |= {name} if done else set()
        runs = [
            SweepRun(name=n, state="finished" if n in over else "running", history=histories[n])
            for n in names
            if histories[n]
        ]
        stopped |= {run.name for run in stop_runs(config, runs)}
        rows = lab.inside(lambda db: db.all("SELECT name FROM run WHERE stop_requested AND early_stopped"))
        assert {row["name"] for row in rows} == stopped
        assert answer == ({"stopped": True} if name in stopped and not done else {})
    assert stopped


def test_bands_and_default_are_those_of_the_engine() -> None:
    def bands(**rule: float) -> tuple[int, ...]:
        return hyperband.of_config(config_of(rule, "minimize", 1)).bands

    assert bands(max_iter=27, s=2) == (3, 9)
    assert bands(max_iter=27, s=9) == (1, 3, 9)
    assert bands(min_iter=3, eta=2)[:4] == (3, 6, 12, 24)
    assert hyperband.of_config(config_of({"min_iter": 3}, "minimize", 1)).strict
    assert hyperband.of_config({"method": "grid"}) is None


def test_stop_is_left_to_the_script_first_and_then_to_the_agent(lab: SweepLab) -> None:
    sweep = lab.sweep(yaml.safe_dump(config_of({"min_iter": 1}, "minimize", 2)))
    one, two = lab.agent(sweep), lab.agent(sweep)
    [good], [bad] = lab.beat(one), lab.beat(two)
    for command, loss in ((good, 1), (bad, 2)):
        chunk = {"offset": 0, "content": [json.dumps({"val.loss": loss})]}
        answer = lab.post(command["run_id"], files={"wandb-history.jsonl": chunk})
    assert answer == {"stopped": True} == lab.post(bad["run_id"])
    assert lab.post(good["run_id"]) == {}
    assert lab.beat(two, bad["run_id"]) == []
    lab.wait(hand_out.STOP_SECONDS + 1)
    assert lab.beat(one, good["run_id"]) == []
    assert lab.beat(two, bad["run_id"]) == [{"type": "stop", "run_id": bad["run_id"]}]
    # Its process is gone: it is over, and not handed out again.
    assert lab.beat(two) == []
    assert lab.state(bad["run_id"]) == "killed"
    lab.post(good["run_id"], complete=True, exitcode=0)
    assert lab.beat(two) == [{"type": "exit"}]
    assert lab.sweep_state(sweep) == "FINISHED"


def test_sweep_ends_when_its_target_is_reached(lab: SweepLab) -> None:
    config = config_of({"min_iter": 5}, "maximize", 9)
    config["metric"]["target"] = 0.9
    sweep = lab.sweep(yaml.safe_dump(config))
    agent = lab.agent(sweep)
    [command] = lab.beat(agent)
    for line, value in enumerate((0.5, 0.95)):
        assert lab.sweep_state(sweep) == "RUNNING"
        chunk = {"offset": line, "content": [json.dumps({"val.loss": value})]}
        lab.post(command["run_id"], files={"wandb-history.jsonl": chunk})
    assert lab.sweep_state(sweep) == "FINISHED"
    assert lab.beat(agent, command["run_id"]) == []
    lab.post(command["run_id"], complete=True, exitcode=0)
    assert lab.beat(agent) == [{"type": "exit"}]


def test_a_thousand_runs_are_no_burden(lab: SweepLab) -> None:
    sweep = lab.sweep(yaml.safe_dump(config_of({"min_iter": 1, "eta": 2}, "minimize", 1001)))

    def fill(db) -> None:
        insert = "INSERT INTO run (project_id, name, display_name, state, created_at, sweep_id, sweep_args)"
        values = " VALUES (?, ?, 'x', 'finished', 1, ?, ?)"
        for number in range(1, 1001):
            arguments = json.dumps({"a": {"value": number}})
            db.run(insert + values, lab.project["id"], f"r{number}", sweep["id"], arguments)
        ids = [row["id"] for row in db.all("SELECT id FROM run")]
        rows = ((run, line, line + 1, line + run / 7) for run in ids for line in range(100))
        db.many("INSERT INTO metric_value (run_id, line, number, value) VALUES (?, ?, ?, ?)", rows)

    lab.inside(fill)
    agent = lab.agent(sweep)
    [command] = lab.beat(agent)
    name = command["run_id"]
    began = time.thread_time()
    for line in range(64):  # Seven bands.
        chunk = {"offset": line, "content": [json.dumps({"val.loss": -1})]}
        assert lab.post(name, files={"wandb-history.jsonl": chunk}) == {}
        assert lab.beat(agent, name) == []
    # About a millisecond each.
    assert (time.thread_time() - began) / 128 < 0.05
