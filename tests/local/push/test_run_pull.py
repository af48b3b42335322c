"""Pulls from a server that answers as no W&B server does. Those that succeed are in test_sweep_push.py."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hostile_server import HostileServer, Reply, hostile_server

from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RemoteError
from wandb_tl.local.push.answers import RunPulled, VersionPulled
from wandb_tl.local.push.artifact_pull import ArtifactPull
from wandb_tl.local.push.remote import Remote
from wandb_tl.local.push.run_pull import RunPull
from wandb_tl.local.records.database import Database

RUN = dict.fromkeys(RunPulled.__annotations__) | {"name": "r", "state": "finished"}
FILE = {"name": "../f", "md5": None, "sizeBytes": None, "directUrl": "SERVER/f"}


@pytest.fixture
def hostile() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def pull(tmp_path: Path, hostile: HostileServer) -> Iterator[RunPull]:
    with closing(Database(tmp_path / "wandb.sqlite")) as database:
        yield RunPull(database, Blobs(tmp_path / "blobs", ""), Remote(hostile.url, "k"), "e", "p")


def connection(*nodes: Any, **info: Any) -> dict[str, Any]:
    page_info = {"endCursor": None, "hasNextPage": False} | info
    return {"edges": [{"node": node} for node in nodes], "pageInfo": page_info}


@pytest.mark.parametrize(
    ("run", "of_run", "says"),
    [
        ({"state": 3}, {}, "runs.state is not a valid str"),
        ({"config": {}}, {}, "runs.config is not a valid str"),
        ({}, None, "data.project.run is not an object"),
        ({}, {"files": connection(FILE, endCursor="a", hasNextPage=True)}, "redirects elsewhere"),
        (
            {},
            {"files": connection(endCursor="a", hasNextPage=True)},
            "does not come to an end with its files",
        ),
        ({"historyKeys": {"lastStep": 2**62}}, {}, "too many to pull"),
        ({"historyKeys": {"lastStep": 5}}, {"lines": [1]}, "data.project.run.lines is not"),
        ({}, {"lines": [], "logLines": connection({"number": -1})}, "logLines.number is not a valid int"),
        ({}, {"lines": [], "files": {"edges": [1]}}, "files.edges is not an object"),
    ],
)
def test_an_odd_answer_to_a_pull_is_one_line(
    hostile: HostileServer, pull: RunPull, run: dict[str, Any], of_run: Any, says: str
) -> None:
    def answer(_method: str, path: str, _body: bytes) -> Reply:
        if path != "/graphql":
            return Reply(status=302, headers={"Location": "/"})
        data = {"project": {"runs": connection(RUN | run), "run": of_run}}
        return Reply(json.dumps({"data": data}).replace("SERVER", hostile.url).encode())

    hostile.answer = answer
    with pytest.raises(RemoteError) as error:
        list(pull.pull(None))
    assert says in str(error.value)


def test_versions_of_an_odd_form_are_refused(hostile: HostileServer, pull: RunPull) -> None:
    hostile.data({"project": {"run": {"versions": connection({"state": "COMMITTED", "id": 1})}}})
    with pytest.raises(RemoteError, match=r"versions\.id is not a valid str"):
        ArtifactPull(pull).pull([{"id": 1, "name": "r"}])


def test_a_file_of_a_run_is_no_larger_than_announced(hostile: HostileServer, pull: RunPull) -> None:
    def answer(_method: str, path: str, _body: bytes) -> Reply:
        if path != "/graphql":
            return Reply(b"x" * 10)
        file = FILE | {"sizeBytes": 9, "directUrl": f"{hostile.url}/f"}
        data = {"project": {"runs": connection(RUN), "run": {"files": connection(file)}}}
        return Reply({"data": data})

    hostile.answer = answer
    with pytest.raises(RemoteError, match="sends more than the 9 bytes that were announced"):
        list(pull.pull(None))


def test_a_file_of_an_artifact_is_no_larger_than_its_manifest_says(
    hostile: HostileServer, pull: RunPull
) -> None:
    version = {
        **dict.fromkeys(VersionPulled.__annotations__),
        "id": base64.b64encode(b"Artifact:1").decode(),
        "state": "COMMITTED",
        "digest": "d",
        "tags": [],
        "aliases": [],
        "artifactSequence": {"name": "a"},
        "artifactType": {"name": "model"},
        "currentManifest": {"file": {"directUrl": f"{hostile.url}/manifest"}},
    }
    file = {"name": "f", "directUrl": f"{hostile.url}/f"}
    replies = {"/manifest": Reply({"contents": {"f": {"digest": "", "size": 9}}}), "/f": Reply(b"x" * 10)}
    data = {
        "project": {"runs": connection(), "run": {"versions": connection(version)}},
        "artifact": {"files": connection(file)},
    }
    hostile.answer = lambda _method, path, _body: replies.get(path, Reply({"data": data}))
    with pytest.raises(RemoteError, match="sends more than the 9 bytes that were announced"):
        ArtifactPull(pull).pull([{"id": 1, "name": "r"}])
