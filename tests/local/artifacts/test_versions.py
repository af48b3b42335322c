"""Artifacts through the unmodified client: versions, aliases, contents, references, tables."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from live_server import Server, wait_for
from version_lab import Lab, md5

from wandb_tl.local.artifacts import collections, manifests, portfolios, versions
from wandb_tl.local.artifacts.blobs import Blobs, new_blob
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.records.rows import ArtifactRow
from wandb_tl.local.records.transaction import Transaction

SCRIPT = """
import datetime, json, pathlib, wandb
from wandb.sdk.artifacts.artifact_ttl import ArtifactTTL
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
with wandb.init(project="art", id="drafter") as run:
    draft = wandb.Artifact("drafted", "data")
    draft.add_file("m.bin")
    used = run.use_artifact(draft)
    answer["draft"] = [used.version, used.logged_by(), [r.id for r in used.used_by()]]
other = api.run("local/art/drafter")
other.log_artifact(find("net:v0"), aliases=["mine"], tags=["theirs"])
other.use_artifact(find("net:v0"))
answer["other"] = [[a.name for a in other.logged_artifacts()], [a.name for a in other.used_artifacts()],
                   find("net:mine").version, find("net:v0").tags]
answer["collections"] = sorted(c.name for c in api.artifact_type("model", "local/art").collections())
answer["listed"] = [a.version for a in api.artifacts("model", "local/art/net")]
answer["exists"] = [api.artifact_exists("local/art/net:v0"), api.artifact_exists("local/art/net:v9")]
answer["table"] = find("run-maker-table:latest").get("table").data
got.aliases = ["prod"]
got.metadata["k"] = 2
got.tags.append("t")
got.save()
again = find("net:prod")
lives = []
for ttl in (datetime.timedelta(days=3), None, ArtifactTTL.INHERIT):
    again.ttl = ttl
    again.save()
    found = find("net:prod")
    lives.append([found.ttl and found.ttl.days, found._ttl_is_inherited])
answer["ttl"] = lives
answer["commit"] = [len(again.commit_hash), again.commit_hash == find("net:v0").commit_hash]
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


@pytest.mark.slow
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


def test_drafts_and_versions_of_other_runs(answer: dict[str, Any]) -> None:
    assert answer["draft"] == ["v0", None, ["drafter"]]
    assert answer["other"] == [["net:v0"], ["drafted:v0", "net:v0"], "v0", ["theirs"]]


def test_listing(answer: dict[str, Any]) -> None:
    assert answer["collections"] == ["logged", "net"] and answer["listed"] == ["v2", "v1", "v0"]
    assert answer["exists"] == [True, False]


def test_collection_keeps_its_type(answer: dict[str, Any]) -> None:
    assert "already exists with type 'model'" in answer["other type"]


def test_changes_and_deletion(answer: dict[str, Any]) -> None:
    assert answer["saved"] == ["v1", ["prod"], {"k": 2}, ["t"]]
    assert "still has the aliases prod" in answer["kept"] and answer["after"] == ["v2", "v0"]


def test_time_to_live_and_hash(answer: dict[str, Any]) -> None:
    assert answer["ttl"] == [[3, False], [None, False], [None, True]] and answer["commit"] == [20, False]


# ---- clients at once, and a server that dies -------------------------------------------------------------

AT_ONCE = """
import json, sys, wandb
versions = []
with wandb.init(project="busy", id=sys.argv[1]) as run:
    for number in range(3):
        artifact = wandb.Artifact("shared", "data")
        with artifact.new_file("who.txt") as file:
            file.write(f"{sys.argv[1]} {number}")
        versions.append(run.log_artifact(artifact).wait().version)
print(json.dumps(versions))
"""


