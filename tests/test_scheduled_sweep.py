"""run_sweep with a sweep whose runs Optuna chooses: the whole command, in processes of their own."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from live_server import wait_for
from test_run_sweep import nothing_left_in, processes_in

needs_optuna = pytest.mark.skipif(
    not importlib.util.find_spec("optuna"), reason="needs the extra scheduler, which has optuna"
)
CAP = 3

DEFINITION = f"""
program: wandb_tl/train.py
command: ["${{env}}", python, -m, wandb_tl.train, "${{args}}"]
method: custom
scheduler: {{engine: optuna, source: space.py, search_space: space}}
metrics: [{{name: val/accuracy, goal: maximize}}, {{name: images_per_second, goal: maximize}}]
run_cap: {CAP}
"""
# A conditional space: SGD alone has a momentum.
SPACE = """
SMALL = {"train_limit": 128, "test_limit": 64, "epochs": 1, "image_size": 32, "val_fraction": 0.25,
         "model_name": "tf_efficientnet_lite0", "finetuning": False}

def space(trial):
    lr = trial.suggest_float("lr", 0.001, 0.01, log=True)
    optimizer = trial.suggest_categorical("optimizer", ["Adam", "SGD"])
    more = {"momentum": trial.suggest_float("momentum", 0.5, 0.95)} if optimizer == "SGD" else {}
    return {**SMALL, "lr": lr, "optimizer": optimizer, **more}
"""


def records(folder: Path, query: str) -> list[tuple]:
    file = folder / "root" / "wandb.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


@needs_optuna
@pytest.mark.long
def test_interrupted_and_resumed_it_makes_run_cap_runs_and_names_the_front(run_environment, tmp_path):
    (tmp_path / "sweep.yaml").write_text(DEFINITION)
    (tmp_path / "space.py").write_text(SPACE)
    options = ["--local", "--root", str(tmp_path / "root"), "--agents", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(
        [sys.executable, "-m", "wandb_tl.run_sweep", "sweep.yaml", *options],
        env=run_environment,
        cwd=tmp_path,
        **pipes,
    )
    finished = "SELECT count(*) FROM run WHERE sweep_id AND state = 'finished'"
    wait_for((tmp_path / "root" / "server.json").exists)
    wait_for(lambda: first.poll() is not None or records(tmp_path, finished) == [(1,)])
    assert any("sweep_scheduler" in line for line in processes_in(tmp_path))
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=240)
    assert first.returncode == 130 and "Traceback" not in out + err, out + err
    assert "its scheduler to wandb/scheduler-" in out
    # Neither the scheduler nor W&B's own process of it is left.
    assert nothing_left_in(tmp_path)

    again = shlex.split(err.partition("To resume it: ")[2].splitlines()[0])
    done = subprocess.run(again, env=run_environment, cwd=tmp_path, timeout=400, **pipes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert nothing_left_in(tmp_path)
    assert f"\n{CAP} runs finished, after " in done.stdout
    assert re.search(r"^finished.*: .*lr=", done.stdout, re.M), done.stdout
    assert "scheduler: Sweep scheduler for " in done.stderr
    # Exactly run_cap, and no run that nobody will start.
    assert records(tmp_path, "SELECT state FROM run WHERE sweep_id") == [("finished",)] * CAP
    assert records(tmp_path, "SELECT state FROM sweep") == [("FINISHED",)]

    *_, caution, following, last = done.stdout.splitlines()
    assert "in all objectives, val/accuracy (higher is better) and images_per_second" in done.stdout
    assert caution.startswith("Each value is of a single run") and "(5 runs)" in following
    best = records(
        tmp_path,
        "SELECT name FROM run WHERE sweep_id ORDER BY json_extract(summary, '$.\"val/accuracy\"') DESC,"
        " json_extract(summary, '$.images_per_second') DESC",
    )[0][0]
    assert f"Run {best}, row " in done.stdout and f"/{best} PICTURES --local" in last
    assert "Use row" not in done.stdout


@pytest.mark.parametrize(
    ("definition", "arguments", "message"),
    [
        (DEFINITION, [], "error: scheduler.source: no file space.py in "),
        (DEFINITION.replace("optuna", "opt"), [], "error: scheduler.engine: got opt, takes one of optuna, "),
        (DEFINITION, ["--set", "epochs=1"], "error: --set epochs=1: the function space "),
    ],
)
def test_what_cannot_be_scheduled_is_refused_before_a_server_starts(
    run_environment, tmp_path, definition, arguments, message
):
    if message.startswith("error: scheduler.source") and not importlib.util.find_spec("optuna"):
        pytest.skip("needs the extra scheduler, which has optuna")
    (tmp_path / "sweep.yaml").write_text(definition)
    command = [sys.executable, "-m", "wandb_tl.run_sweep", "sweep.yaml", "--local", "--root", "root"]
    done = subprocess.run(
        [*command, *arguments], env=run_environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith(message), done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "root").exists()
