"""The sweep definition, and the whole command with the embedded server in processes of their own."""

import contextlib
import shlex
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from live_server import wait_for

from wandb_tl import run_sweep
from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.local.sweeps import grid
from wandb_tl.sweeping import sweep_files

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


@pytest.mark.parametrize("preset", ["laptop", "as_published"])
def test_presets_hold_the_eight_recipes(preset):
    definition = sweep_files.load(preset, [])
    assert grid.grid_size(definition) == 8
    first = {name: p.get("values", [p.get("value")])[0] for name, p in definition["parameters"].items()}
    RunConfig.from_mapping(first)


def test_seeds_repeats_its_recipes_and_tune_selects_on_what_no_run_trains_on():
    seeds = sweep_files.load("seeds", [])
    assert grid.grid_size(seeds) == 10 and len(seeds["parameters"]["seed"]["values"]) == 5
    tune = sweep_files.load("tune", [])
    assert tune["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    assert tune["parameters"]["val_fraction"]["value"] > 0
    assert tune["early_terminate"]["min_iter"] < tune["parameters"]["epochs"]["value"]


def test_settings_replace_parameters():
    settings = ["epochs=2", "optimizer=SGD", "seed=0,1,2", "pretrained=true"]
    definition = sweep_files.load("laptop", settings)
    parameters = definition["parameters"]
    assert parameters["epochs"] == {"value": 2} and parameters["seed"] == {"values": [0, 1, 2]}
    assert grid.grid_size(definition) == 6


def test_a_folder_of_pictures_is_one_value_and_makes_a_preset_train_on_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    parameters = sweep_files.load("laptop", ["data_dir=~/oak, pine"])["parameters"]
    # Absolute, because agents may work in another folder.
    assert parameters["data_dir"] == {"value": f"{tmp_path}/oak, pine"}
    assert parameters["dataset"] == {"value": "folder"}
    artifact = sweep_files.load("pictures", ["data_dir=artifact:me/p/leaves:v3"])["parameters"]["data_dir"]
    assert artifact == {"value": "artifact:me/p/leaves:v3"}


def test_configs_of_all_images_that_a_sweep_uses():
    settings = ["data_dir=/a", "image_size=32,64", "batch_size=8,16", "lr=0.1,0.2"]
    configs = sweep_files.data_configs(sweep_files.load("pictures", settings))
    assert {(config.image_size, config.batch_size) for config in configs} == {
        (32, 8),
        (32, 16),
        (64, 8),
        (64, 16),
    }
    assert len(configs) == 4 and {config.data_dir for config in configs} == {"/a"}


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (None, [], "no such sweep file or preset"),
        ("a: [", [], "not YAML"),
        (b"a: \xff", [], "not YAML"),
        ("- a list", [], "not a W&B sweep definition"),
        ("program: p.py\nparameters: {lr: 0.1}", [], "parameter lr takes"),
        (
            "program: p.py\nparameters: {learning_rate: {value: 0.1}}",
            [],
            "learning_rate: no such hyperparameter",
        ),
        ("program: p.py\nparameters: {optimizer: {values: [Adam, Lion]}}", [], "optimizer: got 'Lion'"),
        ("program: p.py\nparameters: {lr: {min: -1, max: 1}}", [], "lr: got -1"),
        ("program: p.py\nparameters: {lr: {values: 0.1}}", [], "parameter lr takes"),
        ("program: p.py\nparameters: {1: {value: 0.1}}", [], "1: no such hyperparameter"),
        ("program: p.py\nparameters: {epochs: {value: .inf}}", [], "epochs: got inf"),
        ("parameters: {lr: {value: 1}}", [], "has no program; add the line `program: wandb_tl/train.py`"),
        ("program: p.py\nparameters: {lr: {value: 1}}", ["lr"], "takes NAME=VALUE"),
        ("program: p.py\nparameters: {lr: {value: 1}}", ["lr=fast"], "lr: got 'fast'"),
    ],
)
def test_bad_definitions_are_refused_in_one_line(tmp_path, content, settings, message):
    file = tmp_path / "sweep.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as refusal:
        sweep_files.load(str(file), settings)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.slow
def test_the_whole_command(run_environment, tmp_path):
    arguments = ["--set", "finetuning=False", "--set", "optimizer=Adam", "--reports", "reports"]
    done = run_small_sweep(tmp_path, run_environment, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 3 and "Total training time of the 2 runs" in done.stdout
    accuracy = {row.split("|")[1].strip(): float(row.split("|")[-2]) for row in rows[1:]}
    assert accuracy["True"] > accuracy["False"]
    names = {str(path.relative_to(tmp_path / "reports")) for path in (tmp_path / "reports").rglob("*.*")}
    of_the_best = ("examples", "first_conv", "curves", "class_report", "reliability", "grad_cam")
    figures = (*of_the_best, "confusion_best", "confusion_worst", "effects", "recipes")
    texts = {"README.md", "results.csv", "results.tex", "effects.csv"}
    assert names == texts | {f"figures/{name}.png" for name in figures}
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
    done = run_small_sweep(tmp_path, run_environment, *arguments)
    # The run with random weights needs no file and finishes.
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: weights_file: no file /nowhere.pth" in done.stderr
    assert "error: 1 run did not finish" in done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 and rows[1].startswith("| False") and "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
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
    wait_for(lambda: len(list(cache.glob("checkpoints/*.pt"))) == 2)
    # The server, the agents, the runs and their wandb-core.
    assert len(processes_in(tmp_path)) >= 6
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert nothing_left_in(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "root" / "wandb.sqlite")) as records:
        assert records.execute("SELECT state FROM run").fetchall() == [("preempted",)] * 2
    assert len(list(cache.glob("checkpoints/*.pt"))) == 2

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


@pytest.mark.slow
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
    assert set(sweep_files.PRESET_NAMES) == {file.stem for file in sweep_files.PRESETS.glob("*.yaml")}
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  ")]
    assert [name for name, _ in lines] == list(sweep_files.PRESET_NAMES)
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
    message = "no such sweep file or preset; the presets are laptop, pictures, tune, seeds, as_published"
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
        (["laptop", "--agent", "2"], f"--agent: no such flag (did you mean --agents?){SEE_HELP}"),
        (["laptop", "tune"], f"tune: unexpected argument{SEE_HELP}"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, capsys):
    assert run_sweep.COMMAND.main(arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