@pytest.mark.slow
def test_runs_that_log_to_one_collection_at_once(server: Server) -> None:
    clients = [server.spawn(AT_ONCE, name) for name in ("left", "right")]
    answers = [json.loads(client.communicate(timeout=240)[0].splitlines()[-1]) for client in clients]
    assert sorted(answers[0] + answers[1]) == [f"v{number}" for number in range(6)]
    assert all(numbers == sorted(numbers) for numbers in answers)


@pytest.mark.long
def test_server_killed_between_all_steps_of_an_upload(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    content, contents = b"weights", {"m.bin": {"digest": md5(b"weights"), "size": 7}}
    listing = json.dumps({"version": 1, "contents": contents}).encode()

    def twice(step: Callable[[], Any]) -> Any:
        """A step whose answer is lost: the server dies after it, and the client asks again."""
        step()
        server.stop(signal.SIGKILL)
        server.start()
        return step()

    def mutate(field: str, kind: str, selection: str, **values: Any) -> Any:
        document = f"mutation ($input: {kind}Input!) {{ {field}(input: $input) {{ {selection} }} }}"
        return server.query(document, input=values)[field]

    def create() -> Any:
        wanted = {"artifactTypeName": "t", "artifactCollectionName": "c", "digest": "d", "clientID": "mine"}
        selection = "artifact { id state }"
        return mutate("createArtifact", "CreateArtifact", selection, projectName="p", **wanted)["artifact"]

    def announce(digest: str) -> Any:
        named = {"artifactID": version["id"], "name": "wandb_manifest.json", "digest": digest}
        selection = "artifactManifest { id file { uploadUrl } }"
        found = mutate("createArtifactManifest", "CreateArtifactManifest", selection, **named)
        return found["artifactManifest"]

    def ask() -> Any:
        files = [{"artifactID": version["id"], "name": "m.bin", "md5": md5(content)}]
        selection = "files { edges { node { uploadUrl } } }"
        found = mutate("createArtifactFiles", "CreateArtifactFiles", selection, artifactFiles=files)
        return found["files"]["edges"][0]["node"]["uploadUrl"]

    def commit() -> Any:
        selection = "artifact { versionIndex fileCount aliases { alias } }"
        return mutate("commitArtifact", "ArtifactId", selection, artifactID=version["id"])["artifact"]

    def put(address: str, body: bytes) -> int:
        return server.request(address, body, method="PUT")[0]

    version = twice(create)
    assert version["state"] == "PENDING"
    first = twice(lambda: announce(""))
    address = twice(ask)
    assert twice(lambda: put(address, content)) == 200 and ask() is None
    second = twice(lambda: announce(md5(listing)))
    assert second["id"] == first["id"]
    assert twice(lambda: put(second["file"]["uploadUrl"], listing)) == 200
    assert twice(commit) == {
        "versionIndex": 0,
        "fileCount": 1,
        "aliases": [{"alias": "latest"}, {"alias": "v0"}],
    }
    read = '{ project(name: "p") { artifact(name: "c") { files { edges { node { directUrl } } } } } }'
    found = server.query(read)["project"]["artifact"]["files"]["edges"]
    assert [server.request(edge["node"]["directUrl"])[1] for edge in found] == [content]
    assert server.stop() == 0


WHILE_IT_DIES = """
import wandb
with wandb.init(project="p", id="r") as run:
    artifact = wandb.Artifact("many", "data")
    for number in range(60):
        with artifact.new_file(str(number)) as file:
            file.write(f"file {number}")
    print(run.log_artifact(artifact).wait().version)
"""

READ = """
import json, pathlib, wandb
versions = wandb.Api().artifacts("data", "p/many")
root = pathlib.Path(versions[0].download())
print(json.dumps([len(versions), {path.name: path.read_text() for path in root.iterdir()}]))
"""


@pytest.mark.long
def test_a_client_outlasts_a_server_that_dies_under_its_uploads(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    client = server.spawn(WHILE_IT_DIES)
    uploaded = "SELECT id FROM blob WHERE permanent AND uploaded_at IS NOT NULL"
    with closing(sqlite3.connect(server.root / "wandb.sqlite")) as records:
        wait_for(lambda: len(records.execute(uploaded).fetchall()) > 5)
    server.stop(signal.SIGKILL)
    server.start()
    assert client.communicate(timeout=240)[0] == "v0\n" and client.returncode == 0
    found = server.run(READ, WANDB_CACHE_DIR=str(tmp_path / "cache"))
    assert found == [1, {str(number): f"file {number}" for number in range(60)}]
    assert server.stop() == 0


# ---- the rules, without a client -------------------------------------------------------------------------


def test_nothing_is_committed_before_its_bytes_are_there(lab: Lab) -> None:
    artifact = lab.create("d")
    with pytest.raises(RequestError, match="manifest was not uploaded"):
        lab.commit(artifact)
    blob = lab.expect(artifact, b"x")
    listing = {"contents": {"f": {"digest": md5(b"x"), "size": 1}}}
    lab.upload(lab.announce(artifact)["blob_id"], json.dumps(listing).encode())
    with pytest.raises(RequestError, match="file f was not uploaded"):
        lab.commit(artifact)
    lab.upload(blob["id"], b"x")
    done = lab.commit(artifact)
    assert (done["state"], done["version_index"], done["size"]) == ("COMMITTED", 0, 1)
    assert lab.commit(done) == done


def test_type_of_a_collection_is_checked_by_the_server_too(lab: Lab) -> None:
    lab.create("d")
    with pytest.raises(RequestError, match="artifact c is of type t; it cannot also be of type other"):
        lab.create("d", artifactTypeName="other")


def test_the_same_client_id_is_the_same_version(lab: Lab) -> None:
    one = lab.create("d", clientID="c1")
    assert lab.create("d", clientID="c1")["id"] == one["id"] != lab.create("d", clientID="c2")["id"]
    assert versions.by_client_id(lab.db, "c1")["id"] == one["id"]


def test_common_contents_stay_as_long_as_one_version_needs_them(lab: Lab) -> None:
    made = [lab.make(digest, {"f": "x"}) for digest in ("d1", "d2")]
    blob_id = manifests.stored(lab.db, md5(b"x"))["id"]
    pending = lab.create("d3")
    assert lab.expect(pending, b"x")["id"] == blob_id
    for artifact, gone in ((made[0], False), (made[1], False), (pending, True)):
        assert (blob_id in versions.delete(lab.db, artifact, with_aliases=True)) == gone
    assert collections.latest(lab.db, made[1]["sequence_id"]) is None


def test_a_version_of_many_files_is_deleted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turn between two parts. What is cut off is completed later."""
    monkeypatch.setattr(manifests, "FILES_AT_ONCE", 2)
    database, folder = Database(tmp_path / "wandb.sqlite"), Blobs(tmp_path / "blobs", "k")
    with database.transaction() as db:
        lab = Lab(db, folder)
        own = {f"f{number}": f"own {number}" for number in range(4)}
        many = lab.make("1", own | {"same": "own 0", "shared": "x"})
        lab.make("2", {"f": "x"})
    lists = "SELECT count(*) FROM membership WHERE artifact_id = ?"

    def cut_off(artifact: ArtifactRow, db: Transaction, delete: Any = versions._delete_files) -> list[str]:
        # Nobody finds it from the first part on.
        assert db.value(lists, artifact["id"]) == 0
        if db.value("SELECT count(*) FROM manifest_entry WHERE artifact_id = ?", artifact["id"]) == 2:
            raise ZeroDivisionError
        return delete(artifact, db)

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(versions, "_delete_files", cut_off)
        database.repeat(lambda db: versions.delete(db, many, with_aliases=True))
    gone = database.repeat(versions.delete_expired)
    with database.transaction() as db:
        contents = db.all("SELECT id, md5 FROM blob WHERE permanent")
        assert [row["md5"] for row in contents] == [md5(b"x")] and contents[0]["id"] not in gone
        assert db.get("artifact", many["id"]) is None
    database.close()


def test_files_of_runs_are_never_taken_for_contents(lab: Lab) -> None:
    """A run's file can be uploaded anew at any time, so that no version may rest on it."""
    lab.upload(new_blob(lab.db, "f"), b"x")
    assert manifests.stored(lab.db, md5(b"x")) is None


RUN = {"config": "{}", "display_name": "r", "state": "running", "created_at": 1}


def test_uploads_whose_clients_died_are_forgotten(lab: Lab) -> None:
    project = ensure_project(lab.db, None, "p")
    run = lab.db.get("run", lab.db.insert("run", project_id=project["id"], name="r", **RUN))
    done = lab.make("0", {"kept": "kept"})
    dead, jobs, working, slow = (
        lab.create("1"),
        lab.create("2", distributedID="job"),
        lab.create("3", run),
        lab.create("4"),
    )
    for artifact in (dead, jobs, working, slow):
        lab.add(artifact, {"kept": "kept", "own": artifact["digest"]})
    twin = lab.expect(dead, b"half")
    later = lab.expect(slow, b"late")

    def at(days: float) -> set[str]:
        lab.db.now = started + days * 24 * 3600
        gone = versions.delete_expired(lab.db)
        assert not lab.db.all(
            "SELECT 1 FROM blob WHERE id IN (SELECT value FROM json_each(?))", json.dumps(gone)
        )
        alive = lab.db.all("SELECT id FROM artifact")
        return {row["id"] for row in alive}

    started = lab.db.now
    everything = {row["id"] for row in (done, dead, jobs, working, slow)}
    assert at(0.9) == everything
    lab.upload(later["id"], b"late")
    lab.db.update("run", run["id"], heartbeat_at=lab.db.now)
    assert at(1.1) == everything - {dead["id"]}
    assert lab.db.one("SELECT * FROM blob WHERE id = ?", twin["id"]) is None
    assert manifests.stored(lab.db, md5(b"1")) is None and manifests.stored(lab.db, md5(b"kept"))
    assert at(2) == {done["id"], jobs["id"]}
    assert at(6.9) == {done["id"], jobs["id"]} and at(7.1) == {done["id"]}
    assert [row["md5"] for row in lab.db.all("SELECT * FROM blob WHERE permanent")] == [md5(b"kept")]


def test_contents_that_no_manifest_lists_are_forgotten(lab: Lab) -> None:
    artifact = lab.create("1")
    spare = lab.expect(artifact, b"spare")
    lab.upload(spare["id"], b"spare")
    lab.add(artifact, {"f": "x"})
    lab.commit(artifact)
    assert versions.delete_expired(lab.db) == []
    lab.db.now += versions.ABANDONED_SECONDS + 1
    assert versions.delete_expired(lab.db) == [spare["id"]]


def test_versions_end_with_their_time_unless_linked(lab: Lab) -> None:
    short, linked = (lab.make(name, {"f": name}, ttlDurationSeconds=60) for name in ("1", "2"))
    kept = [lab.make(f"k{ttl}", {"f": f"k{ttl}"}, ttlDurationSeconds=ttl) for ttl in (None, -1, -2, 3600)]
    portfolios.link(lab.db, linked, {"projectName": "p", "artifactPortfolioName": "shelf"})
    assert versions.delete_expired(lab.db) == []
    lab.db.now += 61
    assert len(versions.delete_expired(lab.db)) == 2
    assert lab.db.get("artifact", short["id"]) is None
    assert all(lab.db.get("artifact", artifact["id"]) for artifact in (linked, *kept))
    versions.update(lab.db, kept[0], {"ttlDurationSeconds": 5})
    versions.update(lab.db, kept[3], {"ttlDurationSeconds": -1})
    found = [lab.db.get("artifact", kept[number]["id"])["ttl_seconds"] for number in (0, 1, 2, 3)]
    assert found == [5, None, -2, None]
