"""What must hold whatever arrives: an answer that is no failure of the server, and no traceback in its log.

Each property draws its input from `data`, and uses a project of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from typing import Any

from graphql import GraphQLSchema
from hypothesis import strategies as st

from wandb_tl.local.api.execution import load_schema
from wandb_tl.local.records.names import encode_id

from . import templates
from .documents import documents
from .odd_values import mutated, texts, values
from .served import Served

UPSERT = "mutation ($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
CREATE_FILES = """mutation ($input: CreateRunFilesInput!) { createRunFiles(input: $input) {
    files { uploadUrl } } }"""
CREATE_SWEEP = """mutation ($input: UpsertSweepInput!) { upsertSweep(input: $input) {
    sweep { id name } } }"""
CREATE_AGENT = "mutation ($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } } }"
BEAT = "mutation ($input: AgentHeartbeatInput!) { agentHeartbeat(input: $input) { commands } }"
ENQUEUE = "mutation ($input: EnqueueSweepRunInput!) { enqueueSweepRun(input: $input) { id } }"
UPSERT_VIEW = "mutation ($input: UpsertViewInput!) { upsertView(input: $input) { view { id } } }"
CREATE_ARTIFACT = """mutation ($input: CreateArtifactInput!) { createArtifact(input: $input) {
    artifact { id } } }"""
CREATE_MANIFEST = """mutation ($input: CreateArtifactManifestInput!) { createArtifactManifest(input: $input) {
    artifactManifest { file { uploadUrl } } } }"""
CREATE_ARTIFACT_FILES = """mutation ($input: CreateArtifactFilesInput!) { createArtifactFiles(input: $input) {
    files { edges { node { uploadUrl } } } } }"""
COMMIT = "mutation ($input: CommitArtifactInput!) { commitArtifact(input: $input) { artifact { id } } }"
READ_RUN = """query ($project: String!, $name: String!) { project(name: $project) { run(name: $name) {
    id name displayName state config summaryMetrics tags wandbConfig systemMetrics historyKeys historyTail
    eventsTail historyLineCount eventsLineCount logLineCount exitcode history events
    parquetHistory { liveData }
    logLines { edges { node { number timestamp level label line } } }
    files { edges { node { name sizeBytes directUrl mimetype } } } } } }"""


def name_of_project(data: st.DataObject) -> str:
    """A new one in each example, and the same one when the example is repeated."""
    return f"p{secrets.token_hex(6)}"


def write_run(served: Served, project: str, name: str, **fields: Any) -> bool:
    """Whether the server has taken it."""
    fields = {"modelName": project, "name": name, "host": "h"} | fields
    return served.query(UPSERT, {"input": fields}) is not None


def json_of(data: st.DataObject, template: Any) -> str:
    return json.dumps(data.draw(mutated(template)))


def upload_files(served: Served, project: str, name: str, files: dict[str, bytes]) -> None:
    input = {"projectName": project, "runName": name, "files": list(files)}
    made = served.query(CREATE_FILES, {"input": input})["createRunFiles"]["files"]
    for file, content in zip(made, files.values(), strict=True):
        served.upload(file["uploadUrl"], content)


def odd_run(served: Served, data: st.DataObject) -> None:
    """A run with odd config, summary, history, console, files: its pages, the project's, and the API."""
    project = name_of_project(data)
    for name in ("r", "s"):
        tags = data.draw(st.lists(texts, max_size=2)) if name == "r" else []
        if not write_run(served, project, name, tags=tags):
            write_run(served, project, name)
        for field, template in (("config", templates.CONFIG), ("summaryMetrics", templates.SUMMARY)):
            write_run(served, project, name, **{field: json_of(data, template)})
        names = ("wandb-history.jsonl", "wandb-events.jsonl", "output.log", "wandb-summary.json")
        lines = (templates.ROW, templates.EVENT, templates.CONSOLE, templates.SUMMARY)
        files = {
            stream: {"offset": 0, "content": [json_of(data, template) for _ in range(2)]}
            for stream, template in zip(names[: 3 + data.draw(st.booleans())], lines, strict=False)
        }
        served.send(f"/files/local/{project}/{name}/file_stream", {"files": files, **templates.END})
    table = json_of(data, data.draw(st.sampled_from(templates.TABLES))).encode()
    boxes = json_of(data, templates.BOXES).encode()
    paths = (templates.TABLE_PATH, templates.BOXES_PATH, templates.IMAGE_PATH)
    upload_files(served, project, "r", dict(zip(paths, (table, boxes, b"\x89PNG"), strict=True)))
    look_at(served, project)
    served.query(READ_RUN, {"project": project, "name": "r"})


