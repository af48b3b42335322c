"""Agents as jobs of a real SLURM: time limits, a killed run_sweep, Ctrl-C, and options that it refuses."""

import math
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from live_server import Server, sqlite, wait_for
from slurm_cluster import cluster, needs_slurm, slurm

from wandb_tl import run_sweep
from wandb_tl.errors import InputError, UsageError
from wandb_tl.sweeping import embedded_server
from wandb_tl.sweeping.slurm import parse

EPOCHS = 400
SETTINGS = {"train_limit": 256, "test_limit": 128, "image_size": 32, "epochs": EPOCHS}
SETTINGS |= {"finetuning": True, "pretrained": True, "optimizer": "Adam"}


@pytest.fixture(scope="module")
def variables() -> Iterator[dict[str, str]]:
    with cluster() as found:
        yield found


def run_sweep_on(server: Server, variables: dict[str, str], *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "wandb_tl.run_sweep", *arguments],
        env=server.env | variables,
        cwd=server.folder / "client",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def settings(seeds: str) -> list[str]:
    return [
        part for name, value in (SETTINGS | {"seed": seeds}).items() for part in ("--set", f"{name}={value}")
    ]


def path_of(process: subprocess.Popen) -> str:
    """The sweep that run_sweep says it has started."""
    for line in process.stdout:
        if line.startswith("Sweep "):
            return line.split()[1].strip(";")
    raise AssertionError(process.stderr.read())


def logs(server: Server, path: str) -> str:
    files = (server.folder / "client" / "wandb" / f"slurm-{path.split('/')[-1]}").glob("*_log.out")
    return "".join(file.read_text() for file in files)


@pytest.mark.long
@needs_slurm
def test_a_sweep_finishes_by_itself_though_its_jobs_reach_their_time_limit_twice(server, variables):
    options = ["--slurm", "time=5,signal_delay_s=25"]
    first = run_sweep_on(server, variables, "laptop", *settings("0,1"), *options)
    path, began = path_of(first), time.monotonic()
    [array] = set(slurm(variables, "squeue", "-h", "-o", "%F").split())
    # The login shell closes.
    first.send_signal(signal.SIGHUP)
    assert first.wait(timeout=60) == 129
    wait_for(lambda: logs(server, path).count("epoch 1/") >= 2)
    # With less than a minute left, SLURM sends its signal within half a minute.
    limit = math.ceil((time.monotonic() - began + 30) / 60)
    slurm(variables, "scontrol", "update", f"JobId={array}", f"TimeLimit={limit}")
    wait_for(lambda: logs(server, path).count("Requeued job") >= 2)
    # The second signal comes from this test, which takes less time.
    slurm(variables, "scontrol", "update", f"JobId={array}", "TimeLimit=10")
    wait_for(lambda: logs(server, path).count("resuming after epoch") >= 2)
    slurm(variables, "scancel", "--signal=USR2", array)
    again = run_sweep_on(server, variables, path, *options)
    out, err = again.communicate(timeout=400)
    assert again.returncode == 0, out + err
    assert f"Jobs {array} of this sweep are queued or running" in out
    assert "2 runs finished, after" in out and "Total training time of the 2 runs" in out
    text = logs(server, path)
    assert text.count("Requeued job") >= 4 and text.count("resuming after epoch") >= 4
    of_sweep = f"FROM run JOIN sweep ON sweep.id = sweep_id WHERE sweep.name = '{path.split('/')[-1]}'"
    assert sqlite(server, f"SELECT group_concat(run.state) {of_sweep}") == "finished,finished"
    of_history = "SELECT count(*) FROM stream_line WHERE stream = 'wandb-history.jsonl' "
    of_history += f"AND run_id IN (SELECT run.id {of_sweep})"
    # At the end of a run come a row of figures and one of tables.
    assert sqlite(server, of_history) == 2 * (EPOCHS + 2)


