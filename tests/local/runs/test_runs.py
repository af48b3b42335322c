"""What else the unmodified client does with runs: filters, branches, shared runs, commands."""

from __future__ import annotations

import json
import os
import sqlite3
from typing import Any

import pytest
from live_server import Server

WRITE = """
import json, time, wandb
answer = {}
for number, (state, group) in enumerate([("good", "a"), ("good", "b"), ("bad", "b")]):
    try:
        with wandb.init(project="seek", id=f"r{number}", group=group, tags=[f"t{number}", "all"],
                        config={"lr": 0.1 * number, "opt": {"name": "Adam" if number else "SGD"}}) as run:
            run.define_metric("epoch")
            run.define_metric("acc", step_metric="epoch", summary="max")
            for epoch in range(30):
                rare = {"rare": 1} if epoch % 10 == 0 else {}
                run.log({"acc": (number + 1) / (epoch + 1), "epoch": epoch} | rare)
            run.alert("Low Ä", "see\\nthis", level=wandb.AlertLevel.WARN, wait_duration=0)
            if state == "bad":
                raise RuntimeError
    except RuntimeError:
        pass
api = wandb.Api()
names = lambda where={}, **how: sorted(run.id for run in api.runs("local/seek", filters=where, **how))
answer["filters"] = [names(where) for where in (
    {"state": "finished"}, {"$or": [{"group": "a"}, {"state": "failed"}]}, {"tags": {"$in": ["t0", "t2"]}},
    {"config.opt.name": "Adam"}, {"config.opt.value.name": {"$ne": "Adam"}}, {"config.lr": {"$gt": 0.05}},
    {"display_name": {"$regex": "^.*-2$"}}, {"summary_metrics.acc.max": {"$gte": 2}},
    {"username": api.viewer.username}, {"username": {"$nin": [api.viewer.username]}},
    {"created_at": {"$gt": "2020-01-01T00:00:00"}}, {"createdAt": {"$lt": "2020-01-01"}},
    {"jobType": {"$exists": False}}, {"$not": {"group": "b"}}, {"name": {"$in": ["r1"]}},
)]
order = lambda how: [run.id for run in api.runs("local/seek", order=how, per_page=2)]
answer["orders"] = [order(how) for how in
                    ("+created_at", "-created_at", "-summary_metrics.acc.max", "+config.opt.name,-config.lr")]
runs = api.runs("local/seek")
answer["runs"] = [len(runs), runs[1].id, [run.id for run in runs[0:2]]]
frame = runs.histories(samples=100, keys=["acc"])
answer["histories"] = [len(frame), sorted({row["run_id"] for row in frame})]
lazy = next(iter(api.runs("local/seek")))
answer["lazy"] = [lazy.config["opt"], dict(lazy.summary["acc"])]
lazy.load_full_data(force=True)
run = api.run("local/seek/r1")
answer["history"] = [
    len(run.history(samples=10, pandas=False)), len(run.history(keys=["acc"], samples=7, pandas=False)),
    [row["epoch"] for row in run.history(keys=["rare"], x_axis="epoch", pandas=False)],
    [row["_step"] for row in run.scan_history(min_step=5, max_step=8)],
    [row["_step"] for row in run.scan_history(keys=["rare", "_step"], page_size=2)],
    len(list(run.scan_history(page_size=7))), len(run.history(samples=5)),
]
answer["from_path"] = [api.from_path("local/seek/runs/r1").id, api.from_path("local/seek").name]
answer["made"] = api.create_run(run_id="made", project="seek").state
created = api.run("local/seek/made")
created.config["x"] = 1; created.update(); created.summary["y"] = 2; created.summary.update()
created = wandb.Api().run("local/seek/made")
answer["created"] = [created.state, created.config, created.summary["y"]]
answer["pending"] = api.run("local/seek/r2").update_state("pending"), api.run("local/seek/r2").state
try:
    api.run("local/seek/r1").update_state("failed")
except Exception as error:
    answer["state"] = str(error)
api.create_project("fresh", "some team")
answer["projects"] = sorted(project.name for project in api.projects("some team"))
try:
    api.create_team("t")
except Exception as error:
    answer["team"] = str(error)
with wandb.init(project="seek", resume_from="r1?_step=2") as run:
    answer["rewound"] = run.starting_step
    run.log({"acc": 9, "epoch": 9})
with wandb.init(project="seek", fork_from="r0?_step=1", id="forked") as run:
    run.log({"acc": 8, "epoch": 8})
scan = lambda name: [row["acc"] for row in wandb.Api().run("local/seek/" + name).scan_history()]
answer["branches"] = [scan("r1"), scan("forked"), len(scan("r0"))]
try:
    wandb.init(project="seek", fork_from="nobody?_step=1", settings=wandb.Settings(init_timeout=20))
except Exception as error:
    answer["no parent"] = str(error)
print(json.dumps(answer))
"""

