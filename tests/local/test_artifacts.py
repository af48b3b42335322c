"""Artifacts through the unmodified client: versions, aliases, contents, references, tables."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from live_server import Server

from wandb_tl.local import artifacts, collections, manifests
from wandb_tl.local.blobs import Blobs, new_blob
from wandb_tl.local.store import Refused, Store, ensure_project

SCRIPT = """
import json, pathlib, wandb
answer = {}
pathlib.Path("m.bin").write_bytes(b"weights" * 1000)
pathlib.Path("same.bin").write_bytes(b"weights" * 1000)

def log(run, name, content, aliases=(), **extra):
    artifact = wandb.Artifact(name, "model", **extra)
    with artifact.new_file("data.txt") as file:
        file.write(content)
    run.log_artifact(artifact, aliases=list(aliases))
    return artifact.wait()

with wandb.init(project="art", id="maker") as run:
    first = wandb.Artifact("net", "model", metadata={"k": 1}, description="d")
    first.add_file("m.bin")
    first.add_file("same.bin", name="deep/er/ü b.bin")
    first.add_reference("http://127.0.0.1:1/elsewhere", name="ref", checksum=False)
    run.log_artifact(first, aliases=["best"])
    first.wait()
    answer["first"] = [first.version, first.aliases, first.size, first.file_count, first.state]
    answer["versions"] = [log(run, "net", "one").version, log(run, "net", "two", ["best"]).version]
    answer["same"] = log(run, "net", "one", ["again"]).version
    run.log({"table": wandb.Table(columns=["n", "s"], data=[[1, "x"], [2.5, None]])})
    try:
        other = wandb.Artifact("net", "dataset")
        run.log_artifact(other)
        other.wait()
    except Exception as error:
        answer["other type"] = str(error)
    run.log_model("m.bin", name="logged")

api = wandb.Api()
with wandb.init(project="art", id="user") as run:
    used = run.use_artifact("net:v0")
    entry = used.get_entry("deep/er/ü b.bin").download(root="got", skip_cache=True)
    answer["entry"] = pathlib.Path(entry).stat().st_size
    answer["model"] = pathlib.Path(run.use_model("logged:latest")).read_bytes() == b"weights" * 1000

find = lambda name: api.artifact(f"local/art/{name}")
answer["aliases"] = {v: sorted(find(f"net:{v}").aliases) for v in ("v0", "v1", "v2")}
answer["by alias"] = [find("net:best").version, find("net:latest").version, find("net:again").version]
got = find("net:v1")
answer["content"] = pathlib.Path(got.download(root="v1", skip_cache=True), "data.txt").read_text()
answer["graph"] = [find("net:v0").logged_by().id, [r.id for r in find("net:v0").used_by()],
                   [a.name for a in api.run("local/art/user").used_artifacts()],
                   [a.name for a in api.run("local/art/maker").logged_artifacts()]]
answer["collections"] = sorted(c.name for c in api.artifact_type("model", "local/art").collections())
answer["listed"] = [a.version for a in api.artifacts("model", "local/art/net")]
answer["exists"] = [api.artifact_exists("local/art/net:v0"), api.artifact_exists("local/art/net:v9")]
answer["table"] = find("run-maker-table:latest").get("table").data
got.aliases = ["prod"]
got.metadata["k"] = 2
got.tags.append("t")
got.save()
again = find("net:prod")
answer["saved"] = [again.version, again.aliases, again.metadata, again.tags]
try:
    again.delete()
except Exception as error:
    answer["kept"] = str(error)
again.delete(delete_aliases=True)
answer["after"] = [a.version for a in api.artifacts("model", "local/art/net")]
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def answer(server: Server) -> dict[str, Any]:
    return server.run(SCRIPT)


def test_versions_count_up_and_equal_content_makes_none(answer: dict[str, Any]) -> None:
    version, aliases, size, count, state = answer["first"]
    assert (version, sorted(aliases), state) == ("v0", ["best", "latest"], "COMMITTED")
    assert size >= 14_000 and count == 3
    assert answer["versions"] == ["v1", "v2"] and answer["same"] == "v1"


def test_aliases_move(answer: dict[str, Any]) -> None:
    assert answer["aliases"] == {"v0": [], "v1": ["again", "latest"], "v2": ["best"]}
    assert answer["by alias"] == ["v2", "v1", "v1"]


def test_contents_come_back(answer: dict[str, Any]) -> None:
    assert answer["entry"] == 7000 and answer["model"] and answer["content"] == "one"


def test_table_comes_back(answer: dict[str, Any]) -> None:
    assert answer["table"] == [[1, "x"], [2.5, None]]


