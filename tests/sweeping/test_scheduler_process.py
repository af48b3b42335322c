"""The scheduler of a sweep as a process: `wandb sweep-scheduler` with Optuna, a real server and real runs."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from live_server import Server, sqlite, wait_for

from wandb_tl.errors import FailedError, InputError
from wandb_tl.sweeping import scheduler_process

WANDB = Path(sys.executable).parent / "wandb"
CAP = 4

needs_optuna = pytest.mark.skipif(
    not importlib.util.find_spec("optuna"), reason="needs the extra scheduler, which has optuna"
)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ("optuna", "scheduler.engine: got optuna, takes one of optuna, ax, wandb"),
        ({"engine": "opuna"}, "scheduler.engine: got opuna, takes one of optuna, ax, wandb"),
        ({"engine": "wandb", "source": "none.py"}, "scheduler.source: no file none.py in "),
    ],
)
def test_what_cannot_be_started_is_refused(scheduler, message):
    with pytest.raises(InputError, match=message):
        scheduler_process.check(scheduler)


def test_missing_extra_is_named_with_the_command_that_installs_it(tmp_path):
    # A Python that has the package and nothing that is installed beside it.
    script = f"""
        import sys
        sys.path[:] = [path for path in sys.path if "site-packages" not in path] + [{str(tmp_path)!r}]
        from wandb_tl.sweeping import scheduler_process
        scheduler_process.check({{"engine": "optuna"}})
    """
    for package in ("psutil", "wandb_tl"):
        source = Path(sys.modules[package].__file__).parent
        (tmp_path / package).symlink_to(source)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert (
        'needs the package optuna, which is not installed: pip install "wandb-tl[scheduler]"' in done.stderr
    )


@pytest.fixture
def client(server: Server, monkeypatch) -> Path:
    """The folder of the server's clients, as the current folder of this process, with their environment."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in server.env.items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    folder = server.folder / "client"
    monkeypatch.chdir(folder)
    return folder


def make_sweep(folder: Path, project: str, definition: dict) -> str:
    (folder / "sweep.json").write_text(json.dumps(definition))
    command = [WANDB, "sweep", "--project", project, "sweep.json"]
    environment = os.environ | {"WANDB_SILENT": "false"}
    made = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return made.stderr.rpartition("wandb agent ")[2].split()[0]


# An agent whose runs take a moment, with its heartbeat of 5 s made shorter.
AGENT = """
import sys, time
import wandb
from wandb.agents import pyagent

pyagent.Agent.HEARTBEAT_SLEEP_SECONDS = 0.3

def work():
    with wandb.init() as run:
        time.sleep(0.5)
        run.log({"loss": run.config["a"], "cost": -run.config["a"]})

wandb.agent(sys.argv[1], function=work)
print("[]")
"""

SPACE = """
def space(trial):
    if trial.suggest_categorical("kind", ["a", "b"]) == "a":
        return {"a": trial.suggest_float("a", 0, 1)}
    return {"a": 1, "b": trial.suggest_int("b", 1, 9)}
"""


def processes_of(folder: Path, path: str) -> list[psutil.Process]:
    """The scheduler of a sweep, and the processes of W&B that it has started."""
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if path in (process.info["cmdline"] or [])
        and "wandb_tl.sweeping.sweep_scheduler" in process.info["cmdline"]
    ]
    return [one for process in found for one in (process, *process.children(recursive=True))]


@needs_optuna
@pytest.mark.long
def test_a_killed_scheduler_starts_again_and_run_cap_stays_exact(server: Server, client: Path) -> None:
    metrics = [{"name": "loss"}, {"name": "cost", "goal": "minimize"}]
    scheduler = {"engine": "optuna", "source": "space.py", "search_space": "space"}
    (client / "space.py").write_text(SPACE)
    definition = {"method": "custom", "metrics": metrics, "scheduler": scheduler, "run_cap": CAP}
    path = make_sweep(client, "scheduled", definition)
    scheduler_process.check(scheduler)
    process = scheduler_process.start(path, 3, client)
    runs = "SELECT count(*) FROM run WHERE sweep_id = (SELECT max(id) FROM sweep)"
    try:
        wait_for(lambda: sqlite(server, f"{runs} AND state = 'pending'") == 3)
        old = processes_of(client, path)
        assert len(old) >= 2
        agent = server.spawn(AGENT, path)
        wait_for(lambda: sqlite(server, f"{runs} AND state = 'finished'"))
        process.process.kill()
        process.process.wait()
        [news] = process.news()
        assert news.startswith(
            "warning: the scheduler has ended (killed by SIGKILL), and was started again; see "
        )
        out, err = agent.communicate(timeout=240)
        assert agent.returncode == 0, out + err
        process.process.wait(timeout=60)
        [end] = process.news()
        assert end.startswith(
            f"scheduler: Sweep scheduler for {path.split('/')[-1]} exited: the sweep finished"
        )
        assert process.news() == []
    finally:
        process.stop()
    # Neither more than its cap, nor a point that nobody will start.
    assert sqlite(server, runs) == sqlite(server, f"{runs} AND state = 'finished'") == CAP
    assert sqlite(server, "SELECT state FROM sweep ORDER BY id DESC") == "FINISHED"
    wait_for(lambda: not any(one.is_running() for one in old) and not processes_of(client, path))


PARENT = """
import sys, time
from pathlib import Path
from wandb_tl.sweeping import scheduler_process

scheduler_process.start(sys.argv[1], 2, Path.cwd())
time.sleep(600)
"""


@needs_optuna
@pytest.mark.slow
def test_scheduler_ends_with_the_process_that_has_started_it(server: Server, client: Path) -> None:
    parameters = {"a": {"min": 0.0, "max": 1.0}}
    definition = {"method": "custom", "metric": {"name": "loss"}, "scheduler": {"engine": "optuna"}}
    path = make_sweep(client, "orphan", definition | {"parameters": parameters})
    queued = "SELECT count(*) FROM run WHERE sweep_id = (SELECT max(id) FROM sweep) AND state = 'pending'"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, path], cwd=client, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: sqlite(server, queued) == 2)
        started = processes_of(client, path)
        assert len(started) >= 2
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_for(lambda: not any(one.is_running() for one in started))
    # It was interrupted, not cut off; the sweep is still open.
    log = (client / f"scheduler-{path.split('/')[-1]}.log").read_text()
    assert "the scheduler was stopped; the sweep can be resumed" in log
    assert (
        sqlite(server, queued) == 2
        and sqlite(server, "SELECT state FROM sweep ORDER BY id DESC") == "PENDING"
    )


@needs_optuna
@pytest.mark.slow
def test_scheduler_that_fails_says_why(server: Server, client: Path) -> None:
    definition = {"method": "custom", "metric": {"name": "loss"}, "scheduler": {"engine": "optuna"}}
    normal = {"a": {"distribution": "normal", "mu": 0, "sigma": 1}}
    path = make_sweep(client, "failing", definition | {"parameters": normal})
    process = scheduler_process.start(path, 2, client)
    reason = "Sweep distribution 'normal' has no optuna equivalent"
    for _ in range(scheduler_process.MOST_RESTARTS):
        assert process.process.wait(timeout=120) != 0
        *marked, news = process.news()
        assert any(line.startswith("scheduler: ERROR ") and reason in line for line in marked)
        assert news.startswith("warning: the scheduler has ended (") and reason in news
    process.process.wait(timeout=120)
    with pytest.raises(FailedError, match=f"has ended again .*{reason}.* is given up; see .*log"):
        process.news()
    process.stop()