SHARED = """
import json, sys, time, wandb
label, primary = sys.argv[1], sys.argv[1] == "0"
settings = wandb.Settings(mode="shared", x_primary=primary, x_label=f"node{label}",
                          x_update_finish_state=primary, console="wrap")
with wandb.init(project="together", id="shared", settings=settings) as run:
    for step in range(50):
        run.log({f"loss/{label}": step})
    print(f"from node {label}")
print(json.dumps(run.id))
"""

PREEMPTED = """
import json, sys, wandb
run = wandb.init(project="together", id="preempted")
run.log({"x": 1})
run.mark_preempting()
run.finish(exit_code=143)
print(json.dumps(1))
"""


NAMES = """
import json, wandb
refused = []
for entity, project in (("ün/x", "a b.c"), ("a#b?", "日本"), ("...", "'\\""), ("..", "p"), ("e", ".")):
    try:
        with wandb.init(entity=entity, project=project, id="r") as run:
            run.log({"x": 1})
    except Exception as error:
        refused.append([entity, project, "neither part can be" in str(error)])
    wandb.teardown()
print(json.dumps(refused))
"""


@pytest.fixture(scope="module")
def answer(server: Server) -> dict[str, Any]:
    return server.run(WRITE)


@pytest.mark.slow
def test_filters_and_orders(answer: dict[str, Any]) -> None:
    every = ["r0", "r1", "r2"]
    assert answer["filters"] == [
        ["r0", "r1"], ["r0", "r2"], ["r0", "r2"],
        ["r1", "r2"], ["r0"], ["r1", "r2"],
        ["r1"], ["r1", "r2"],
        every, [],
        every, [],
        every, ["r0"], ["r1"],
    ]  # fmt: skip
    assert answer["orders"] == [every, every[::-1], every[::-1], ["r2", "r1", "r0"]]


def test_reading(answer: dict[str, Any]) -> None:
    assert answer["runs"] == [3, "r1", ["r0", "r1"]] and answer["lazy"] == [{"name": "SGD"}, {"max": 1}]
    assert answer["histories"] == [90, ["r0", "r1", "r2"]]
    assert answer["history"] == [10, 7, [0, 10, 20], [5, 6, 7], [0, 10, 20], 30, 5]
    assert answer["from_path"] == ["r1", "seek"]


def test_making_and_changing(answer: dict[str, Any]) -> None:
    assert (
        answer["made"] == "running"
        and answer["created"] == ["running", {"x": 1}, 2]
        and answer["projects"] == ["fresh"]
    )
    assert (
        answer["pending"] == [True, "pending"]
        and "invalid state transition: a run that is" in answer["state"]
    )
    assert "team t not found" in answer["team"]


def test_runs_branch(answer: dict[str, Any]) -> None:
    assert answer["rewound"] == 3
    assert answer["branches"] == [[2, 1, 2 / 3, 9], [1, 1 / 2, 8], 30]
    assert "no run nobody to fork from" in answer["no parent"]