def look_at(served: Served, project: str) -> None:
    """The pages of a project and of its run r, with the data of their charts."""
    run = ("local", project, "runs", "r")
    page = served.page(*run)
    assert page.status == 200, page
    for key in ("acc", "train/loss", "epoch", "net.v", "a.b", "\0", ""):
        for x in ("", "step", "wall"):
            served.page(*run, curves=key, x=x)
    for query in ({"plot": "plot"}, {"system": "system.cpu"}, {"html": templates.IMAGE_PATH}):
        served.page(*run, **query)
    for key in (*templates.MEDIA, "a.b"):
        served.page(*run, media=key, line="0")
        served.page(*run, media=key)
    for query in ({}, {"sort": "-x"}, {"sort": "+actual", "filter": "actual=a x>1"}):
        served.page(*run, table="table", **query)
    for query in (
        {},
        {"columns": "all", "sort": "+config.lr", "filter": "lr>0"},
        {"columns": "all", "sort": "-summary.acc", "run": "r", "baseline": "s", "config": "all"},
        {"download": "csv", "columns": "all"},
        {"curves": "acc", "run": "r", "group": "recipe"},
    ):
        assert served.page("local", project, **query).status == 200
    assert served.page("local", project, "media").status == 200
    served.page("local", project, "media", key="image", step="1")


def odd_stream(served: Served, data: st.DataObject) -> None:
    """Bodies of the file stream of any structure."""
    project = name_of_project(data)
    write_run(served, project, "r")
    chunk = {"offset": 0, "content": ["{}", '{"_step": 1, "a": 1}', "text"]}
    names = ["wandb-history.jsonl", "wandb-events.jsonl", "output.log", "wandb-summary.json", "other"]
    template = {"files": dict.fromkeys(names, chunk), **templates.END}
    shared = ((b"x-wandb-use-async-filestream", b"true"), (b"x-wandb-async-client-id", b"w"))
    for headers in ((), shared if data.draw(st.booleans()) else ()):
        body = json.dumps(data.draw(mutated(template, 6))).encode()
        served.request("POST", f"/files/local/{project}/r/file_stream".encode(), body, headers)
    assert served.page("local", project, "runs", "r").status == 200
    read = served.send("/graphql", {"query": READ_RUN, "variables": {"project": project, "name": "r"}}).json()
    assert not read.get("errors"), read


def odd_sweep(served: Served, data: st.DataObject) -> None:
    """Sweeps of odd configs: made, run by an agent, with odd results, and their pages."""
    project = name_of_project(data)
    template = data.draw(st.sampled_from([templates.SWEEP, *templates.OTHER_SWEEPS]))
    config = json_of(data, template)
    made = served.query(CREATE_SWEEP, {"input": {"projectName": project, "config": config}})
    if not made:
        return
    sweep = made["upsertSweep"]["sweep"]
    agent = served.query(CREATE_AGENT, {"input": {"sweep": sweep["name"], "host": "h"}})["createAgent"][
        "agent"
    ]
    point = {"lr": {"value": 0.1}, "opt": {"value": "sgd"}}
    served.query(ENQUEUE, {"input": {"id": sweep["id"], "config": json_of(data, point)}})
    state = data.draw(st.one_of(st.just("{}"), values.map(json.dumps)))
    for _ in range(2):
        beaten = served.query(BEAT, {"input": {"id": agent["id"], "runState": state}})
        for command in json.loads(beaten["agentHeartbeat"]["commands"]) if beaten else ():
            if "run_id" not in command:
                continue
            name = command["run_id"]
            write_run(served, project, name, sweep=sweep["name"], config=json_of(data, templates.CONFIG))
            line = json_of(data, {"acc": 0.5, "_step": 0})
            files = {"wandb-history.jsonl": {"offset": 0, "content": [line]}}
            files["wandb-summary.json"] = {"offset": 0, "content": [line]}
            body = {"files": files, "complete": True, "exitcode": 0}
            served.send(f"/files/local/{project}/{name}/file_stream", body)
        state = "{}"
    page = ("local", project, "sweeps", sweep["name"])
    for query in (
        {},
        {"metric": "acc", "group": "recipe", "filter": "lr>0"},
        {"chart": "parallel"},
        {"chart": "strip", "parameter": "lr"},
        {"chart": "curves"},
        {"download": "csv"},
    ):
        assert served.page(*page, **query).status == 200
    served.page(*page, chart="objectives", pair="0")
    assert served.page("local", project).status == 200
    read = """query ($project: String!) { project(name: $project) { sweeps { edges { node { name
        method bestLoss runCountExpected controllerRunName config state
        priorRuns { edges { node { name } } } } } } } }"""
    assert served.query(read, {"project": project})


