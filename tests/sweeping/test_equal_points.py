"""Points of a grid that are equal in effect: how many there are, and that their runs train once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from live_server import Server, call

from wandb_tl.config import RunConfig
from wandb_tl.sweeping import equal_points
from wandb_tl.sweeping.equal_points import Count, count, key
from wandb_tl.sweeping.search_metric import AT_THE_END, BY_CLASS, EACH_EPOCH
from wandb_tl.sweeping.sweep_definitions import load

SMALL = {
    **{"model_name": "tf_efficientnet_lite0", "image_size": 32, "precision": "fp32"},
    **{"train_limit": 128, "test_limit": 100, "epochs": 2, "finetuning": False, "optimizer": "Adam"},
}


def test_the_points_of_a_grid_that_differ_in_effect_are_counted():
    unfreeze, decay = "unfreeze=1,2,3", "weight_decay=0,0.1"
    both = ["optimizer=Adam,SGD", "finetuning=true,false", "pretrained=true"]
    # Adam ignores weight decay, and a frozen network which stages are open.
    assert count(load("laptop", [*both, unfreeze, decay])) == Count(24, 3 + 6 + 1 + 2)
    assert count(load("laptop", [])) == Count(8, 8)
    frozen = ["finetuning=false", "pretrained=true", "optimizer=Adam"]
    assert count(load("laptop", [*frozen, decay, "seed=0,1,2"])) == Count(6, 3)
    # What asks about speed is not answered by another run.
    assert count(load("laptop", [*frozen, decay, "compile=always,never"])) == Count(4, 2)
    assert count(load("laptop", [*frozen, "norm=auto,source"])) == Count(2, 1)
    finetuned = ["finetuning=true", "pretrained=true", "optimizer=Adam"]
    assert count(load("laptop", [*finetuned, "unfreeze=last_stage,1,01,all"])) == Count(4, 2)
    contradicts = "batch_size: got 8192, more than train_limit (5000)"
    assert count(load("laptop", [*frozen, "batch_size=64,8192"])) == Count(1, 1, 1, contradicts)


def test_only_grids_of_this_package_are_counted():
    assert count(load("tune", [])) is None
    definition = load("laptop", ["weight_decay=0,0.1"])
    assert count(definition) == Count(16, 12)
    assert count(definition | {"program": "mine.py"}) is None
    assert count(definition | {"command": [*definition["command"], "--epochs=3"]}) is None
    definition["parameters"]["seed"] = {"values": list(range(equal_points.MOST_COUNTED))}
    assert count(definition) is None


def test_keys_tell_apart_whatever_has_an_effect():
    base = RunConfig(finetuning=False, optimizer="Adam")
    assert key(base) == key(RunConfig(unfreeze="3", weight_decay=0.5, momentum=0.1, lr_decay=0.5))
    others = [{"lr": 0.1}, {"seed": 1}, {"optimizer": "AdamW"}, {"finetuning": True}, {"norm": "batch"}]
    assert len({key(base), *(key(RunConfig(**other)) for other in others)}) == 6
    probe = {"optimizer": "probe", "pretrained": True}
    assert key(RunConfig(**probe)) != key(RunConfig(**probe, seed=1)), "each seed is a point of its own"


def new_sweep(server: Server, folder: Path, **values: list) -> str:
    """ENTITY/PROJECT/SWEEP of a new grid."""
    parameters = {name: {"value": value} for name, value in SMALL.items()}
    parameters |= {name: {"values": value} for name, value in values.items()}
    definition = {"project": "equal", "program": "wandb_tl/train.py", "method": "grid"}
    definition["command"] = ["${env}", sys.executable, "-m", "wandb_tl.train", "${args}"]
    (folder / "sweep.yaml").write_text(yaml.safe_dump(definition | {"parameters": parameters}))
    code, out = call(server, "wandb", "sweep", str(folder / "sweep.yaml"))
    assert code == 0, out
    return re.search(r"wandb agent (\S+)", out)[1]


RUNS = """
import json, sys, wandb
runs = wandb.Api().runs(sys.argv[1].rpartition("/")[0], {"sweep": sys.argv[1].split("/")[-1]}, lazy=False)
print(json.dumps([
    {
        "id": run.id, "state": run.state, "config": run.config,
        "summary": {name: run.summary[name] for name in ("test_accuracy", "equal_to") if name in run.summary},
        "numbers": [name for name, value in run.summary.items() if type(value) in (int, float)],
        "rows": list(run.scan_history()), "artifacts": [artifact.type for artifact in run.logged_artifacts()],
    }
    for run in runs
]))
"""


def by_twin(server: Server, path: str) -> tuple[list[dict], list[dict]]:
    """The runs of a sweep that have trained, and those that have taken the results of another one."""
    runs = server.run(RUNS, path)
    assert {run["state"] for run in runs} == {"finished"}
    copies = [run for run in runs if "equal_to" in run["summary"]]
    return [run for run in runs if run not in copies], copies


def metrics(run: dict) -> list[dict]:
    """The numbers of each row of history besides those of the client, without rows of media."""
    rows = [
        {
            name: value
            for name, value in row.items()
            if not name.startswith("_") and not isinstance(value, dict)
        }
        for row in run["rows"]
    ]
    return [row for row in rows if len(row) > 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "values", "seeds"),
    [
        (["wandb_tl.agent"], {"weight_decay": [0.0, 0.1]}, [0, 1]),
        pytest.param(
            ["wandb", "agent"],
            {"recipe": ["weight_decay=0 epochs=2", "epochs=2 weight_decay=0.1"]},
            [0],
            marks=pytest.mark.long,
        ),
    ],
)
def test_equal_points_are_trained_once(server, tmp_path, agent, values, seeds):
    path = new_sweep(server, tmp_path, **values, seed=seeds)
    code, out = call(server, *agent, path)
    assert code == 0, out
    trained, copies = by_twin(server, path)
    assert len(trained) == len(copies) == len(seeds), out
    assert {run["config"]["seed"] for run in trained} == set(seeds)
    # A search may use each of them as its metric.
    names = {name for run in trained for name in run["numbers"]} - {*EACH_EPOCH, *AT_THE_END}
    assert all(name.startswith((*BY_CLASS, "_")) for name in names), names
    by_id = {run["id"]: run for run in trained}
    for copy in copies:
        twin = by_id[copy["summary"]["equal_to"]]
        assert copy["config"]["seed"] == twin["config"]["seed"]
        assert copy["config"]["weight_decay"] != twin["config"]["weight_decay"]
        assert metrics(copy) == metrics(twin) and len(metrics(copy)) == SMALL["epochs"]
        assert copy["summary"]["test_accuracy"] == twin["summary"]["test_accuracy"]
        assert "model" in twin["artifacts"] and "model" not in copy["artifacts"]
    assert out.count("whose results it takes") == len(seeds) and "Traceback" not in out


@pytest.mark.long
def test_run_sweep_says_what_is_equal_and_the_table_counts_it_once(run_environment, tmp_path):
    settings = {"pretrained": True, **SMALL, "epochs": 1, "weight_decay": "0,0.1", "unfreeze": "1,2"}
    flags = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "wandb_tl.run_sweep", "laptop", "--local", "--root", "root"]
    done = subprocess.run(
        [*command, "--agents", "1", *flags],
        env=run_environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 points, 1 distinct: a run whose point equals a finished one takes its results" in done.stderr
    assert "4 runs finished" in done.stdout and "Total training time of the 1 run:" in done.stdout
    assert "3 more runs took the results of an equal run." in done.stdout
    copied = re.findall(r"finished .* % test accuracy, the results of the equal run \w{8}", done.stdout)
    assert len(copied) == 3
    assert "Left out" not in done.stdout
    assert sum(line.startswith("| ") for line in done.stdout.splitlines()) == 2, done.stdout


HALF_COPIED = """
import json, os, wandb
from wandb_tl.sweeping.equal_runs import EqualRun, copy

rows = [{"epoch": epoch, "train/loss": 1 / epoch} for epoch in (1, 2, 3)]
os.environ["WANDB_RUN_ID"] = "half"
run = wandb.init(project="half", resume="allow")
run.summary["equal_to"] = "other"
run.log(rows[0])
run.finish(exit_code=1)
run = wandb.init(project="half", resume="allow")
copy(EqualRun("other", rows, {"test_accuracy": 50.0}), run)
run.finish()
run = wandb.Api().run("local/half/half")
epochs = [row["epoch"] for row in run.scan_history()]
names = ("equal_to", "epoch", "test_accuracy")
print(json.dumps([run.state, epochs, *(run.summary[name] for name in names)]))
"""


@pytest.mark.slow
def test_a_run_that_was_killed_while_it_took_results_takes_the_rest(server):
    assert server.run(HALF_COPIED) == ["finished", [1, 2, 3], "other", 3, 50.0]
