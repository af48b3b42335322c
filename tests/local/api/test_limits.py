from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wandb_tl.local.api import limits
from wandb_tl.local.api.execution import KEPT_CHARACTERS, KEPT_DOCUMENTS, Graph
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.records.database import Database, Readers
from wandb_tl.local.sweeps import bayes, config_check, grid

RUN = 'mutation { upsertBucket(input: {name: "r", modelName: "p", host: "h"}) { bucket { id } } }'
SWEEP = """mutation ($config: String) { upsertSweep(input: {projectName: "p", config: $config}) {
    sweep { id name } } }"""
AGENT = """mutation ($sweep: String!) { createAgent(input: {host: "h", projectName: "p", sweep: $sweep}) {
    agent { id } } }"""
BEAT = 'mutation ($id: ID!) { agentHeartbeat(input: {id: $id, runState: "{}"}) { commands } }'


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    database = Database(tmp_path / "wandb.sqlite")
    reading = Readers(tmp_path / "wandb.sqlite")
    yield Graph(database, reading, Blobs(tmp_path / "blobs", "k"))
    reading.close()
    database.close()


def ask(graph: Graph, document: str, **variables: object) -> dict:
    status, answer = graph.answer({"query": document, "variables": variables}, "http://here")
    assert status == 200
    return answer


def refusal(graph: Graph, document: str) -> str:
    [error] = ask(graph, document)["errors"]
    return error["message"]


def test_what_asks_for_too_much_is_refused_before_it_is_executed(graph: Graph) -> None:
    twice = 'a: run(name: "r") {{ project {{ ...f{0} }} }} b: run(name: "r") {{ project {{ ...f{0} }} }}'
    levels = [f"fragment f{i} on Project {{ {twice.format(i + 1)} }}" for i in range(18)]
    doubled = [
        '{ project(name: "p", entityName: "local") { ...f0 } }',
        *levels,
        "fragment f18 on Project { name }",
    ]
    aliases = "{ " + " ".join(f"a{i}: viewer {{ id }}" for i in range(600)) + " }"
    nested = "{ viewer " + "{ a " * 60 + "}" * 61
    start = time.monotonic()
    assert "1,000 fields, not 1," in refusal(graph, " ".join(doubled))
    assert "1,000 fields, not 1,200" in refusal(graph, aliases)
    assert "50 levels" in refusal(graph, nested)
    assert "20,000 characters" in refusal(graph, "{ viewer { id " + " " * 20_000 + "} }")
    assert "nested too deeply" in refusal(graph, "{a" * 6000)
    assert time.monotonic() - start < 5
    # Without an operation, which the validation refuses too.
    assert "not executable" in refusal(graph, "scalar X")
    # It uses itself, which the validation refuses.
    assert "itself" in refusal(graph, "{ viewer { ...f } } fragment f on User { id ...f }")


def test_long_lists_are_refused_by_their_names(graph: Graph) -> None:
    files = """query ($names: [String]) { project(name: "p", entityName: "local") { run(name: "r") {
        files(names: $names) { edges { node { name } } } } } }"""
    make = """mutation ($input: CreateRunFilesInput!) { createRunFiles(input: $input) { runID } }"""
    ask(graph, RUN)
    names = [f"{number}.txt" for number in range(limits.MOST_ITEMS + 1)]
    says = "can have 100,000 items, not 100,001: send fewer at once"
    input = {"projectName": "p", "runName": "r", "files": names}
    for document, name, variables in ((files, "names", {"names": names}), (make, "files", {"input": input})):
        [error] = ask(graph, document, **variables)["errors"]
        assert error["message"] == f"'{name}' {says}"
    # More than wandb-core asks for at once.
    found = ask(graph, files, names=names[:5000])["data"]["project"]["run"]["files"]["edges"]
    assert len(found) == 5000


def test_few_documents_are_kept(graph: Graph) -> None:
    long = "{ viewer { id } } #" + "x" * KEPT_CHARACTERS
    for number in range(KEPT_DOCUMENTS + 10):
        assert "errors" not in ask(graph, f"{{ a{number}: viewer {{ id }} }}")
    assert graph.kept.cache_info().currsize == KEPT_DOCUMENTS
    missed = graph.kept.cache_info().misses
    assert "errors" not in ask(graph, long) and graph.kept.cache_info().misses == missed


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ANSWER_FIELDS", 5, "too large"),
        ("ANSWER_CHARACTERS", 20, "too large"),
        ("ANSWER_SECONDS", -1.0, "took longer"),
    ],
)
def test_an_answer_without_an_end_is_ended(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, name: str, value: float, says: str
) -> None:
    ask(graph, RUN)
    monkeypatch.setattr(limits, name, value)
    tags = " ".join(f"a{i}: project {{ name }}" for i in range(30))
    assert says in refusal(
        graph, f'{{ project(name: "p", entityName: "local") {{ run(name: "r") {{ {tags} }} }} }}'
    )
    monkeypatch.undo()
    assert "errors" not in ask(graph, "{ viewer { id } }")


def test_other_clients_write_while_a_point_of_a_sweep_is_computed(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []

    def aside(module: object, name: str) -> None:
        """Let another client write while a function computes."""
        function = getattr(module, name)

        def compute(*arguments: object) -> object:
            assert graph.database.lock.acquire(timeout=5), "the database is locked"
            graph.database.lock.release()
            computed.append(name)
            return function(*arguments)

        monkeypatch.setattr(module, name, compute)

    for module, name in ((config_check, "check"), (grid, "grid_keys"), (bayes, "propose")):
        aside(module, name)
    for method in ("grid", "bayes"):
        config = f"{{method: {method}, metric: {{name: loss}}, parameters: {{a: {{values: [1, 2]}}}}}}"
        sweep = ask(graph, SWEEP, config=config)["data"]["upsertSweep"]["sweep"]
        agent = ask(graph, AGENT, sweep=sweep["name"])["data"]["createAgent"]["agent"]
        assert '"run_id"' in ask(graph, BEAT, id=agent["id"])["data"]["agentHeartbeat"]["commands"]
    assert computed == ["check", "grid_keys", "check", "propose"]