@pytest.mark.slow
def test_several_processes_write_one_run(server: Server) -> None:
    nodes = [server.spawn(SHARED, str(label)) for label in range(3)]
    for node in nodes:
        out, err = node.communicate(timeout=120)
        assert node.returncode == 0, out + err
    document = """{ project(name: "together", entityName: "local") { run(name: "shared") {
        state historyLineCount history(samples: 500) logLines { edges { node { line label } } } } } }"""
    run = server.query(document)["project"]["run"]
    rows = [json.loads(line) for line in run["history"]]
    for label in range(3):
        values = [row[f"loss/{label}"] for row in rows if f"loss/{label}" in row]
        assert sorted(values) == list(range(50)), label
    lines = {(edge["node"]["label"], edge["node"]["line"]) for edge in run["logLines"]["edges"]}
    assert {(f"node{label}", f"from node {label}") for label in range(3)} <= lines
    assert run["state"] == "finished"


UPSERT = """mutation ($id: String, $name: String, $host: String, $sweep: String, $config: JSONString,
        $summary: JSONString, $state: String) {
    upsertBucket(input: {id: $id, name: $name, modelName: "by hand", host: $host, sweep: $sweep,
        config: $config, summaryMetrics: $summary, state: $state}) {
            bucket { id state summaryMetrics historyLineCount } inserted } }"""


def test_a_stop_is_meant_for_the_process_that_is_about_to_begin(server: Server) -> None:
    def upsert() -> str:
        return server.query(UPSERT, name="r", host="h")["upsertBucket"]["bucket"]["id"]

    def post(**body: Any) -> Any:
        return server.request("/files/local/by%20hand/r/file_stream", body)[1]

    stop = "mutation ($id: ID!) { stopRun(input: {id: $id}) { success } }"
    pending = 'mutation ($id: ID!) { updateRunState(input: {id: $id, state: "pending"}) { success } }'
    run = upsert()
    post(complete=True, exitcode=1)
    server.query(pending, id=run)
    server.query(stop, id=run)
    assert upsert() == run and post() == {"stopped": True}
    post(complete=True, exitcode=255)
    assert upsert() == run and post() == {}


def test_a_run_without_an_id_begins_anew(server: Server) -> None:
    document = """mutation ($c: String!) { upsertSweep(input: {config: $c, projectName: "by hand"}) {
        sweep { name } } }"""
    config = "{method: bayes, metric: {name: loss}, parameters: {a: {min: 0.0, max: 1.0}}}"
    sweep = server.query(document, c=config)["upsertSweep"]["sweep"]["name"]
    made = server.query(UPSERT, name="anew", host="h", sweep=sweep)["upsertBucket"]
    files = {"wandb-history.jsonl": {"offset": 0, "content": ['{"loss": 1}', '{"loss": 2}']}}
    files["wandb-summary.json"] = {"offset": 0, "content": ['{"loss": 2}']}
    server.request("/files/local/by%20hand/anew/file_stream", {"files": files})

    def values() -> int:
        with sqlite3.connect(server.root / "wandb.sqlite") as records:
            return records.execute("SELECT count(*) FROM metric_value").fetchone()[0]

    run = {"id": made["bucket"]["id"], "state": "running"}
    same = {"bucket": run | {"summaryMetrics": '{"loss": 2}', "historyLineCount": 2}, "inserted": False}
    assert server.query(UPSERT, id=run["id"], host="h")["upsertBucket"] == same and values() == 2
    assert server.query(UPSERT, name="anew")["upsertBucket"] == same and values() == 2
    wiped = {"bucket": run | {"summaryMetrics": "{}", "historyLineCount": 0}, "inserted": False}
    assert server.query(UPSERT, name="anew", host="h")["upsertBucket"] == wiped and values() == 0


def test_configs_and_summaries_are_objects(server: Server) -> None:
    for field in ("config", "summary"):
        for wrong in ("{broken", "[1]", "3", ""):
            body = {"query": UPSERT, "variables": {"name": "wrong", "host": "h", field: wrong}}
            message = server.request("/graphql", body)[1]["errors"][0]["message"]
            assert "must be the JSON of an object" in message