@pytest.mark.long
@needs_slurm
def test_ctrl_c_cancels_the_job_and_its_run_returns_to_the_sweep(server, variables):
    process = run_sweep_on(
        server, variables, "laptop", *settings("2"), "--slurm", "time=5,cpus_per_task=1", "--agents", "1"
    )
    path = path_of(process)
    wait_for(lambda: "epoch 2/" in logs(server, path))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130, out + err
    resume = shlex.split(err.partition("To resume it: ")[2])
    assert resume[-5:] == [path, "--agents", "1", "--slurm", "time=5,cpus_per_task=1"]
    wait_for(lambda: not slurm(variables, "squeue", "-h"))
    assert sqlite(server, "SELECT state FROM run ORDER BY rowid DESC") == "preempted"
    # Other users can read these files: the scripts of the jobs, their pickles and their logs.
    files = [file for file in (server.folder / "client" / "wandb").rglob("slurm-*/*") if file.is_file()]
    assert any(file.suffix == ".sh" for file in files) and any(file.suffix == ".pkl" for file in files)
    assert not [file for file in files if server.key.encode() in file.read_bytes()]


@needs_slurm
def test_what_slurm_refuses_is_one_line_before_the_sweep_exists(server, variables):
    count = sqlite(server, "SELECT count(*) FROM sweep")
    process = run_sweep_on(server, variables, "laptop", "--slurm", "time=1,partition=nowhere")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 2 and err.count("\n") == 1, out + err
    assert err.startswith("error: --slurm: ") and "Invalid partition" in err
    assert sqlite(server, "SELECT count(*) FROM sweep") == count


def test_options_of_sbatch():
    assert parse("time=90,partition=a,b,cpus-per-task=4,gres=gpu:1") == {
        "time": 90,
        "partition": "a,b",
        "cpus_per_task": 4,
        "gres": "gpu:1",
        "signal_delay_s": 120,
    }
    assert [parse(f"time={text}")["time"] for text in ("1:30:00", "0:00:30", "1-2:00:00")] == [90, 1, 1560]
    assert parse("time=1")["signal_delay_s"] == 15


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partiton=gpu,time=1", "partiton is not a known option; did you mean partition?"),
        ("queue=gpu,time=1", "queue is not a known option; did you mean partition?"),
        ("time=soon", "time: got soon, takes minutes or H:MM:SS"),
        ("time=1,cpus_per_task=0", "cpus_per_task: got 0, takes an integer >= 1"),
        ("partition=gpu", "add time=MINUTES"),
        ("time=1,signal_delay_s=60", "signal_delay_s=60 leaves no time"),
        ("gpu", "takes KEY=VALUE"),
        ("", "takes KEY=VALUE"),
    ],
)
def test_bad_options_are_one_line(text, message):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_without_slurm_it_says_what_to_do(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_sweep.COMMAND.main(["laptop", "--slurm", "time=1"]) == 2
    message = "no sbatch in PATH; run this command on a login node of a SLURM cluster"
    assert capsys.readouterr().err == f"error: --slurm: {message}\n"


def test_nodes_use_a_server_that_the_user_has_started_for_them(server, tmp_path):
    with pytest.raises(InputError, match=r"listens on this machine only; .* serve --host 0.0.0.0 --insecure"):
        embedded_server.served_to_nodes(str(server.root))
    command = [
        sys.executable,
        "-m",
        "wandb_tl.local",
        "serve",
        "--host",
        "0.0.0.0",
        "--insecure",
        "--port",
        "0",
    ]
    root = tmp_path / "root"
    wide = subprocess.Popen(
        [*command, "--root", str(root)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        wide.stdout.readline()
        url = embedded_server.served_to_nodes(str(root))["WANDB_BASE_URL"]
        assert url.startswith(f"http://{socket.gethostname()}:")
    finally:
        wide.terminate()
        wide.wait()
        wide.stdout.close()
