"""`wandb sync` of what was logged without a server."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from live_server import Server

OFFLINE = """
import json, pathlib, numpy as np, wandb
def train(start, stop, **how):
    with wandb.init(mode="offline", config={"lr": 0.1}, tags=["t"], name="first", **how) as run:
        for step in range(start, stop):
            run.log({"x": step, "bad": float("nan"), "step": step})
        run.log({"image": wandb.Image(np.zeros((4, 4, 3), np.uint8)),
                 "table": wandb.Table(columns=["a"], data=[[1], [2]])})
        artifact = wandb.Artifact("model", "model", metadata={"stop": stop})
        with artifact.new_file("w.bin") as file:
            file.write("w" * stop)
        run.log_artifact(artifact, aliases=["best"])
        print("said", stop)
        return str(pathlib.Path(run.dir).parent)
folders = [train(0, 5, project="syncing", id="plain"),
           train(0, 5, project="syncing", id="resumed"),
           train(5, 8, project="syncing", id="resumed", resume="allow")]
print(json.dumps(folders))
"""

READ = """
import json, sys, wandb
api, answer = wandb.Api(), {}
for path in sys.argv[1:]:
    run = api.run(path)
    project = path.rpartition("/")[0]
    logged = sorted(artifact.name for artifact in run.logged_artifacts())
    model = api.artifact(f"{project}/model:latest") if logged else None
    answer[path] = {
        "about": [run.name, run.state, run.tags, run.config],
        "x": [row.get("x") for row in run.scan_history()],
        "summary": run.summary["x"], "console": [line.content for line in run.console_logs()],
        "media": sorted(file.name for file in run.files() if file.name.startswith("media/")),
        "model": model and [model.version, sorted(model.aliases), model.metadata, model.size],
        "logged": logged,
        "table": model and api.artifact(f"{project}/run-{run.id}-table:latest").get("table").data,
        "sweep": run.sweep.id if run.sweep else None, "job": run.job_type,
    }
print(json.dumps(answer))
"""


def sync(server: Server, *arguments: str) -> None:
    done = subprocess.run(
        ["wandb", "sync", *arguments],
        cwd=server.folder / "client",
        env=server.env | {"WANDB_SILENT": "false"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def counts(server: Server, project: str) -> Any:
    document = """query ($p: String!) { project(name: $p, entityName: "local") { runs { edges { node {
        name historyLineCount logLineCount fileCount outputArtifacts { totalCount } } } } } }"""
    return [edge["node"] for edge in server.query(document, p=project)["project"]["runs"]["edges"]]


@pytest.fixture(scope="module")
def folders(server: Server) -> list[str]:
    return server.run(OFFLINE)


@pytest.mark.long
def test_offline_runs_arrive_once(server: Server, folders: list[str]) -> None:
    # Not all at once, so that it is known which version of the artifact is the latest.
    sync(server, folders[0])
    sync(server, *folders[1:])
    answer = server.run(READ, "local/syncing/plain", "local/syncing/resumed")
    plain, resumed = answer["local/syncing/plain"], answer["local/syncing/resumed"]
    assert plain["about"] == ["first", "finished", ["t"], {"lr": 0.1}]
    assert plain["x"] == [0, 1, 2, 3, 4, None] and plain["summary"] == 4 and "said 5" in plain["console"]
    assert len(plain["media"]) == 2 and plain["table"] == [[1], [2]]
    assert plain["logged"] == ["model:v0", "run-plain-table:v0"]
    assert resumed["x"] == [0, 1, 2, 3, 4, None, 5, 6, 7, None] and resumed["summary"] == 7
    assert {"said 5", "said 8"} <= set(resumed["console"])
    assert resumed["model"] == ["v1", ["best", "latest"], {"stop": 8}, 8]
    before = counts(server, "syncing")
    sync(server, "--include-synced", *folders)
    assert counts(server, "syncing") == before


def test_where_a_run_goes_can_be_chosen(server: Server, folders: list[str]) -> None:
    where = ("--entity", "a team", "--project", "ünï", "--id", "other", "--job-type", "moved")
    sync(server, "--include-synced", *where, folders[0])
    [moved] = server.run(READ, "a team/ünï/other").values()
    assert moved["x"] == [0, 1, 2, 3, 4, None] and moved["job"] == "moved" and len(moved["media"]) == 2
    # The client logs artifacts under the project that the run was made for, whatever it is told.
    assert moved["logged"] == []


def test_offline_run_of_a_sweep_joins_it(server: Server) -> None:
    config = json.dumps({"method": "grid", "parameters": {"x": {"values": [1]}}})
    make = """mutation ($c: String!) { upsertSweep(input: {config: $c, projectName: "syncing"}) {
        sweep { name } } }"""
    made = server.query(make, c=config)
    sweep = made["upsertSweep"]["sweep"]["name"]
    script = """
        import json, pathlib, wandb
        with wandb.init(mode="offline") as run:
            run.log({"x": 1})
        print(json.dumps([str(pathlib.Path(run.dir).parent), run.id]))
    """
    folder, name = server.run(script, WANDB_SWEEP_ID=sweep, WANDB_PROJECT="syncing")
    sync(server, folder)
    document = '{ project(name: "syncing", entityName: "local") { run(name: "%s") { sweepName state } } }'
    assert server.query(document % name)["project"]["run"] == {"sweepName": sweep, "state": "finished"}