def test_only_the_states_of_a_run_are_stored(server: Server) -> None:
    made = server.query(UPSERT, name="stated", state="pending")["upsertBucket"]["bucket"]
    assert made["state"] == "pending"
    for host in ("h", None):
        for wrong in ("ready", "PENDING", ""):
            for names in ({"id": made["id"]}, {"name": "stated"}, {"name": "never made"}):
                variables = names | {"host": host, "state": wrong}
                body = {"query": UPSERT, "variables": variables}
                message = server.request("/graphql", body)[1]["errors"][0]["message"]
                assert message.startswith(f"a run cannot be {wrong!r}; it can be pending, running")
    runs = """{ project(name: "by hand", entityName: "local") {
        stated: run(name: "stated") { state } made: run(name: "never made") { state } } }"""
    assert server.query(runs)["project"] == {"stated": {"state": "pending"}, "made": None}


def test_configs_and_histories_of_odd_shapes_do_no_harm(server: Server) -> None:
    made = server.query(UPSERT, name="odd", host="h", config='{"_wandb": 5}')["upsertBucket"]["bucket"]["id"]
    lines = ['{"_step": 0, "x": 1}', "[1]", "{broken", '{"_step": 1, "x": 2}']
    files = {"wandb-history.jsonl": {"offset": 0, "content": lines}}
    assert server.request("/files/local/by%20hand/odd/file_stream", {"files": files}) == (200, {})
    rewind = """mutation { rewindRun(input: {runName: "odd", entityName: "local", projectName: "by hand",
        metricName: "_step", metricValue: 1}) { rewoundRun { id summaryMetrics wandbConfig } } }"""
    run = server.query(rewind)["rewindRun"]["rewoundRun"]
    assert run == {"id": made, "summaryMetrics": '{"_step": 1, "x": 2}', "wandbConfig": "{}"}


def test_names_of_entities_and_projects(server: Server) -> None:
    assert server.run(NAMES) == [["..", "p", True], ["e", ".", True]]
    document = """query ($e: String, $p: String) { project(name: $p, entityName: $e) {
        run(name: "r") { state historyLineCount } } }"""
    for entity, project in (("ün/x", "a b.c"), ("a#b?", "日本"), ("...", "'\"")):
        run = server.query(document, e=entity, p=project)["project"]["run"]
        assert run == {"state": "finished", "historyLineCount": 1}, (entity, project)


def test_preempted(server: Server) -> None:
    server.run(PREEMPTED)
    document = '{ project(name: "together", entityName: "local") { run(name: "preempted") { state } } }'
    assert server.query(document)["project"]["run"]["state"] == "preempted"


COMMANDS = """
import contextlib, io, json, sys
from wandb.cli.cli import cli
answer = []
for command in json.loads(sys.argv[1]):
    # The client keeps the streams that it found first.
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        cli(command, standalone_mode=False)
    answer.append(out.getvalue())
print(json.dumps(answer))
"""


def test_commands(server: Server, answer: dict[str, Any]) -> None:
    # In one process, because each needs two seconds to be imported.
    client = server.folder / "client"
    (client / "data").mkdir()
    (client / "data" / "ä.txt").write_text("hello")
    put = ["--name", "local/seek/stuff", "--type", "dataset", "--alias", "best", "data"]
    commands = [
        ["login", "--host", server.url, "--verify", "--relogin", server.key],
        ["pull", "local/seek/r0"],
        ["restore", "--no-git", "local/seek/r0"],
        ["artifact", "put", *put],
        ["artifact", "ls", "local/seek"],
        ["artifact", "get", "local/seek/stuff:best", "--root", "down"],
    ]
    netrc = server.folder / "netrc"
    places = {"NETRC": str(netrc), "WANDB_CONFIG_DIR": str(server.folder / "settings")}
    said = server.run(COMMANDS, json.dumps(commands), WANDB_SILENT="false", **places)
    assert "logged in" in said[0].lower() and "Restored config variables" in said[2], said
    assert "stuff" in said[4] and (client / "down" / "ä.txt").read_text() == "hello"
    assert (client / "config.yaml").exists() or list(client.rglob("config.yaml"))
    assert os.access(netrc, os.R_OK) and server.key in netrc.read_text()
