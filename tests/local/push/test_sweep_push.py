"""A sweep that really ran, pushed from one server to another and read back from both with wandb.Api()."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from live_server import REPOSITORY, Server, sqlite, wait_for
from warm_python import WarmProcess

from wandb_tl.local.push import run_push

PROJECT = "ünï proj.v1"

SWEEP = """
import json, pathlib, numpy as np, wandb
import wandb.agents.pyagent
wandb.agents.pyagent.Agent.HEARTBEAT_SLEEP_SECONDS = 0.2
PROJECT = "ünï proj.v1"
pathlib.Path("data.txt").write_text("some data")
with wandb.init(entity="a team", project=PROJECT, id="prepare") as run:
    data = wandb.Artifact("data_set", "dataset", description="all of it")
    data.add_file("data.txt", name="sub dir/dätä.txt")
    run.log_artifact(data, aliases=["best"])
sweep = wandb.sweep({"name": "närrow", "description": "a short one", "method": "grid",
                     "metric": {"name": "loss", "goal": "minimize"},
                     "parameters": {"x/y": {"values": [1, 2, 3]}}}, entity="a team", project=PROJECT)

def train():
    with wandb.init(tags=["t", "ü"], notes="a note", group="g", job_type="train") as run:
        x = run.config["x/y"]
        run.name = f"rün/{x}"
        run.use_artifact("data_set:best")
        for step in range(2100 if x == 1 else 20):
            run.log({"loss": x / (step + 1), "bad": float("nan"), "a/b c": step})
        table = wandb.Table(columns=["x", "image"], data=[[x, wandb.Image(np.full((4, 4, 3), x, np.uint8))]])
        run.log({"image/one": wandb.Image(np.full((8, 8, 3), x, np.uint8), caption="ü"), "table": table})
        matrix = wandb.plot.confusion_matrix(y_true=[0, 1, 1], preds=[0, 1, 0], class_names=["a", "b"])
        run.log({"matrix": matrix})
        model = wandb.Artifact("model", "model", metadata={"x": x})
        with model.new_file("w/ü.bin", mode="wb") as file:
            file.write(bytes([x]) * 100)
        model.add_reference(pathlib.Path("data.txt").resolve().as_uri(), name="ref")
        logged = run.log_artifact(model, aliases=["best", f"x{x}"], tags=["kept"])
        logged.wait()
        print("on the console", x)
        if x == 3:
            raise ValueError(x)

# Without a count the agent would wait 10 s at its end.
wandb.agent(sweep, train, entity="a team", project=PROJECT, count=3)
print(json.dumps(sweep))
"""

READ = """
import json, sys, wandb
entity, project, sweep = sys.argv[1:4]
api = wandb.Api()
sweep = api.sweep(f"{entity}/{project}/{sweep}")
text = lambda value: json.dumps(value, sort_keys=True)  # In which NaN equals NaN.
def artifact(a):
    return [a.name, a.type, a.version, sorted(a.aliases), sorted(a.tags), a.metadata, a.description, a.digest,
            a.size, {k: [e.digest, e.size, e.ref] for k, e in sorted(a.manifest.entries.items())}]
answer = {"sweep": [sweep.name, sweep.config, sweep.state], "runs": {}}
for run in sorted(sweep.runs, key=lambda run: run.id):
    run = api.run(f"{entity}/{project}/{run.id}")
    answer["runs"][run.id] = {
        "about": [run.name, run.state, run.tags, run.notes, run.group, run.job_type, run.commit],
        "in sweep": run.sweep.id == sweep.id,
        "config": run.config, "raw config": run.rawconfig,
        "summary": text(run.summary._json_dict),
        "history": [text(row) for row in run.scan_history()],
        "events": run.history(stream="system", pandas=False),
        "console": [[line.timestamp, line.level, line.content] for line in run.console_logs()],
        "files": sorted([file.name, file.size, file.md5] for file in run.files()),
        "metadata": run.metadata, "logged": sorted([artifact(a) for a in run.logged_artifacts()], key=str),
        "used": [artifact(a) for a in run.used_artifacts()],
        "by": [a.logged_by().id for a in run.logged_artifacts()],
        "table": [[x, image.image.getpixel((0, 0))] for x, image in api.artifact(
            f"{entity}/{project}/run-{run.id}-table:latest").get("table").data],
    }