def odd_view(served: Served, data: st.DataObject) -> None:
    """Reports and saved workspaces with odd specs."""
    project = name_of_project(data)
    for name in ("r", "s"):
        fields = {"config": json.dumps(templates.CONFIG), "summaryMetrics": json.dumps(templates.SUMMARY)}
        write_run(served, project, name, **fields)
    for kind, template in (("runs", templates.REPORT), ("project-view", templates.WORKSPACE)):
        text = json.dumps(template).replace('"name": "p"', f'"name": "{project}"')
        spec = json_of(data, json.loads(text))
        fields = {"projectName": project, "type": kind, "name": "nw-a-v", "displayName": data.draw(texts)}
        made = served.query(UPSERT_VIEW, {"input": fields | {"spec": spec}})
        if made and kind == "runs":
            view = made["upsertView"]["view"]["id"].rstrip("=")
            assert served.page("local", project, "reports", f"title--{view}").status == 200
    assert served.page("local", project, nw="a").status == 200


def odd_artifact(served: Served, data: st.DataObject) -> None:
    """Artifacts with odd manifests and metadata, and their pages."""
    project = name_of_project(data)
    write_run(served, project, "r")
    metadata = data.draw(st.one_of(texts, values.map(json.dumps)))
    fields = {"projectName": project, "runName": "r", "artifactTypeName": "t", "artifactCollectionName": "a"}
    fields |= {"digest": data.draw(st.sampled_from(["d", secrets.token_hex(4)])), "clientID": project}
    aliases = [{"artifactCollectionName": "a", "alias": data.draw(texts)}]
    made = served.query(CREATE_ARTIFACT, {"input": fields | {"metadata": metadata, "aliases": aliases}})
    made = made or served.query(CREATE_ARTIFACT, {"input": fields})
    artifact = made["createArtifact"]["artifact"]["id"]
    table = json_of(data, data.draw(st.sampled_from(templates.TABLES))).encode()
    md5 = base64.b64encode(hashlib.md5(table).digest()).decode()
    entry = {"artifactID": artifact, "name": "t.table.json", "md5": md5}
    node = served.query(CREATE_ARTIFACT_FILES, {"input": {"artifactFiles": [entry], "storageLayout": "V2"}})
    address = node["createArtifactFiles"]["files"]["edges"][0]["node"]["uploadUrl"]
    if address:
        served.upload(address, table)
    template = json.loads(json.dumps(templates.MANIFEST).replace('"digest": ""', f'"digest": "{md5}"'))
    manifest = json_of(data, template).encode()
    digest = base64.b64encode(hashlib.md5(manifest).digest()).decode()
    input = {"artifactID": artifact, "name": "wandb_manifest.json", "digest": digest, "type": "FULL"}
    made = served.query(
        CREATE_MANIFEST, {"input": input | {"entityName": "local", "projectName": project, "runName": "r"}}
    )
    served.upload(made["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"], manifest)
    committed = served.query(COMMIT, {"input": {"artifactID": artifact}})
    run = {
        "value": {"_type": "table-file", "artifact_path": f"wandb-client-artifact://{project}/t.table.json"}
    }
    write_run(served, project, "r", summaryMetrics=json.dumps({"table": run["value"]}))
    assert served.page("local", project, "artifacts").status == 200
    assert served.page("local", project, "runs", "r").status == 200
    served.page("local", project, "runs", "r", table="table")
    if committed:
        assert served.page("local", project, "artifacts", "t", "a").status == 200
        served.page("local", project, "artifacts", "t", "a", "v0", table="t.table.json")
        served.page("local", project, "artifacts", "t", "a", data.draw(texts.filter(bool)))
    read = """query ($project: String!) { project(name: $project) { artifactType(name: "t") {
        artifactCollections { edges { node { name artifacts { edges { node { id metadata size
        historyStep aliases { alias }
        files { edges { node { name sizeBytes directUrl } } } } } } } } } } } }"""
    assert served.query(read, {"project": project})


