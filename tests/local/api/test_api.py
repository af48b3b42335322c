"""What the unmodified client logs, and what wandb.Api() reads back."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from graphql import build_client_schema, get_introspection_query, print_schema
from live_server import Server

from wandb_tl.local.api.resolvers import viewer

LOG = """
import json, math, pathlib, numpy as np, wandb
pathlib.Path("sub dir").mkdir()
pathlib.Path("sub dir/ünï.txt").write_text("hello")
config = {"lr": 0.1, "net": {"depth": 2}, "on": True}
with wandb.init(project="ünï proj", config=config, tags=["x", "y"], notes="note", group="g",
                job_type="train", name="first", id="one") as run:
    run.define_metric("acc", summary="max")
    for step in range(5):
        bad = [1.0, math.nan, math.inf, -math.inf, 2.0][step]
        values = {"loss": 1 / (step + 1), "acc": -abs(step - 2), "a/b c": step}
        run.log(values | {"net": {"v": step}, "bad": bad})
    run.log({"image": wandb.Image(np.zeros((8, 8, 3), dtype=np.uint8))}, step=10)
    print("on the console")
    run.save("sub dir/ünï.txt")
    run.config.update({"late": 1})
print(json.dumps(run.id))
"""

READ = """
import json, wandb
api = wandb.Api()
run = api.run("local/ünï proj/one")
files = {file.name: file for file in run.files()}
answer = {
    "viewer": [api.viewer.entity, api.default_entity], "projects": [p.name for p in api.projects()],
    "run": [run.state, run.name, run.group, run.job_type, run.notes, run.tags, run.display_name, run.entity],
    "config": run.config, "summary": run.summary._json_dict, "last": run.lastHistoryStep,
    "keys": sorted(run.history_keys["keys"]),
    "history": run.history(pandas=False), "history_keys": run.history(keys=["loss"], pandas=False),
    "scan": list(run.scan_history()), "scan_keys": list(run.scan_history(keys=["loss", "a/b c"])),
    "scan_window": list(run.scan_history(min_step=2, max_step=4)),
    "events": run.history(stream="system", pandas=False),
    "files": sorted(files), "like": [f.name for f in run.files(pattern="%.yaml")],
    "text": files["sub dir/ünï.txt"].download(root="down", replace=True).read(),
    "console": [line.content for line in run.console_logs()], "metadata": bool(run.metadata["python"]),
}
print(json.dumps(answer, default=str))
"""

CHANGE = """
import json, wandb
api = wandb.Api()
for number in range(3):
    with wandb.init(project="many", name=f"n{number}", config={"n": number}) as run:
        run.log({"loss": 3 - number})
path = "local/many"
names = lambda **how: [run.name for run in wandb.Api().runs(path, **how)]
answer = {
    "default": names(), "paged": names(per_page=1), "order": names(order="+summary_metrics.loss"),
    "filter": names(filters={"config.n": {"$gte": 1}, "state": "finished"}), "full": names(lazy=False),
    "count": len(api.runs(path, filters={"config.n": 1})),
}
run = next(iter(api.runs(path, order="-config.n.value")))
run.config["new"] = [1, {"a": None}]
run.tags.append("kept")
run.name = "renamed"
run.update()
run.summary["new"] = 1.5
run.summary.update()
run.upload_file("sweep-free.txt") if open("sweep-free.txt", "w").write("up") else None
run = api.run(f"{path}/{run.id}")
answer["updated"] = [run.config, run.tags, run.name, run.summary["new"], run.state]
answer["uploaded"] = run.file("sweep-free.txt").size
run.file("sweep-free.txt").delete()
answer["left"] = [file.name for file in run.files() if "sweep" in file.name]
run.delete()
answer["deleted"] = names()
try:
    wandb.Api().run(f"{path}/{run.id}")
except Exception as error:
    answer["gone"] = str(error)
try:
    list(api.runs("local/nowhere"))
except ValueError as error:
    answer["nowhere"] = str(error)
try:
    list(api.runs(path, filters={"colour": 1}))
except Exception as error:
    answer["colour"] = str(error)