best = api.artifact(f"{entity}/{project}/model:best")
answer["best"] = [artifact(best), open(best.download() + "/w/ü.bin", "rb").read().hex()]
data = api.artifact(f"{entity}/{project}/data_set:latest")
answer["data"] = [artifact(data), sorted(run.id for run in data.used_by())]
print(json.dumps(answer, default=str))
"""


def push(source: Server, target: Server, path: str, *arguments: str) -> subprocess.CompletedProcess:
    process = start(source, target.url, path, *arguments, WANDB_PUSH_API_KEY=target.key)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start(source: Server, url: str, path: str, *arguments: str, **env: str) -> WarmProcess:
    command = ["-m", "wandb_tl.local", "push", path, "--to", url, "--root", str(source.root)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    variables |= {"NETRC": str(source.folder / "netrc")} | env
    return WarmProcess([*command, *arguments], REPOSITORY, variables)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("target"))
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def sweep(server: Server) -> str:
    name = server.run(SWEEP)
    path = f"a team/{PROJECT}/{name}"
    document = """query ($p: String!, $s: String!) { project(entityName: "a team", name: $p) {
        sweep(sweepName: $s) { id } } }"""
    found = server.query(document, p=PROJECT, s=name)
    stop = 'mutation ($id: ID!) { upsertSweep(input: {id: $id, state: "FINISHED"}) { sweep { state } } }'
    server.query(stop, id=found["project"]["sweep"]["id"])
    return path


@pytest.fixture(scope="module")
def original(server: Server, sweep: str) -> dict[str, Any]:
    return server.run(READ, *sweep.split("/"))


@pytest.mark.slow
def test_everything_of_a_sweep_arrives_once_however_often_it_is_pushed(
    server: Server, target: Server, sweep: str, original: dict[str, Any]
) -> None:
    first = push(server, target, sweep, "--as", "öther/ünï proj.v1")
    assert first.returncode == 0 and first.stderr == "", first.stderr
    url = first.stdout.strip()
    assert url.startswith(f"{target.url}/%C3%B6ther/%C3%BCn%C3%AF%20proj.v1/sweeps/")
    there = url.rpartition("/")[2]
    copy = target.run(READ, "öther", PROJECT, there)
    for run_id, run in original["runs"].items():
        for what, value in run.items():
            assert copy["runs"][run_id][what] == value, (run_id, what)
    assert copy == original
    states = sorted(run["about"][1] for run in original["runs"].values())
    assert len(original["runs"]) == 3 and states[-2:] == ["finished", "finished"], states
    assert sorted(len(run["history"]) for run in original["runs"].values()) == [22, 22, 2102]
    assert all("NaN" in run["history"][0] for run in original["runs"].values())
    lines = dump(target)
    again = push(server, target, sweep, "--as", "öther/ünï proj.v1")
    assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr
    assert dump(target) == lines


@pytest.mark.slow
def test_everything_of_a_sweep_and_of_a_project_is_pulled_once(
    server: Server, target: Server, sweep: str, original: dict[str, Any]
) -> None:
    def pull(path: str, *arguments: str) -> str:
        command = ["-m", "wandb_tl.local", "pull", path, "--from", server.url, "--root", str(target.root)]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        variables["WANDB_PUSH_API_KEY"] = server.key
        process = WarmProcess([*command, *arguments], REPOSITORY, variables)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, ""), out + err
        return out.strip()

    url = pull(sweep, "--as", f"pulled/{PROJECT}")
    assert url.startswith(f"{target.url}/pulled/%C3%BCn%C3%AF%20proj.v1/sweeps/")
    assert target.run(READ, "pulled", PROJECT, url.rpartition("/")[2]) == original
    lines = dump(target)
    assert pull(sweep, "--as", f"pulled/{PROJECT}") == url and dump(target) == lines
    # Runs of no sweep, too.
    assert pull(sweep.rpartition("/")[0], "--as", "all/p") == f"{target.url}/all/p/sweeps/" + sqlite(
        target, "SELECT sweep.name FROM sweep JOIN project ON project.id = project_id WHERE entity = 'all'"
    )
    count = '{ project(entityName: "all", name: "p") { runCount run(name: "prepare") { state } } }'
    assert target.query(count)["project"] == {"runCount": 4, "run": {"state": "finished"}}
    assert not list((target.root / "pulling").glob("*/blobs"))


def dump(server: Server) -> list[Any]:
    """How much of everything there is."""
    with sqlite3.connect(server.root / "wandb.sqlite") as records:
        names = records.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        ).fetchall()
        return [records.execute(f"SELECT count(*) FROM {name}").fetchone() for (name,) in names]


@pytest.mark.slow
def test_interrupted_push_goes_on(
    server: Server, target: Server, sweep: str, original: dict[str, Any]
) -> None:
    count = 'query ($p: String!) { project(entityName: "local", name: $p) { runCount } }'
    pushing = start(server, target.url, sweep, WANDB_PUSH_API_KEY=target.key)
    wait_for(lambda: (target.query(count, p=PROJECT)["project"] or {}).get("runCount", 0) >= 2)
    pushing.send_signal(signal.SIGKILL)
    pushing.communicate()
    assert pushing.returncode == -signal.SIGKILL
    assert push(server, target, sweep).returncode == 0
    with sqlite3.connect(target.root / "wandb.sqlite") as records:
        [(there,)] = records.execute(
            "SELECT sweep.name FROM sweep JOIN project ON project.id = project_id WHERE entity = 'local'"
        ).fetchall()
    assert target.run(READ, "local", PROJECT, there) == original


def test_pieces_hold_lines_that_follow_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_push, "PIECE_BYTES", 6)
    lines = [(0, "aa"), (1, "bb"), (2, "cc"), (3, "dd"), (7, "ee"), (8, "longer than a piece"), (9, "ü" * 3)]
    assert list(run_push.cut(lines)) == [
        (0, ["aa", "bb", "cc"]), (3, ["dd"]), (7, ["ee"]), (8, ["longer than a piece"]), (9, ["üüü"]),
    ]  # fmt: skip
    assert list(run_push.cut([])) == []


def test_server_that_is_away_is_waited_for(server: Server, target: Server, sweep: str) -> None:
    pushing = start(server, target.url, sweep, "--as", "third/p", WANDB_PUSH_API_KEY=target.key)
    count = '{ project(entityName: "third", name: "p") { runCount } }'
    wait_for(lambda: (target.query(count)["project"] or {}).get("runCount", 0) >= 1)
    # It stands still until the server is away, so that it cannot be through before that.
    pushing.send_signal(signal.SIGSTOP)
    target.stop(signal.SIGKILL)
    pushing.send_signal(signal.SIGCONT)
    time.sleep(1)
    assert pushing.poll() is None, pushing.stderr.read()
    target.start()
    _, err = pushing.communicate(timeout=120)
    assert pushing.returncode == 0, err
    states = '{ project(entityName: "third", name: "p") { runs { edges { node { historyLineCount } } } } }'
    edges = target.query(states)["project"]["runs"]["edges"]
    assert sorted(edge["node"]["historyLineCount"] for edge in edges) == [22, 22, 2102]


def test_key_of_wandb_login_is_used(server: Server, target: Server, sweep: str) -> None:
    netrc = server.folder / "netrc"
    netrc.write_text(f"machine {target.url.removeprefix('http://')}\n  login user\n  password {target.key}\n")
    process = start(server, target.url, sweep)
    out, err = process.communicate(timeout=120)
    netrc.unlink()
    assert process.returncode == 0 and target.url in out, err


def live_sweep(server: Server) -> str:
    document = """mutation ($c: String!) { upsertSweep(input: {config: $c, projectName: "live"}) {
        sweep { name } } }"""
    config = "method: grid\nparameters: {x: {values: [1]}}\n"
    name = server.query(document, c=config)["upsertSweep"]["sweep"]["name"]
    run = """mutation ($s: String!) {
        upsertBucket(input: {modelName: "live", name: "r", host: "h", sweep: $s}) { inserted } }"""
    server.query(run, s=name)
    return f"local/live/{name}"


@pytest.mark.long
def test_refusals_are_one_line(server: Server, target: Server, sweep: str) -> None:
    def says(path: str, url: str, *arguments: str, **env: str) -> str:
        process = start(server, url, path, *arguments, **env)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 1 and out == "" and err.count("\n") == 1, err
        return err

    key = {"WANDB_PUSH_API_KEY": target.key}
    assert "does not know this API key" in says(sweep, target.url, WANDB_PUSH_API_KEY="a" * 40)
    assert "there is no API key" in says(sweep, target.url)
    assert "cannot reach http://127.0.0.1:9: no connection" in says(sweep, "http://127.0.0.1:9", **key)
    assert "not a valid address of a server" in says(sweep, "127.0.0.1", **key)
    assert "https://api.wandb.ai" in says(sweep, "https://wandb.ai", **key)
    assert "is it a W&B server?" in says(sweep, f"{target.url}/elsewhere", **key)
    assert "there is no sweep" in says(sweep + "x", target.url, **key)
    assert "1 of the sweep's runs have not ended" in says(live_sweep(server), target.url, **key)
    assert "ENTITY/PROJECT/SWEEP" in says("a/b", target.url, **key)
    assert "--as takes" in says(sweep, target.url, "--as", "x", **key)
    home = sweep.rpartition("/")[0]
    assert "already" in says(sweep, server.url, "--as", home, WANDB_PUSH_API_KEY=server.key)
    elsewhere = ("--as", "öther/ünï proj.v1")
    out, err = start(server, target.url, sweep, *elsewhere, **key).communicate(timeout=120)
    assert "did not make" not in err, out + err
    (server.root / "pushed.json").unlink()
    assert "did not make" in says(sweep, target.url, *elsewhere, **key)
