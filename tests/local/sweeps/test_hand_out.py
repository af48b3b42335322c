"""Sweeps: exact bookkeeping with a hand-driven agent, then the real `wandb agent`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import Server, wait_for
from sweep_lab import AGENT, SweepLab

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import run_states
from wandb_tl.local.sweeps import hand_out, sweep_rows

GRID = "method: grid\nprogram: x.py\nparameters:\n  a: {values: [1, 2]}\n  b: {values: [x, y]}\n"


@pytest.fixture
def lab(tmp_path: Path) -> SweepLab:
    return SweepLab(tmp_path)


def done(lab: SweepLab, command: dict, exitcode: int = 0, **body) -> None:
    lab.post(command["run_id"])
    lab.post(command["run_id"], complete=True, exitcode=exitcode, **body)


def test_grid_is_handed_out_once_and_ends(lab: SweepLab) -> None:
    sweep = lab.sweep(GRID)
    assert lab.sweep_state(sweep) == "PENDING"
    one, two = lab.agent(sweep), lab.agent(sweep)
    points = []
    for _ in range(2):
        commands = [*lab.beat(one), *lab.beat(two)]
        assert lab.sweep_state(sweep) == "RUNNING"
        for command in commands:
            points.append({name: item["value"] for name, item in command["args"].items()})
            done(lab, command)
    assert points == [{"a": a, "b": b} for a in (1, 2) for b in "xy"]
    assert lab.beat(one) == [{"type": "exit"}] == lab.beat(two)
    assert lab.sweep_state(sweep) == "FINISHED"


def test_failed_run_is_done_and_deleted_run_gives_its_point_back(lab: SweepLab) -> None:
    sweep = lab.sweep("method: grid\nparameters: {a: {values: [1]}}\n")
    agent = lab.agent(sweep)
    [command] = lab.beat(agent)
    done(lab, command, exitcode=1)
    assert lab.state(command["run_id"]) == "failed"
    assert lab.beat(agent) == [{"type": "exit"}]
    lab.inside(lambda db: db.run("DELETE FROM run"))
    lab.inside(lambda db: sweep_rows.change(db, sweep, None, "RUNNING"))
    [again] = lab.beat(agent)
    assert again["args"] == command["args"] and again["run_id"] != command["run_id"]


def test_preempted_run_is_resumed_by_whoever_comes_without_limit(lab: SweepLab) -> None:
    sweep = lab.sweep("method: grid\nparameters: {a: {values: [1]}}\n")
    one, two = lab.agent(sweep), lab.agent(sweep)
    [first] = lab.beat(one)
    assert lab.beat(two) == []  # Waits: the run may come back.
    for agent in (two, one, two, one):
        lab.post(first["run_id"], preempting=True)
        assert lab.state(first["run_id"]) == "preempting"
        lab.post(first["run_id"], complete=True, exitcode=143)
        assert lab.state(first["run_id"]) == "preempted"
        assert lab.beat(agent) == [first | {"type": "resume"}]
    done(lab, first)
    assert lab.beat(two) == [{"type": "exit"}]


def test_crashed_run_is_repeated_twice(lab: SweepLab) -> None:
    sweep = lab.sweep("method: grid\nparameters: {a: {values: [1]}}\n")
    agent = lab.agent(sweep)
    [command] = lab.beat(agent)
    lab.inside(lambda db: db.run("UPDATE run SET started_at = 1"))
    for _ in range(run_states.REPEATS):
        lab.post(command["run_id"])
        assert lab.beat(agent, command["run_id"]) == []
        lab.wait(5)
        assert lab.beat(agent) == [command | {"type": "resume"}]
    lab.post(command["run_id"])
    assert lab.beat(agent) == [{"type": "exit"}]
    assert lab.state(command["run_id"]) == "crashed"


def test_run_that_never_starts_is_tried_once_more(lab: SweepLab) -> None:
    sweep = lab.sweep("method: grid\nparameters: {a: {values: [1]}}\n")
    agent = lab.agent(sweep)
    [command] = lab.beat(agent)
    assert lab.beat(agent) == [command | {"type": "resume"}]
    assert lab.beat(agent) == [{"type": "exit"}]
    assert lab.state(command["run_id"]) == "crashed"


def test_what_never_starts_waits_until_all_points_were_tried(lab: SweepLab) -> None:
    sweep = lab.sweep("method: grid\nparameters: {a: {values: [bad, good]}}\n")
    agent = lab.agent(sweep)
    [bad] = lab.beat(agent)
    [good] = lab.beat(agent)
    assert lab.state(bad["run_id"]) == "crashed" and good["args"] == {"a": {"value": "good"}}
    done(lab, good)
    assert lab.beat(agent) == [bad | {"type": "resume"}]


def test_silence_makes_runs_crash_but_not_before_the_server_could_hear(lab: SweepLab) -> None:
    sweep = lab.sweep("method: grid\nparameters: {a: {values: [1, 2]}}\n")
    lost, listed = lab.agent(sweep), lab.agent(sweep)
    [gone], [kept] = lab.beat(lost), lab.beat(listed)
    lab.post(gone["run_id"])
    lab.post(kept["run_id"])
    lab.database.listening_since = lab.now
    lab.wait(run_states.SILENCE_SECONDS - 1)
    assert lab.state(gone["run_id"]) == "running"
    lab.beat(listed, kept["run_id"])
    lab.wait(2)
    assert lab.state(gone["run_id"]) == "crashed"
    assert lab.state(kept["run_id"]) == "running"
    lab.post(gone["run_id"])
    assert lab.state(gone["run_id"]) == "running"


def test_agent_that_comes_back_too_late_is_told_to_stop(lab: SweepLab) -> None:
    sweep = lab.sweep("method: grid\nparameters: {a: {values: [1]}}\n")
    late, other = lab.agent(sweep), lab.agent(sweep)
    [command] = lab.beat(late)
    name = command["run_id"]
    lab.inside(lambda db: db.run("UPDATE run SET started_at = 1"))
    lab.post(name)
    lab.wait(run_states.SILENCE_SECONDS + 1)
    lab.wait(hand_out.RETURN_SECONDS)
    assert lab.beat(other) == [command | {"type": "resume"}]
    lab.post(name)
    assert lab.beat(late, name) == [{"type": "stop", "run_id": name}]
    assert lab.beat(other, name) == []
    # What the process says as it ends is not said by the other one, which goes on.
    lab.post(name, preempting=True, complete=True, exitcode=143)
    lab.wait(1)
    assert lab.beat(late) == []
    assert lab.beat(other, name) == [] == lab.beat(late)
    lab.post(name, complete=True, exitcode=0)
    assert lab.state(name) == "finished"
    assert lab.beat(other) == [{"type": "exit"}]


def test_script_whose_run_was_deleted_is_stopped(lab: SweepLab) -> None:
    sweep = lab.sweep("method: grid\nparameters: {a: {values: [1]}}\n")
    agent, other = lab.agent(sweep), lab.agent(sweep)
    [command] = lab.beat(agent)
    lab.inside(lambda db: db.run("DELETE FROM run"))
    assert lab.beat(other)[0]["args"] == command["args"]
    assert lab.beat(agent, command["run_id"]) == [{"type": "stop", "run_id": command["run_id"]}]
    assert lab.beat(agent) == []


def test_crashes_are_never_fewer_than_none(lab: SweepLab) -> None:
    """A sweep that is resumed forgets the crashes of its runs, also of one that then proves to be alive."""
    sweep = lab.sweep("method: grid\nparameters: {a: {values: [1]}}\n")
    agent = lab.agent(sweep)
    [command] = lab.beat(agent)
    lab.wait(run_states.SILENCE_SECONDS + 1)
    lab.inside(lambda db: db.run("UPDATE sweep SET state = 'FINISHED'"))
    lab.inside(lambda db: sweep_rows.change(db, db.get("sweep", sweep["id"]), None, "RUNNING"))
    assert lab.beat(agent, command["run_id"]) == []
    assert lab.inside(lambda db: db.value("SELECT crashes FROM run")) == 0


def test_hand_out_to_an_agent_that_died_at_once_comes_back(lab: SweepLab) -> None:
    sweep = lab.sweep("method: grid\nparameters: {a: {values: [1]}}\n")
    [command] = lab.beat(lab.agent(sweep))
    lab.wait(run_states.SILENCE_SECONDS + 1)
    assert lab.beat(lab.agent(sweep)) == [command | {"type": "resume"}]


def test_pause_stop_and_cancel(lab: SweepLab) -> None:
    sweep = lab.sweep(GRID)
    agent = lab.agent(sweep)

    def to(state: str) -> None:
        lab.inside(lambda db: sweep_rows.change(db, sweep, None, state))

    to("PAUSED")
    assert lab.beat(agent) == []
    to("RUNNING")
    [command] = lab.beat(agent)
    name = command["run_id"]
    lab.post(name)
    to("FINISHED")
    assert lab.beat(agent, name) == []
    to("CANCELED")
    assert lab.beat(agent, name) == [{"type": "stop", "run_id": name}]
    assert lab.post(name) == {"stopped": True}
    assert lab.beat(agent) == [{"type": "exit"}]
    assert lab.state(name) == "killed"
    with pytest.raises(RequestError, match="a sweep cannot be SLEEPING"):
        to("SLEEPING")


def test_the_number_of_runs_of_a_sweep_is_changed(lab: SweepLab) -> None:
    sweep = lab.sweep("program: train.py\nmethod: random\nrun_cap: 1\nparameters: {a: {min: 0.0, max: 1.0}}")

    def current() -> dict:
        return lab.inside(lambda db: db.get("sweep", sweep["id"]))

    def cap(number: int | None) -> None:
        row = current()
        lab.inside(lambda db: sweep_rows.cap_runs(db, row, number))

    def move(state: str) -> None:
        row = current()
        lab.inside(lambda db: sweep_rows.change(db, row, None, state))

    agent = lab.agent(sweep)
    done(lab, lab.beat(agent)[0])
    cap(2)
    [command] = lab.beat(agent)
    assert command["type"] == "run" and command["program"] == "train.py"
    done(lab, command)
    assert lab.beat(agent) == [{"type": "exit"}] and current()["state"] == "FINISHED"
    cap(None)
    assert "run_cap" not in current()["config"]
    move("RUNNING")
    assert lab.beat(lab.agent(sweep))[0]["type"] == "run"
    with pytest.raises(RequestError, match="run_cap must be"):
        cap(0)
    move("CANCELED")
    with pytest.raises(RequestError, match="is cancelled"):
        cap(5)


def test_run_cap_and_random_draws(lab: SweepLab) -> None:
    sweep = lab.sweep("""
        method: random
        run_cap: 3
        parameters:
          lr: {distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-1}
          n: {min: 1, max: 3}
          q: {distribution: q_uniform, min: 0, max: 1, q: 0.25}
          outer: {parameters: {inner: {values: [u, v]}, fixed: {value: 7}}}
    """)
    agent, seen = lab.agent(sweep), []
    for _ in range(3):
        [command] = lab.beat(agent)
        seen.append({name: item["value"] for name, item in command["args"].items()})
        done(lab, command)
    assert lab.beat(agent) == [{"type": "exit"}]
    assert len({point["lr"] for point in seen}) == 3
    for point in seen:
        assert 1e-4 <= point["lr"] <= 1e-1 and point["n"] in (1, 2, 3) and point["q"] % 0.25 == 0
        assert point["outer"]["inner"] in "uv" and point["outer"]["fixed"] == 7


# ---- the real client -------------------------------------------------------------------------------------

SCRIPT = """
import os, pathlib, signal, sys, time
import wandb

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with wandb.init(resume="allow") as run:
    mark = pathlib.Path(f"seen-{run.id}")
    print(run.id, dict(run.config), run.resumed, flush=True)
    run.log({"loss": run.config.a})
    if not mark.exists():
        mark.touch()
        if dict(run.config) == {"a": 1, "b": "x"}:
            run.mark_preempting()
            sys.exit(3)
        if dict(run.config) == {"a": 2, "b": "y"}:
            time.sleep(3)
            os.kill(os.getpid(), signal.SIGKILL)
    run.summary["again"] = run.resumed