other = wandb.init(entity="other team", project="many", name="elsewhere")
other.finish()
answer["namespaces"] = [names(), [run.name for run in api.runs("other team/many")]]
print(json.dumps(answer))
"""

MORE = """
import json, pathlib, urllib.request, wandb

def message(attempt):
    try:
        return str(attempt())
    except Exception as error:
        return str(error)

pathlib.Path("t.txt").write_text("data")
with wandb.init(project="more", id="m") as run:
    artifact = wandb.Artifact("set", "dataset")
    artifact.add_file("t.txt")
    run.log_artifact(artifact).wait()
# Of a run without any file, the client returns None.
restored = message(lambda: wandb.restore("none.txt", run_path="local/more/m"))
api = wandb.Api()
run, entry = api.run("local/more/m"), next(iter(api.artifact("local/more/set:v0").files()))
print(json.dumps({
    "restored": restored, "missing": [run.file("none.txt").md5, run.file("none.txt").size],
    "names": [(file.name, file.md5 == "0") for file in run.files(["none.txt", "config.yaml"])],
    "download": message(lambda: run.file("none.txt").download("down")),
    "organizations": [message(lambda: api.organization("none")), api.organization("local").org_entity.name],
    "team": message(lambda: api.team("none").members),
    "own team": [api.viewer.teams, [[m.username, m.account_type] for m in api.team("local").members]],
    "user": api.viewer.username,
    "place": entry.storage_path, "address": entry.direct_url,
    "bytes": urllib.request.urlopen(entry.direct_url).read().decode(),
}))
"""

RESUME = """
import json, wandb
answer = {}
with wandb.init(project="again", id="r", config={"a": 1}) as run:
    for _ in range(3):
        run.log({"x": 1})
with wandb.init(project="again", id="r", resume="allow") as run:
    answer["allow"] = [run.resumed, run.starting_step, dict(run.config)]
    run.log({"x": 2})
with wandb.init(project="again", id="r", resume="must") as run:
    answer["must"] = run.starting_step
for id, resume in (("r", "never"), ("new", "must")):
    try:
        wandb.init(project="again", id=id, resume=resume)
    except wandb.errors.UsageError as error:
        answer[resume + " refused"] = str(error).splitlines()[0]
    wandb.teardown()
api = wandb.Api()
steps = lambda: [row["_step"] for row in api.run("local/again/r").scan_history()]
answer["continued"] = steps()
with wandb.init(project="again", id="r") as run:
    run.log({"x": 3})
answer["wiped"] = [steps(), dict(wandb.Api().run("local/again/r").summary)["x"]]
print(json.dumps(answer))
"""


STOP = """
import wandb, time
with wandb.init(project="stop", id="s") as run:
    run.log({"x": 1})
    print("ready", flush=True)
    time.sleep(200)