SCHEMA: GraphQLSchema = load_schema()


def odd_document(served: Served, data: st.DataObject) -> None:
    """GraphQL documents from the schema with odd arguments."""
    known: dict[str, list[Any]] = {
        "entityName": ["local"],
        "name": ["p", "r", "v0", "a:latest"],
        "sweep": ["s"],
        "modelName": ["p"],
        "projectName": ["p"],
        "runName": ["r"],
        "filters": ['{"config.lr": {"$gt": 0}}', '{"tags": {"$in": ["a", "\\ud800"]}}', '{"createdAt": 1}'],
        "order": ["-summary_metrics.acc", "+created_at", ""],
        "specs": ['{"keys": ["acc"], "samples": 5}'],
        "config": [
            '{"lr": {"value": 1}}',
            '{"lr": {"value": "\\ud800"}}',
            "{method: grid, parameters: {a: {values: [1]}}}",
        ],
        "id": [
            encode_id(kind, number) for kind in ("Run", "Sweep", "Agent", "View") for number in (1, 2**70)
        ],
        "artifactID": [encode_id("Artifact", 1)],
        "after": ["0", "1", "x"],
        "type": ["runs", "FULL", "PATCH"],
        "state": ["running", "RUNNING", "CANCELED", "pending"],
        "spec": ["{}"],
    }
    document, variables = data.draw(documents(SCHEMA, known))
    if "p" not in served.projects:
        served.projects.add("p")
        write_run(served, "p", "r", config=json.dumps(templates.CONFIG))
    served.query(document, variables)


def odd_request(served: Served, data: st.DataObject) -> None:
    """Methods, addresses, headers and bodies that do not belong together."""
    if "q" not in served.projects:
        served.projects.add("q")
        write_run(served, "q", "r", config=json.dumps(templates.CONFIG))
    parts = st.sampled_from(
        ["local", "q", "runs", "r", "sweeps", "media", "artifacts", "reports", "files", "graphql"]
    )
    more = st.sampled_from(
        ["blobs", "file_stream", "-", "answer", "static", "login", "%2F", "%ff", "%00", "..", "%ed%a0%80"]
    )
    path = "/" + "/".join(data.draw(st.lists(st.one_of(parts, parts, more), max_size=6)))
    keys = st.sampled_from(
        [
            "curves",
            "plot",
            "media",
            "html",
            "table",
            "chart",
            "key",
            "step",
            "line",
            "page",
            "sort",
            "filter",
            "run",
            "x",
            "token",
            "next",
        ]
    )
    terms = data.draw(st.lists(st.tuples(keys, texts), max_size=3))
    query = "&".join(f"{key}={value}" for key, value in terms).encode("utf-8", "replace").replace(b" ", b"+")
    names = [b"origin", b"host", b"range", b"if-none-match", b"content-type", b"content-encoding", b"cookie"]
    names += [b"authorization", b"content-length", b"x-wandb-async-client-id"]
    strings = [
        b"http://[",
        b"[",
        b"",
        b"gzip",
        b"bytes=5-1",
        b"Basic !",
        b"a=b; c",
        b"application/x-www-form-urlencoded",
    ]
    strings += [b"\xff", b"null", b"-1", b"http://localhost:8080", b"localhost:notaport", b"bytes=0-0,3-9"]
    headers = data.draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(strings)), max_size=3))
    bodies = [
        b"",
        b"\xff",
        b"[" * 5000,
        b"{}",
        b"a=%ff&token=x&delete=r",
        b'{"query": "{viewer{id}}", "variables": [1]}',
    ]
    bodies += [
        b'{"query": "' + b"{a" * 3000 + b'"}',
        b'{"query": "{viewer{id}}", "operationName": {"a": 1}}',
        b"NaN",
    ]
    bodies += [b"9" * 5000, b'{"query": "\\ud800"}']
    body = data.draw(st.one_of(st.sampled_from(bodies), st.binary(max_size=30)))
    method = data.draw(st.sampled_from(["GET", "GET", "POST", "PUT", "OPTIONS", "HEAD", "DELETE"]))
    served.request(method, path.encode() + b"?" + query, body, tuple(headers))


PROPERTIES: dict[str, Callable[[Served, st.DataObject], None]] = {
    "run": odd_run,
    "stream": odd_stream,
    "sweep": odd_sweep,
    "view": odd_view,
    "artifact": odd_artifact,
    "document": odd_document,
    "request": odd_request,
}