def test_runs_and_artifacts_know_each_other(answer: dict[str, Any]) -> None:
    maker, users, used, logged = answer["graph"]
    assert maker == "maker" and users == ["user"] and used == ["net:v0", "logged:v0"]
    assert {"net:v0", "net:v1", "net:v2", "logged:v0", "run-maker-table:v0"} == set(logged)


def test_listing(answer: dict[str, Any]) -> None:
    assert answer["collections"] == ["logged", "net"] and answer["listed"] == ["v2", "v1", "v0"]
    assert answer["exists"] == [True, False]


def test_collection_keeps_its_type(answer: dict[str, Any]) -> None:
    assert "already exists with type 'model'" in answer["other type"]


def test_changes_and_deletion(answer: dict[str, Any]) -> None:
    assert answer["saved"] == ["v1", ["prod"], {"k": 2}, ["t"]]
    assert "still has the aliases prod" in answer["kept"] and answer["after"] == ["v2", "v0"]


# ---- the rules, without a client -------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    store, blobs = Store(tmp_path / "wandb.sqlite"), Blobs(tmp_path / "blobs", "k")
    with store.transaction() as db:
        project = ensure_project(db, None, "p")

        def put(blob_id: str, content: bytes) -> str:
            blobs.path(blob_id).parent.mkdir(exist_ok=True)
            blobs.path(blob_id).write_bytes(content)
            md5 = hashlib.md5(content).hexdigest()
            db.run(
                "UPDATE blob SET md5 = ?, size = ?, uploaded_at = 1 WHERE id = ?", md5, len(content), blob_id
            )
            return md5

        def create(digest: str, **extra: Any) -> dict:
            wanted = {"artifactTypeName": "t", "artifactCollectionNames": ["c"], "digest": digest}
            return artifacts.create(db, project, None, wanted | extra)

        def manifest(artifact: dict, contents: dict) -> None:
            blob_id = new_blob(db, "wandb_manifest.json")
            row = {"artifact_id": artifact["id"], "name": "m", "digest": "", "blob_id": blob_id}
            db.insert("manifest", **row)
            put(blob_id, json.dumps({"contents": contents}).encode())

        yield SimpleNamespace(db=db, blobs=blobs, project=project, put=put, create=create, manifest=manifest)


def test_nothing_is_committed_before_its_bytes_are_there(lab: Any) -> None:
    artifact = lab.create("d")
    with pytest.raises(Refused, match="manifest was not uploaded"):
        artifacts.commit(lab.db, lab.blobs, artifact)
    blob_id = new_blob(lab.db, "f", permanent=True)
    md5 = hashlib.md5(b"x").hexdigest()
    lab.manifest(artifact, {"f": {"digest": md5, "size": 1}})
    with pytest.raises(Refused, match="file f was not uploaded"):
        artifacts.commit(lab.db, lab.blobs, artifact)
    lab.put(blob_id, b"x")
    done = artifacts.commit(lab.db, lab.blobs, artifact)
    assert (done["state"], done["version_index"], done["size"]) == ("COMMITTED", 0, 1)
    assert artifacts.commit(lab.db, lab.blobs, done) == done


def test_type_of_a_collection_is_checked_by_the_server_too(lab: Any) -> None:
    lab.create("d")
    with pytest.raises(Refused, match="artifact c is of type t; it cannot also be of type other"):
        lab.create("d", artifactTypeName="other")


def test_the_same_client_id_is_the_same_version(lab: Any) -> None:
    one = lab.create("d", clientID="c1")
    assert lab.create("d", clientID="c1")["id"] == one["id"] != lab.create("d", clientID="c2")["id"]
    assert artifacts.by_client_id(lab.db, "c1")["id"] == one["id"]


def test_common_contents_stay_as_long_as_one_version_needs_them(lab: Any) -> None:
    blob_id = new_blob(lab.db, "f", permanent=True)
    md5 = lab.put(blob_id, b"x")
    made = []
    for digest in ("d1", "d2"):
        artifact = lab.create(digest)
        lab.manifest(artifact, {"f": {"digest": md5, "size": 1}})
        made.append(artifacts.commit(lab.db, lab.blobs, artifact))
    assert blob_id not in artifacts.delete(lab.db, made[0], with_aliases=True)
    assert blob_id in artifacts.delete(lab.db, made[1], with_aliases=True)
    assert collections.latest(lab.db, made[1]["sequence_id"]) is None


def test_files_of_runs_are_never_taken_for_contents(lab: Any) -> None:
    """A run's file can be uploaded anew at any time, so that no version may rest on it."""
    md5 = lab.put(new_blob(lab.db, "f"), b"x")
    assert manifests.stored(lab.db, md5) is None
