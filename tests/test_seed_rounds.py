"""run_sweep --seeds with the embedded server, in processes of its own: interrupted, and resumed."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import yaml
from live_server import wait_for
from test_run_sweep import nothing_left_in

DEFINITION = """
program: wandb_tl/train.py
command: ["${env}", python, -m, wandb_tl.train, "${args}"]
method: random
metric: {name: val/accuracy, goal: maximize}
controller: {type: cloud, seed: 3}
run_cap: 4
parameters:
  lr: {distribution: log_uniform_values, min: 0.0003, max: 0.03}
  optimizer: {values: [Adam, SGD]}
  finetuning: {value: false}
  val_fraction: {value: 0.25}
  model_name: {value: tf_efficientnet_lite0}
  train_limit: {value: 128}
  test_limit: {value: 64}
  image_size: {value: 32}
  epochs: {value: 1}
"""
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


SWEEPS = "SELECT name, config FROM sweep ORDER BY id"
# The mean validation accuracy of the recipes that ran with all of the first seeds, by learning rate.
MEANS = """
SELECT json_extract(config, '$.lr.value') AS lr, avg(json_extract(summary, '$."val/accuracy"')) FROM run
WHERE json_extract(config, '$.seed.value') < {0} GROUP BY lr HAVING count(*) = {0}"""
TESTS = """
SELECT json_extract(run.summary, '$.test_accuracy') FROM run JOIN sweep ON sweep.id = sweep_id
WHERE sweep.name = '{}'"""


def records(folder: Path, query: str) -> list[tuple]:
    file = folder / "root" / "wandb.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def definitions(folder: Path) -> list[tuple[str, dict]]:
    """The sweeps in the order of their creation: id and definition."""
    return [(name, yaml.safe_load(config)) for name, config in records(folder, SWEEPS)]


def has_finished(process: subprocess.Popen, folder: Path, count: int) -> bool:
    """Whether so many runs have finished, or the process has ended."""
    finished = "SELECT count(*) FROM run WHERE state = 'finished'"
    return process.poll() is not None or records(folder, finished)[0][0] >= count


@pytest.mark.long
def test_interrupted_and_resumed_it_repeats_the_best_recipes_and_confirms_the_winner(
    run_environment, tmp_path
):
    (tmp_path / "search.yaml").write_text(DEFINITION)
    options = ["--local", "--root", str(tmp_path / "root"), "--agents", "1"]
    command = [sys.executable, "-m", "wandb_tl.run_sweep", "search.yaml", *options]
    places = {"env": run_environment, "cwd": tmp_path, **PIPES}
    first = subprocess.Popen([*command, "--seeds", "3", "--reports", "reports"], **places)
    wait_for((tmp_path / "root" / "server.json").exists)
    # In the first of the sweeps that repeat recipes. Each wait has a limit of its own.
    for count in (1, 4, 5):
        wait_for(partial(has_finished, first, tmp_path, count))
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=240)
    assert first.returncode == 130 and "Traceback" not in out + err, out + err
    assert "The best 2 recipes of 4 by val/accuracy run with seed 1 (2 runs)." in out
    assert err.count("To resume it: ") == 1 and nothing_left_in(tmp_path)

    again = shlex.split(err.partition("To resume it: ")[2].splitlines()[0])
    done = subprocess.run(again, timeout=500, **places)
    assert done.returncode == 0, done.stdout + done.stderr
    assert nothing_left_in(tmp_path) and "Traceback" not in done.stdout + done.stderr
    search, *repeats, confirmation = definitions(tmp_path)
    # It ends after two seeds if they settle that one of the two recipes is worse.
    seeds = [one["parameters"]["seed"]["values"] for _, one in repeats]
    assert seeds in ([[1]], [[1], [2]])
    fresh = list(range(len(seeds) + 1, len(seeds) + 6))
    assert confirmation[1]["parameters"]["seed"]["values"] == fresh
    assert [one["name"] for _, one in repeats] == [f"seed {seed} of {search[0]}" for (seed,) in seeds]
    # Nothing ran twice.
    repeated = 2 * len(seeds)
    assert records(tmp_path, "SELECT state, count(*) FROM run GROUP BY state") == [("finished", 9 + repeated)]

    # The winner has the best mean over the seeds of those that were repeated.
    means = dict(records(tmp_path, MEANS.format(len(seeds) + 1)))
    assert len(means) == 2
    winner = confirmation[1]["parameters"]["lr"]["value"]
    assert means[winner] == max(means.values())
    ranking = (tmp_path / "reports" / "seeds.md").read_text()
    assert (
        ranking.replace("`", "") in done.stdout
        and f" {100 * means[winner]:.2f} ± " in ranking.splitlines()[2]
    )
    assert (
        f"{repeated} runs repeated recipes. 3 seeds for each of the 4 points would have taken 8 more"
        in ranking
    )
    first = (tmp_path / "reports" / "README.md").read_text().split("\n\n")[1]
    assert first.startswith("**The seeds chose `") and "`lr=" in first and "(confirmation/README.md)" in first
    # What is reported is the test accuracy of the confirmation alone.
    tests = records(tmp_path, TESTS.format(confirmation[0]))
    report = (tmp_path / "reports" / "confirmation" / "README.md").read_text()
    assert f"{sum(one for (one,) in tests) / 5:.2f} ± " in report and len(tests) == 5
    assert f"wandb_tl.predict local/wandb_tl/{confirmation[0]} PICTURES" in done.stdout.splitlines()[-1]


@pytest.mark.long
def test_a_recipe_that_always_fails_does_not_stop_the_race(run_environment, tmp_path):
    """Each recipe has weights of its own; the file of one is gone when both run with a second seed."""
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), tmp_path / "kept.pth")
    shutil.copy(tmp_path / "kept.pth", tmp_path / "gone.pth")
    definition = yaml.safe_load(DEFINITION) | {"method": "grid"}
    del definition["run_cap"], definition["controller"]
    files = [str(tmp_path / name) for name in ("kept.pth", "gone.pth")]
    definition["parameters"] |= {
        "weights_file": {"values": files},
        "lr": {"value": 0.001},
        "optimizer": {"value": "Adam"},
    }
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(definition))
    command = [sys.executable, "-m", "wandb_tl.run_sweep", "search.yaml", "--local", "--agents", "1"]
    places = {"env": run_environment, "cwd": tmp_path, **PIPES, "timeout": 500}
    root = ["--root", str(tmp_path / "root")]
    done = subprocess.run([*command, *root], **places)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "gone.pth").unlink()
    [(search, _)] = definitions(tmp_path)
    command[3] = f"local/wandb_tl/{search}"
    failed = subprocess.run([*command, *root, "--seeds", "2"], **places)
    assert failed.returncode == 1 and "no file " in failed.stderr, failed.stdout + failed.stderr
    again = shlex.split(failed.stderr.partition("To resume the sweep: ")[2].splitlines()[0])
    done = subprocess.run(again, **places)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "They failed again: the race goes on without their recipes." in done.stderr
    *_, (_, confirmation) = definitions(tmp_path)
    assert confirmation["parameters"]["weights_file"]["value"] == files[0]
