"""Input that no client of W&B sends: each kind is answered in one line, and breaks no page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz.served import Served
from fuzz.templates import CONFIG, TABLE_PATH

from wandb_tl.local.records.json_path import DEEPEST
from wandb_tl.local.records.names import encode_id

UPSERT = "mutation ($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
FILES = (
    """mutation ($input: CreateRunFilesInput!) { createRunFiles(input: $input) { files { uploadUrl } } }"""
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    yield served
    served.end()


def write_run(served: Served, name: str, **fields: Any) -> list[str]:
    """The messages of the errors."""
    input = {"modelName": "p", "name": name, "host": "h"}
    input |= {
        field: value if isinstance(value, (str, list)) else json.dumps(value)
        for field, value in fields.items()
    }
    return messages(served, UPSERT, {"input": input})


def messages(served: Served, document: Any, variables: Any, operation: Any = None) -> list[str]:
    body = {"query": document, "variables": variables, "operationName": operation}
    return [error["message"] for error in served.send("/graphql", body).json().get("errors", [])]


def send_lines(served: Served, name: str, stream: str, *lines: Any) -> None:
    content = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    body = {"files": {stream: {"offset": 0, "content": content}}}
    assert served.send(f"/files/local/p/{name}/file_stream", body).status == 200


def upload(served: Served, name: str, path: str, content: Any) -> Path:
    """Upload a file of a run; returns where it lies."""
    made = served.query(FILES, {"input": {"projectName": "p", "runName": name, "files": [path]}})
    address = made["createRunFiles"]["files"][0]["uploadUrl"]
    served.upload(address, json.dumps(content).encode())
    return served.blobs.path(address.rpartition("/")[2].partition("?")[0])


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_arguments_that_are_not_what_the_schema_says(served: Served) -> None:
    assert write_run(served, "arguments") == []
    deep = [f"a run's config must be the JSON of an object, at most {DEEPEST} levels deep"]
    assert (
        write_run(served, "arguments", config=nested(DEEPEST + 1))
        == deep
        == write_run(served, "r", config="[]")
    )
    assert write_run(served, "\ud800", displayName="a \ud800", tags=["\ud800"]) == []
    of_run = """query ($spec: JSONString!, $step: Int64, $after: String) { project(name: "p") {
        run(name: "arguments") { sampledHistory(specs: [$spec]) history(minStep: $step)
        logLines(after: $after) { edges { cursor } } } } }"""
    fine = {"spec": '{"keys": [["a"], {}, "b"], "samples": "x", "minStep": 1e400}', "step": 0, "after": "0"}
    assert messages(served, of_run, fine) == []
    for argument, value in (("spec", "[]"), ("spec", "{"), ("step", 2**63), ("step", 0.5), ("after", "x")):
        [message] = messages(served, of_run, fine | {argument: value})
        assert message and "\n" not in message
    viewer = "{ viewer { id } }"
    for variables, operation in (([1], None), ("x", None), ({}, 5), (nested(DEEPEST), None)):
        [message] = messages(served, viewer, variables, operation)
        assert "request" in message
    far = encode_id("Run", 2**70)
    assert messages(served, "mutation ($id: ID!) { stopRun(input: {id: $id}) { success } }", {"id": far})
    beat = """mutation ($id: ID!, $state: JSONString) { agentHeartbeat(input: {id: $id, runState: $state}) {
        commands } }"""
    assert messages(served, beat, {"id": far, "state": "[]"})


def test_a_run_never_breaks_its_own_page(served: Served) -> None:
    odd = [[1], {"1": ["a"], "2": {}, "5": "x"}, {"1": "acc", "5": True, "6": 3}, "x"]
    own = {"m": odd, "e": {"w": {"host": 5, "args": 3, "program": ["x"], "git": {"commit": 7}}, "v": 1}}
    own |= {
        "visualize": {
            "plot": {
                "panel_config": {"panelDefId": "wandb/line/v0", "fieldSettings": [], "stringSettings": 1}
            }
        }
    }
    config = {"\ud800": {"value": "\ud800"}, "deep": {"value": nested(60)}, "_wandb": {"value": own}}
    summary = {
        "acc": 0.5,
        "plot_table": {"_type": "table-file", "path": TABLE_PATH},
        "html": {"_type": "html-file", "path": 5},
    }
    assert write_run(served, "odd", config=config, summaryMetrics=summary) == []
    send_lines(
        served,
        "odd",
        "wandb-history.jsonl",
        {"\ud800": 1, "acc": 1e400, "_step": 1},
        nested(DEEPEST + 1),
        "[]",
    )
    send_lines(
        served, "odd", "output.log", {"content": 5, "ts": {}}, {"content": "x", "ts": [], "level": {}}, "[1]"
    )
    for content in (
        {"columns": ["x", "y"], "data": {"a": 1}},
        {"columns": 3, "data": [[1, 2]]},
        {"columns": ["x"], "data": ["a", {}]},
        [1],
    ):
        upload(served, "odd", TABLE_PATH, content)
        assert served.page("local", "p", "runs", "odd").status == 200
        assert served.page("local", "p", "runs", "odd", plot="plot").status == 404
        assert served.page("local", "p", "runs", "odd", table="plot_table").status == 404
    upload(
        served,
        "odd",
        TABLE_PATH,
        {"columns": ["x", "y"], "data": [[{"a": 1}, 2], [1, "\ud800"], [1]], "other": [1]},
    )
    assert served.page("local", "p", "runs", "odd", plot="plot").json()["series"][0]["points"] == [
        ["{'a': 1}", 2]
    ]
    assert "of the run" in served.page("local", "p", "runs", "odd", table="plot_table").body.decode()
    read = """{ project(name: "p") { run(name: "odd") { logLines { edges {
        node { line level timestamp } } } } } }"""
    assert len(served.query(read)["project"]["run"]["logLines"]["edges"]) == 3
    for query in (
        {},
        {"columns": "all"},
        {"download": "csv", "columns": "all"},
        {"curves": "acc", "run": "odd"},
    ):
        assert served.page("local", "p", **query).status == 200


def test_a_file_that_is_gone_is_said_to_be_missing(served: Served) -> None:
    value = {"_type": "table-file", "path": TABLE_PATH}
    assert write_run(served, "gone", config=CONFIG, summaryMetrics={"t": value, "plot_table": value}) == []
    file = upload(served, "gone", TABLE_PATH, {"columns": ["x", "y"], "data": [[1, 2]]})
    file.unlink()
    answer = served.request("GET", f"/blobs/{file.name}".encode())
    assert answer.status == 404 and "missing" in answer.json()["errors"][0]["message"]
    assert served.page("local", "p", "runs", "gone").status == 200
    assert served.page("local", "p", "runs", "gone", plot="plot").status == 404


def test_metadata_of_an_artifact_is_an_object(served: Served) -> None:
    create = "mutation ($input: CreateArtifactInput!) { createArtifact(input: $input) { artifact { id } } }"
    input = {"projectName": "p", "artifactTypeName": "t", "artifactCollectionName": "a", "digest": "d"}
    for metadata in ("no JSON", "[1]", json.dumps(nested(DEEPEST + 1))):
        [message] = messages(served, create, {"input": input | {"metadata": metadata}})
        assert message.startswith("the metadata of an artifact must be the JSON of an object")


def test_a_sweep_with_a_scheduler_may_have_odd_parameters(served: Served) -> None:
    create = "mutation ($input: UpsertSweepInput!) { upsertSweep(input: $input) { sweep { id name } } }"
    scheduled = {"method": "custom", "scheduler": {"engine": "optuna"}, "run_cap": 2**40}
    for parameters in ([1], "text", {"a": {"values": 5}, "b": "x", "c": {"parameters": [1]}}):
        config = json.dumps(scheduled | {"parameters": parameters})
        sweep = served.query(create, {"input": {"projectName": "sweeps", "config": config}})["upsertSweep"][
            "sweep"
        ]
        for query in ({}, {"chart": "parallel"}, {"chart": "strip", "parameter": "a"}):
            assert served.page("local", "sweeps", "sweeps", sweep["name"], **query).status == 200
        enqueue = "mutation ($input: EnqueueSweepRunInput!) { enqueueSweepRun(input: $input) { id } }"
        assert messages(served, enqueue, {"input": {"id": sweep["id"], "config": '{"a": 1}'}})
    config = '{"method": "\\ud800", "parameters": {"a": {"value": 1}}}'
    [message] = messages(served, create, {"input": {"projectName": "sweeps", "config": config}})
    assert "is not valid YAML" in message and "invalid Unicode" in message
    read = 'query { project(name: "sweeps") { sweeps { edges { node { runCountExpected } } } } }'
    assert served.query(read)


def test_addresses_that_are_no_text(served: Served) -> None:
    for address in (
        b"/local/\xff\xfe",
        b"/files/\xff/p/r/file_stream",
        b"/artifacts/local/\xff",
        b"/a" * 20_000,
    ):
        assert served.request("GET", address).status in (404, 405)


def test_more_lines_than_graphql_counts(served: Served) -> None:
    write_run(served, "long")
    body = {"files": {"wandb-history.jsonl": {"offset": 2**31 + 5, "content": ['{"_step": 0}']}}}
    assert served.send("/files/local/p/long/file_stream", body).status == 200
    count = 'query { project(name: "p", entityName: "local") { run(name: "long") { historyLineCount } } }'
    assert served.query(count, {})["project"]["run"]["historyLineCount"] == 2**31 - 1


def test_nothing_in_the_log_that_a_terminal_would_obey(served: Served) -> None:
    odd = "a\nINFO from run b\x1b[2J\u202e" + "c" * 1000
    write_run(served, "alerting", displayName=odd)
    alert = """mutation ($input: NotifyScriptableRunAlertInput!) { notifyScriptableRunAlert(input: $input) {
        success } }"""
    input = {"projectName": "p", "runName": "alerting", "title": odd, "text": odd}
    invalid = f'{{ project(name: ["""{odd}"""]) {{ id }} }}'
    for document, variables in ((alert, {"input": input}), (invalid, {})):
        served.send("/graphql", {"query": document, "variables": variables})
        [record] = served.log.records
        assert record.getMessage().isprintable() and len(record.getMessage()) < 1000