"""


def agent_of(server: Server, sweep: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", AGENT, sweep],
        cwd=server.folder / "client",
        env=server.env | {"WANDB_AGENT_DISABLE_FLAPPING": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_sweep(server: Server, config: str) -> str:
    (server.folder / "client" / "sweep.yaml").write_text(config)
    command = [Path(sys.executable).parent / "wandb", "sweep", "--project", "grid", "sweep.yaml"]
    env = server.env | {"WANDB_SILENT": "false"}
    made = subprocess.run(
        command, cwd=server.folder / "client", env=env, capture_output=True, text=True, timeout=120
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stderr.rpartition("wandb agent ")[2].split()[0]


RUNS = """query ($sweep: String!) { project(name: "grid", entityName: "local") { sweep(sweepName: $sweep) {
    state runs { edges { node { name state config summaryMetrics sweepName historyLineCount } } } } } }"""


@pytest.fixture(scope="module")
def sleeper(server: Server) -> Iterator[tuple[str, subprocess.Popen]]:
    """A sweep with one agent, whose script sleeps; it runs beside the other sweep, to save time."""
    script = "import time, wandb\nrun = wandb.init()\nrun.log({'x': 1})\ntime.sleep(200)\n"
    (server.folder / "client" / "sleep.py").write_text(script)
    path = start_sweep(server, GRID.replace("x.py", "sleep.py"))
    agent = agent_of(server, path)
    yield path, agent
    if agent.poll() is None:
        agent.kill()


@pytest.mark.long
@pytest.mark.usefixtures("sleeper")
def test_real_agents_share_a_grid_and_repeat_what_was_lost(server: Server) -> None:
    """Two agents, four points: one script is preempted, one is killed, and all four end well."""
    (server.folder / "client" / "x.py").write_text(SCRIPT)
    path = start_sweep(server, GRID)
    agents = [agent_of(server, path) for _ in range(2)]
    try:
        outputs = [agent.communicate(timeout=240)[0] for agent in agents]
    finally:
        for agent in agents:
            if agent.poll() is None:
                os.kill(agent.pid, signal.SIGKILL)
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    sweep = server.query(RUNS, sweep=path.rpartition("/")[2])["project"]["sweep"]
    runs = [edge["node"] for edge in sweep["runs"]["edges"]]
    assert sweep["state"] == "FINISHED"
    assert [run["state"] for run in runs] == ["finished"] * 4, outputs
    points, again = [], []
    for run in runs:
        config = json.loads(run["config"])
        points.append((config["a"]["value"], config["b"]["value"]))
        if json.loads(run["summaryMetrics"]).get("again"):
            again.append(points[-1])
            assert run["historyLineCount"] == 2
    assert sorted(points) == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    assert sorted(again) == [(1, "x"), (2, "y")]
    assert sum(output.count("{'") for output in outputs) == 6, outputs


def test_cancel_from_the_command_line_stops_the_script(
    server: Server, sleeper: tuple[str, subprocess.Popen]
) -> None:
    path, agent = sleeper
    sweep = path.rpartition("/")[2]
    wait_for(lambda: "running" in json.dumps(server.query(RUNS, sweep=sweep)))
    command = [Path(sys.executable).parent / "wandb", "sweep", "--cancel", path]
    subprocess.run(command, env=server.env, check=True, capture_output=True, timeout=120)
    out, _ = agent.communicate(timeout=120)
    assert agent.returncode == 0, out
    answer = server.query(RUNS, sweep=sweep)["project"]["sweep"]
    assert answer["state"] == "CANCELED"
    assert [edge["node"]["state"] for edge in answer["runs"]["edges"]] == ["killed"]
