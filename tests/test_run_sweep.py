"""The whole command with the embedded server in processes of their own."""

import contextlib
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from live_server import wait_for

from wandb_tl import run_sweep, sweep_checks
from wandb_tl.errors import InputError
from wandb_tl.sweeping import sweep_definitions
from wandb_tl.sweeping.sweep_definitions import PRESET_NAMES, PRESETS

SMALL = ["train_limit=256", "test_limit=128", "epochs=1", "image_size=32"]


def command(tmp_path: Path, *arguments: str) -> list[str]:
    settings = [part for setting in SMALL for part in ("--set", setting)]
    root = ["--local", "--root", str(tmp_path / "root")]
    return [sys.executable, "-m", "wandb_tl.run_sweep", "laptop", *root, *settings, *arguments]


def run_small_sweep(
    folder: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(folder, *arguments),
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
    )


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes whose wandb writes into a folder: servers, agents and runs."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        if (process.info["environ"] or {}).get("WANDB_DIR") == str(folder):
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def nothing_left_in(folder: Path) -> bool:
    """Whether all those processes end: what an agent has forked its runs from does so just after it."""
    return wait_for(lambda: not processes_in(folder))


@pytest.mark.slow
def test_the_whole_command(run_environment, tmp_path):
    arguments = ["--set", "finetuning=False", "--set", "optimizer=Adam", "--reports", "reports"]
    done = run_small_sweep(tmp_path, run_environment, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 3 and "Total training time of the 2 runs" in done.stdout
    accuracy = {row.split("|")[1].strip(): float(row.split("|")[-2]) for row in rows[1:]}
    for pretrained, percent in accuracy.items():
        assert f" of 2: pretrained={pretrained}: {percent:.2f} % test accuracy\n" in done.stdout
    assert re.findall(r"^finished (\d of \d): ", done.stdout, re.M) == ["1 of 2", "2 of 2"]
    assert accuracy["True"] > accuracy["False"]
    assert "Use row 1: pretrained=True. It classifies " in done.stdout
    following, last = done.stdout.splitlines()[-2:]
    settle = "to settle row 1 against row 2 with 5 new seeds each, as those so far chose row 1 (10 runs)"
    assert following.startswith(f"Next, {settle}: ")
    assert last.startswith("To classify pictures with the best model: ")
    assert all(line.endswith(f"--local --root {tmp_path / 'root'}") for line in (following, last))
    names = {str(path.relative_to(tmp_path / "reports")) for path in (tmp_path / "reports").rglob("*.*")}
    of_the_best = ("examples", "first_conv", "curves", "class_report", "reliability", "grad_cam")
    figures = (*of_the_best, "confusion_best", "confusion_worst", "effects", "frontier")
    texts = {"README.md", "report.html", "results.csv", "results.tex", "effects.csv"}
    assert names == texts | {f"figures/{name}.png" for name in figures}
    assert nothing_left_in(tmp_path)
    # What the sweep's page shows, whose commands work when the server has stopped.
    with contextlib.closing(sqlite3.connect(tmp_path / "root" / "wandb.sqlite")) as records:
        answer = json.loads(records.execute("SELECT content FROM answer").fetchone()[0])
    assert answer["sentences"][0] == "Use row 1: `pretrained=True`." and answer["runs"] == 2
    assert all(one["line"].endswith(f"--local --root {tmp_path / 'root'}") for one in answer["commands"])
    train = shlex.split(answer["commands"][0]["line"])
    done = subprocess.run(
        train, cwd=tmp_path, env=run_environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f" PICTURES --local --root {tmp_path / 'root'}\n")
    with contextlib.closing(sqlite3.connect(tmp_path / "root" / "wandb.sqlite")) as records:
        assert records.execute("SELECT count(*) FROM run WHERE state = 'finished'").fetchone() == (3,)
    assert nothing_left_in(tmp_path)


@pytest.mark.slow
def test_a_place_for_the_table_that_is_not_there_is_found_before_any_run(run_environment, tmp_path):
    (tmp_path / "README.md").write_text("no markers")
    for name, message in (("README.md", "has no <!-- results:begin -->"), ("nowhere.md", "No such file")):
        done = run_small_sweep(tmp_path, run_environment, "--readme", name)
        assert done.returncode == 2 and done.stderr.startswith(f"error: {name}: {message}"), done.stderr
    with contextlib.closing(sqlite3.connect(tmp_path / "root" / "wandb.sqlite")) as records:
        assert records.execute("SELECT count(*) FROM sweep").fetchone() == (0,)
    assert nothing_left_in(tmp_path)


@pytest.mark.slow
def test_runs_that_fail_are_told_and_counted(run_environment, tmp_path):
    arguments = ["--set", "optimizer=SGD", "--set", "finetuning=False", "--set", "weights_file=/nowhere.pth"]
    arguments += ["--agents", "1"]
    done = run_small_sweep(tmp_path, run_environment, *arguments)
    # The run with random weights needs no file and finishes.
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: weights_file: no file /nowhere.pth" in done.stderr
    *_, reason, resume, last = done.stderr.splitlines()
    assert re.fullmatch(r"crashed: sweep-\w+-\d \(\w{8}\): weights_file: no file /nowhere.pth.*", reason), (
        reason
    )
    assert resume.startswith("To resume the sweep: ") and last.startswith("error: 1 run did not finish; see ")
    assert "Traceback" not in "".join(log.read_text() for log in tmp_path.glob("wandb/*.log"))
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 and rows[1].startswith("| False") and "Traceback" not in done.stdout + done.stderr


def runs_with_checkpoints(cache: Path) -> set[str]:
    """A run keeps two files from its second epoch on: the checkpoint and the one before it."""
    return {path.name.partition(".")[0] for path in cache.glob("checkpoints/*.pt")}


@pytest.mark.long
def test_interrupted_sweep_stops_everything_and_keeps_what_can_go_on(run_environment, tmp_path):
    cache = Path(run_environment["WANDB_TL_CACHE"])
    process = subprocess.Popen(
        command(tmp_path, "--set", "epochs=40", "--set", "finetuning=True", "--set", "pretrained=True"),
        env=run_environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(runs_with_checkpoints(cache)) == 2)
    # The server, the agents, the runs and their wandb-core.
    assert len(processes_in(tmp_path)) >= 6
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert nothing_left_in(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "root" / "wandb.sqlite")) as records:
        assert records.execute("SELECT state FROM run").fetchall() == [("preempted",)] * 2
    assert len(runs_with_checkpoints(cache)) == 2

    # The command that it prints resumes the sweep.
    again = shlex.split(err.partition("To resume it: ")[2].splitlines()[0])
    done = subprocess.run(
        again, env=run_environment, cwd=tmp_path, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0 and "2 runs finished, after" in done.stdout, done.stdout + done.stderr
    assert sum(line.startswith("| True") for line in done.stdout.splitlines()) == 2
    said = "".join(log.read_text() for log in tmp_path.glob("wandb/agent-*.log"))
    assert said.count("resuming after epoch") == 2
    assert nothing_left_in(tmp_path) and not list(cache.glob("checkpoints/*"))


@pytest.mark.long
def test_a_second_sweep_uses_the_server_of_the_first_to_its_end(run_environment, tmp_path):
    small = ["--set", "finetuning=False", "--set", "optimizer=Adam", "--set", "pretrained=True"]
    first = subprocess.Popen(
        command(tmp_path, *small), env=run_environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    wait_for((tmp_path / "root" / "server.json").exists)
    second = subprocess.Popen(
        command(tmp_path, *small, "--set", "seed=1,2", "--agents", "1"),
        env=run_environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    for process, runs in ((second, "2 runs"), (first, "1 run")):
        out, _ = process.communicate(timeout=400)
        assert process.returncode == 0, out
        assert f"Total training time of the {runs}:" in out
    assert nothing_left_in(tmp_path)


SEE_HELP = "; see python -m wandb_tl.run_sweep --help"


def test_without_a_sweep_the_presets_are_listed(capsys):
    assert run_sweep.COMMAND.main([]) == 0
    out = capsys.readouterr().out
    assert set(PRESET_NAMES) == {file.stem for file in PRESETS.glob("*.yaml")}
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  ")]
    assert [name for name, _ in lines] == list(PRESET_NAMES)
    assert all(20 < len(description) < 90 for _, description in lines)


def test_help_and_bad_flags(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "wandb_tl.run_sweep", "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0 and "laptop" in done.stdout and "--local" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "wandb_tl.run_sweep", "no_such_preset"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    message = f"no such sweep file or preset; the presets are {', '.join(PRESET_NAMES)}"
    assert (done.returncode, done.stderr) == (2, f"error: no_such_preset: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["laptop", "--agents", "0"], f"--agents: got 0, takes an integer >= 1{SEE_HELP}"),
        (["laptop", "--agents", "two"], f"argument --agents: invalid int value: 'two'{SEE_HELP}"),
        (["laptop", "--no-such-flag"], f"--no-such-flag: no such flag{SEE_HELP}"),
        (["latop"], "latop: no such sweep file or preset; did you mean laptop?"),
        (["a/p/b", "--set", "lr=1"], f"--set: a/p/b exists, and its hyperparameters are fixed{SEE_HELP}"),
        (["laptop", "--set", "=1"], "--set =1: takes NAME=VALUE"),
        (
            ["laptop", "--data_dir", "x"],
            f"--data_dir: no such flag (did you mean --set data_dir=VALUE?){SEE_HELP}",
        ),
        (
            ["laptop", "--set", "data_dir", "x"],
            f"x: unexpected argument (did you mean --set data_dir=x?){SEE_HELP}",
        ),
        (["laptop", "--set", "data_dir"], "--set data_dir: takes NAME=VALUE, such as data_dir=VALUE"),
        (["laptop", "--agent", "2"], f"--agent: no such flag (did you mean --agents?){SEE_HELP}"),
        (["laptop", "--seeds", "1"], f"--seeds: got 1, takes an integer >= 2{SEE_HELP}"),
        (
            ["laptop", "--seeds", "3"],
            "--seeds: validation images judge the recipes, and there are none; use --set val_fraction=0.2",
        ),
        (
            ["tune", "--seeds", "3", "--set", "seed=1,2"],
            "--seeds: the sweep varies seed itself; leave out one of the two",
        ),
        (
            ["pareto", "--seeds", "3"],
            "--seeds: the sweep has several objectives, so no recipe is the best one",
        ),
        (["laptop", "tune"], f"tune: unexpected argument{SEE_HELP}"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, capsys):
    assert run_sweep.COMMAND.main(arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_an_interruption_before_the_agents_start_is_one_line(tmp_path):
    command = [
        sys.executable,
        "-m",
        "wandb_tl.run_sweep",
        "laptop",
        "--local",
        "--root",
        str(tmp_path / "root"),
    ]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        # Made before the server starts.
        wait_for((tmp_path / "wandb").is_dir)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=240)[1]
    assert process.returncode == 130
    assert error.strip().splitlines() == [
        "Interrupted before the agents started: nothing is lost. Start the same command again."
    ]


def test_bounds_of_a_seed_vary_it_too():
    definition = sweep_definitions.load("tune", [])
    definition["parameters"]["seed"] = {"min": 0, "max": 9}
    with pytest.raises(InputError, match="varies seed itself"):
        sweep_checks.check_repeatable(definition, has_pictures=False)


@pytest.mark.parametrize("name", ["seed", "fold"])
def test_recipes_may_vary_it_too(name):
    definition = sweep_definitions.load("tune", [])
    first, second = ("1/5", "2/5") if name == "fold" else ("1", "2")
    for recipes in ([f"{name}={first} lr=0.1", f"lr=0.2 {name}={second}"], [f"{name}={first}", "lr=0.1"]):
        definition["parameters"]["recipe"] = {"values": recipes}
        with pytest.raises(InputError, match=f"varies {name} itself"):
            sweep_checks.check_repeatable(definition, has_pictures=False)