"""

STATE = '{ project(name: "stop", entityName: "local") { run(name: "s") { id state exitcode } } }'


@pytest.fixture(scope="module", autouse=True)
def stopping(server: Server) -> Iterator[subprocess.Popen]:
    """A script that is asked to stop while the other tests run: its client looks only every 15 s."""
    client = server.spawn(STOP)
    assert client.stdout.readline() == "ready\n"
    run = server.query(STATE)["project"]["run"]
    server.query("mutation ($id: ID!) { stopRun(input: {id: $id}) { success } }", id=run["id"])
    yield client
    if client.poll() is None:
        client.kill()


@pytest.fixture(scope="module")
def read(server: Server) -> dict[str, Any]:
    assert server.run(LOG) == "one"
    return server.run(READ)


@pytest.mark.slow
def test_identity_and_state(read: dict[str, Any]) -> None:
    assert read["viewer"] == ["local", "local"] and "ünï proj" in read["projects"]
    assert read["run"] == ["finished", "first", "g", "train", "note", ["x", "y"], "first", "local"]


def test_config_and_summary(read: dict[str, Any]) -> None:
    assert read["config"] == {"lr": 0.1, "net": {"depth": 2}, "on": True, "late": 1}
    assert read["summary"]["loss"] == 0.2 and read["summary"]["acc"] == {"max": 0}
    assert read["summary"]["image"]["_type"] == "image-file"


def test_history_in_all_its_ways(read: dict[str, Any]) -> None:
    assert [row["_step"] for row in read["scan"]] == [0, 1, 2, 3, 4, 10]
    assert [row["_step"] for row in read["history"]] == [0, 1, 2, 3, 4, 10]
    assert [row["loss"] for row in read["history_keys"]] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert read["scan_keys"][3] == {"loss": 1 / 4, "a/b c": 3, "_step": 3}
    assert [row["_step"] for row in read["scan_window"]] == [2, 3]
    assert read["last"] == 10
    assert {"net.v", "a/b c", "image", "_step", "bad"} <= set(read["keys"])
    assert [row["net"]["v"] for row in read["scan"][:5]] == list(range(5))


def test_non_finite_history_comes_back(read: dict[str, Any]) -> None:
    bad = [row["bad"] for row in read["scan"][:5]]
    assert bad[0] == 1 and math.isnan(bad[1]) and bad[2:] == [math.inf, -math.inf, 2]


def test_files_and_console(read: dict[str, Any]) -> None:
    assert {"config.yaml", "wandb-metadata.json", "output.log", "sub dir/ünï.txt"} <= set(read["files"])
    assert sum(name.startswith("media/images/") for name in read["files"]) == 1
    assert read["like"] == ["config.yaml"] and read["text"] == "hello"
    assert "on the console" in read["console"] and read["metadata"]


def test_listing_changing_and_deleting(server: Server) -> None:
    answer = server.run(CHANGE)
    assert answer["default"] == answer["paged"] == answer["full"] == ["n0", "n1", "n2"]
    assert answer["order"] == ["n2", "n1", "n0"] and answer["filter"] == ["n1", "n2"] and answer["count"] == 1
    config, tags, name, summary, state = answer["updated"]
    assert config == {"n": 2, "new": [1, {"a": None}]} and tags == ["kept"]
    assert (name, summary, state) == ("renamed", 1.5, "finished")
    assert answer["uploaded"] == 2 and answer["left"] == []
    assert answer["deleted"] == ["n0", "n1"] and "Could not find run" in answer["gone"]
    assert "nowhere" in answer["nowhere"] and "cannot be filtered or ordered by colour" in answer["colour"]
    assert answer["namespaces"] == [["n0", "n1"], ["elsewhere"]]


def test_what_is_not_there_and_where_files_are(server: Server) -> None:
    answer = server.run(MORE)
    assert "none.txt not found" in answer["restored"] and answer["missing"] == ["0", 0]
    assert sorted(answer["names"]) == [["config.yaml", False], ["none.txt", True]]
    assert "404" in answer["download"]
    assert "not found" in answer["organizations"][0] and answer["organizations"][1] == "local"
    assert "team none not found" in answer["team"]
    assert answer["own team"] == [["local"], [[answer["user"], "USER"]]]
    assert answer["place"].startswith("wandb_artifacts/") and answer["place"] in answer["address"]
    assert answer["bytes"] == "data"


def test_tools_can_ask_for_the_whole_schema(server: Server) -> None:
    schema = print_schema(build_client_schema(server.query(get_introspection_query())))
    assert "enum AlertSeverity" in schema


def test_a_newer_client_is_told_both_versions(server: Server) -> None:
    def answered(agent: str, **variables: str) -> str:
        body = {"query": "query Q { viewer { future } }", "variables": variables}
        headers = {"User-Agent": agent}
        answer = requests.post(f"{server.url}/graphql", json=body, auth=("api", server.key), headers=headers)
        return answer.json()["errors"][0]["message"]

    known = viewer.CLI_VERSIONS["max_cli_version"]
    newer = f"wandb 9.1.2 is newer than {known}, the newest that this server knows"
    assert newer in answered("W&B Public Client 9.1.2")
    assert newer in answered("wandb-core", config='{"_wandb": {"value": {"cli_version": "9.1.2"}}}')
    for agent in (f"W&B Public Client {known}", "wandb-core", "W&B Public Client 99999.1"):
        assert "newer" not in answered(agent)


def test_resume_and_begin_anew(server: Server) -> None:
    answer = server.run(RESUME)
    assert answer["allow"] == [True, 3, {"a": 1}] and answer["must"] == 4
    assert "already exists" in answer["never refused"] and "does not exist" in answer["must refused"]
    assert answer["continued"] == [0, 1, 2, 3]
    assert answer["wiped"] == [[0], 3]


NOT_SERVED = {
    "registries have neither members nor roles": """CREATE_REGISTRY_MEMBERS DELETE_REGISTRY_MEMBERS
        REGISTRY_TEAM_MEMBERS REGISTRY_USER_MEMBERS UPDATE_TEAM_REGISTRY_ROLE UPDATE_USER_REGISTRY_ROLE""",
    "there is one user with one key, and no team": """CREATE_INVITE CREATE_SERVICE_ACCOUNT CREATE_TEAM
        CREATE_USER_FROM_ADMIN DELETE_API_KEY DELETE_INVITE GENERATE_API_KEY""",
}
NOT_SERVED_TO_CORE = {
    "launch has no queues here": "CreateDefaultResourceConfig CreateRunQueue UpsertRunQueue",
    "organizations have no features": "OrgFeatureFlags",
    "uploads in parts are never asked for": "CompleteMultipartUploadArtifact",
    "charts are drawn by these pages": "CreateCustomChart",
}


def core_documents() -> dict[str, str]:
    """What wandb-core holds of GraphQL, by the names of the operations: each with its fragments."""
    import wandb

    binary = (Path(wandb.__file__).parent / "bin" / "wandb-core").read_bytes()
    found = {}
    for match in re.finditer(rb"\n(?:query|mutation) (\w+) ?[({]", binary):
        text, depth, end = binary[match.start() : match.start() + 20_000].decode("latin-1"), 0, 0
        for place, character in enumerate(text, start=1):
            depth += (character == "{") - (character == "}")
            if character == "}" and depth == 0:
                end = place
                if not text[end:].startswith("\nfragment"):
                    break
        found[match[1].decode()] = text[:end]
    return found


def test_every_document_of_core_that_is_served_is_valid() -> None:
    from graphql import parse, validate

    from wandb_tl.local.api import execution

    schema = execution.load_schema()
    documents = core_documents()
    invalid = {name for name, text in documents.items() if validate(schema, parse(text))}
    assert len(documents) > 35 and {"UpsertBucket", "RewindRun", "LinkArtifact"} <= set(documents)
    assert invalid == {name for names in NOT_SERVED_TO_CORE.values() for name in names.split()}


def test_every_document_of_the_public_client_that_is_served_is_valid() -> None:
    """The client's own documents against the schema: all are served but those that are named here."""
    from graphql import parse, validate
    from wandb.apis._generated import operations as public
    from wandb.sdk.artifacts._generated import operations as artifacts

    from wandb_tl.local.api import execution

    schema = execution.load_schema()
    documents = {name: getattr(module, name) for module in (public, artifacts) for name in module.__all__}
    errors = {name: validate(schema, parse(document)) for name, document in documents.items()}
    invalid = {name.removesuffix("_GQL"): str(found[0]) for name, found in errors.items() if found}
    refused = {name for names in NOT_SERVED.values() for name in names.split()}
    assert {name: error for name, error in invalid.items() if name not in refused} == {}
    assert refused <= set(invalid)


def test_concurrent_writers_lose_nothing(server: Server) -> None:
    script = """
        import json, sys, wandb
        with wandb.init(project="busy", name=sys.argv[1]) as run:
            for step in range(50):
                run.log({"step": step})
        print(json.dumps(run.id))
    """
    clients = [server.spawn(script, f"c{number}") for number in range(4)]
    ids = [json.loads(client.communicate(timeout=240)[0]) for client in clients]
    document = (
        '{ project(name: "busy", entityName: "local") { runs { edges { node { name historyLineCount } } } } }'
    )
    runs = [edge["node"] for edge in server.query(document)["project"]["runs"]["edges"]]
    assert sorted(run["name"] for run in runs) == sorted(ids)
    assert [run["historyLineCount"] for run in runs] == [50] * 4


def test_stopped_run_is_interrupted(server: Server, stopping: subprocess.Popen) -> None:
    stopping.communicate(timeout=120)
    run = server.query(STATE)["project"]["run"]
    assert (run["state"], run["exitcode"]) == ("killed", 1)
