"""What versions contain, through the unmodified client: all at once, in parts, by either digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash
from live_server import Server
from version_lab import Lab, md5, xxh128

from wandb_tl.local.artifacts import blobs, manifests, versions
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.rows import ArtifactRow, ManifestRow
from wandb_tl.local.records.transaction import Transaction, existing

LOG = """
import json, os, wandb
answer = {}

def fails(action, *arguments, **how):
    try:
        action(*arguments, **how)
    except Exception as error:
        return str(error)

def made(name, files, **how):
    artifact = wandb.Artifact(name, "data", **how)
    for path, content in files.items():
        with artifact.new_file(path) as file:
            file.write(content)
    return artifact

with wandb.init(project="parts", id="one") as run:
    log = lambda *what, **how: run.log_artifact(made(*what, **how)).wait()
    log("grown", {"a": "1", "b": "1"}, incremental=True)
    grown = log("grown", {"b": "2", "deep/er": "2"}, incremental=True)
    answer["incremental"] = [grown.version, grown.file_count, grown.size]
    draft = wandb.Api().artifact("parts/grown:v0").new_draft()
    draft.remove("a")
    with draft.new_file("d") as file:
        file.write("3")
    answer["draft"] = run.log_artifact(draft).wait().version
    answer["same"] = log("grown", {"a": "1", "b": "2", "deep/er": "2"}).version
    part = run.upsert_artifact(made("joint", {"0": "0", "x": "0"}), distributed_id="job", aliases=["ours"])
    answer["open"] = [part.wait().state, wandb.Api().artifact_exists("parts/joint:latest")]
    answer["region"] = fails(log, "far", {"a": "1"}, storage_region="mars")
    answer["default region"] = log("near", {"a": "1"}, storage_region="default").version
    fast = {"digest_algorithm": "XXH128"}
    answer["xxh"] = [log("fast", {"a": "xxh", "b": "1"}, **fast).digest_algorithm.value,
                     log("fast", {"a": "xxh", "b": "1"}, **fast).version,
                     log("fast", {"c": "2"}, **fast, incremental=True).version,
                     log("grown", {"b": "xxh"}, **fast).digest_algorithm.value]
    os.environ["WANDB_USE_V1_ARTIFACTS"] = "true"
    log("old", {"a": "first layout"})
    del os.environ["WANDB_USE_V1_ARTIFACTS"]
    outer = wandb.Artifact("outer", "data")
    inner = wandb.Api().artifact("parts/grown:v1").get_entry("deep/er")
    outer.add_reference(inner.ref_url(), name="inner")
    run.log_artifact(outer).wait()

with wandb.init(project="parts", id="two") as run:
    upsert = lambda files: run.upsert_artifact(made("joint", files), distributed_id="job").wait()
    finish = lambda files: run.finish_artifact(made("joint", files), distributed_id="job").wait()
    upsert({"1": "1", "x": "1"})
    joint = finish({"2": "2"})
    answer["joint"] = [joint.version, sorted(joint.aliases), joint.logged_by().id]
    upsert({"1": "3"})
    answer["joint again"] = finish({"2": "2"}).version
print(json.dumps(answer))
"""

READ = """
import json, pathlib, wandb
api = wandb.Api()
answer = {}

def contents(name):
    artifact = api.artifact(f"parts/{name}")
    root = pathlib.Path(artifact.download(root=f"down/{name}"))
    artifact.verify(root)
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}

names = "grown:v0 grown:v1 grown:v2 near:v0 fast:v0 fast:v1 joint:v0 joint:v1"
answer["contents"] = {name: contents(name) for name in names.split()}
answer["loggers"] = sorted(run.id for run in api.runs("parts")
                           if any(artifact.name == "joint:v0" for artifact in run.logged_artifacts()))
whole = api.artifact("parts/grown:v1")
answer["digest"] = whole.digest == whole.manifest.digest()
answer["url"] = whole.manifest.storage_policy._file_url(whole, whole.get_entry("deep/er"))
answer["files"] = [[file.name for file in whole.files(per_page=2)],
                   [(file.name, file.size) for file in whole.files(["deep/er"])], len(whole.files())]
root = whole.download(root="whole")
pathlib.Path(root, "a").write_text("spoilt")
try:
    whole.verify(root)
except ValueError as error:
    answer["spoilt"] = str(error)
answer["checkout"] = pathlib.Path(whole.checkout(root), "a").read_text()
answer["inner"] = pathlib.Path(api.artifact("parts/outer:v0").get_entry("inner").download()).read_text()

def fetch(name, path):
    entry = api.artifact(f"parts/{name}").get_entry(path)
    return pathlib.Path(entry.download(root=f"one/{name}", skip_cache=True)).read_text()

answer["single"] = [fetch("grown:v1", "deep/er"), fetch("fast:v0", "a"), fetch("old:v0", "a")]
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def answer(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    # Read with a cache of its own: what was logged is in the other one.
    logged = server.run(LOG)
    return logged | server.run(READ, WANDB_CACHE_DIR=str(tmp_path_factory.mktemp("cache")))


@pytest.mark.slow
def test_incremental_versions_add_to_the_latest(answer: dict[str, Any]) -> None:
    assert answer["incremental"] == ["v1", 3, 3] and answer["contents"]["grown:v0"] == {"a": "1", "b": "1"}
    assert answer["contents"]["grown:v1"] == {"a": "1", "b": "2", "deep/er": "2"}
    assert answer["digest"] and answer["same"] == "v1"


def test_drafts_begin_with_their_base(answer: dict[str, Any]) -> None:
    assert answer["draft"] == "v2" and answer["contents"]["grown:v2"] == {"b": "1", "d": "3"}


def test_runs_make_a_version_together(answer: dict[str, Any]) -> None:
    assert answer["open"] == ["PENDING", False]
    assert answer["joint"] == ["v0", ["latest", "ours"], "one"] and answer["loggers"] == ["one", "two"]
    assert answer["contents"]["joint:v0"] == {"0": "0", "1": "1", "2": "2", "x": "1"}
    assert answer["joint again"] == "v1" and answer["contents"]["joint:v1"] == {"1": "3", "2": "2"}


def test_both_digests(answer: dict[str, Any]) -> None:
    assert answer["xxh"] == ["MANIFEST_XXH128", "v0", "v1", "MANIFEST_MD5"]
    assert answer["contents"]["fast:v0"] == {"a": "xxh", "b": "1"}
    assert answer["contents"]["fast:v1"] == {"a": "xxh", "b": "1", "c": "2"}


def test_files_come_one_by_one_and_by_every_layout(answer: dict[str, Any], server: Server) -> None:
    assert answer["single"] == ["2", "xxh", "first layout"] and answer["inner"] == "2"
    assert answer["files"] == [["a", "b", "deep/er"], [["deep/er", 1]], 3]
    assert "Digest mismatch for file: a" in answer["spoilt"] and answer["checkout"] == "1"
    assert server.request(answer["url"]) == (200, 2) and server.request(answer["url"], key=None)[0] == 401
    digest = hashlib.md5(b"2").hexdigest()
    assert server.request(f"/artifactsV2/default/e/p/c/birth/{digest}/name") == (200, 2)
    nowhere = (
        f"artifactsV2/mars/e/p/c/birth/{digest}/n",
        "artifactsV2/default/e/p/c/b/xyz/n",
        "artifacts/e/00",
    )
    assert [server.request(f"/{path}")[0] for path in nowhere] == [404, 404, 404]


def test_nothing_is_uploaded_over_a_complete_version(answer: dict[str, Any], server: Server) -> None:
    document = """{ project(entityName: "local", name: "parts") { artifact(name: "joint:v0") {
        files { edges { node { url(upload: true) directUrl } } }
        currentManifest { file { uploadUrl directUrl } } } } }"""
    version = server.query(document)["project"]["artifact"]
    files = [edge["node"] for edge in version["files"]["edges"]]
    places = [(file["url"], file["directUrl"]) for file in files]
    places.append(tuple(version["currentManifest"]["file"].values()))
    assert len(places) == 5
    for upload, download in places:
        before = server.request(download, key=None)
        assert server.request(upload, b"other", key=None, method="PUT")[0] in (400, 403)
        assert server.request(download, key=None) == before and before[0] == 200


def test_unknown_storage_region_is_refused(answer: dict[str, Any]) -> None:
    assert "there is no storage region mars here" in answer["region"]
    assert answer["default region"] == "v0" and answer["contents"]["near:v0"] == {"a": "1"}


# ---- the rules, without a client -------------------------------------------------------------------------


def test_an_address_asked_for_again_is_the_same(lab: Lab) -> None:
    one, two = lab.create("1"), lab.create("2")
    blob = lab.expect(one, b"x")
    assert lab.expect(one, b"x")["id"] == blob["id"] != lab.expect(two, b"x")["id"]
    lab.upload(blob["id"], b"x")
    assert lab.expect(two, b"x")["id"] == blob["id"] and lab.expect(two, b"x")["uploaded_at"]


def test_a_file_costs_the_same_however_many_there_are(lab: Lab) -> None:
    one, work = lab.create("1"), [0]

    def count() -> None:
        work[-1] += 1

    lab.db.connection.set_progress_handler(count, 100)
    for number in range(1500):
        if number % 500 == 0:
            work.append(0)
        lab.expect(one, str(number).encode())
    lab.db.connection.set_progress_handler(None, 0)
    assert work[3] < 1.5 * work[1], work


def test_contents_are_found_by_both_digests_that_the_server_computed(lab: Lab) -> None:
    one = lab.create("1")
    large = lab.expect(one, b"", md5="", digest=xxh128(b"large"))
    small = lab.expect(one, b"small", digest=xxh128(b"small"))
    plain = lab.expect(one, b"plain")
    assert large["announced"] is None and small["announced"] == md5(b"small")
    assert manifests.stored(lab.db, xxh128(b"large")) is None
    for blob, content in ((large, b"large"), (small, b"small"), (plain, b"plain")):
        lab.upload(blob["id"], content)
        found = [manifests.stored(lab.db, digest(content)) for digest in (md5, xxh128)]
        assert [row and row["id"] for row in found] == [blob["id"]] * 2
    assert manifests.stored(lab.db, "") is None
    assert lab.expect(lab.create("2"), b"", md5="", digest=xxh128(b"large"))["id"] == large["id"]
    with pytest.raises(RequestError, match="is not the MD5 of the file with the digest"):
        lab.expect(one, b"other", digest=xxh128(b"large"))
    with pytest.raises(RequestError, match="neither a digest nor an MD5"):
        lab.expect(one, b"", md5="")


def test_no_digest_is_taken_on_a_clients_word(lab: Lab) -> None:
    one = lab.create("1")
    evil = lab.expect(one, b"evil", digest=xxh128(b"good"))
    with pytest.raises(RequestError, match="neither is"):
        lab.upload(evil["id"], b"evil")
    with pytest.raises(RequestError, match="as announced"):
        lab.upload(evil["id"], b"good")
    lab.upload(lab.expect(one, b"known")["id"], b"known")
    claimed = lab.expect(one, b"known", digest=xxh128(b"secret"))
    assert claimed["uploaded_at"] is None and manifests.stored(lab.db, xxh128(b"secret")) is None
    # Nor that of a version: who logs what has it would get these contents.
    made = {"evil": "1"}
    for algorithm, wanted in (
        ("MANIFEST_MD5", hashlib.md5),
        ("MANIFEST_XXH128", xxhash.xxh128),
    ):
        done = lab.make(f"of other contents {algorithm}", made, digestAlgorithm=algorithm)
        text = f"wandb-artifact-manifest-v1\nevil:{md5(b'1')}\n".encode()
        assert done["digest"] == wanted(text).hexdigest()
        assert lab.create(f"of other contents {algorithm}")["state"] == "PENDING"


def test_what_is_no_manifest_is_refused_in_one_line(lab: Lab) -> None:
    for content in (
        *(b"", b"[]", b"[" * 100_000, b'{"contents": [1]}', b'{"contents": {"a": 1}}'),
        *(b'{"contents": {"a": {"digest": 1, "size": "x"}}}', b'{"contents": {"\\ud800": {"ref": "x"}}}'),
        b'{"contents": {"a": {"ref": "x", "size": 1e400}}}',
    ):
        one = lab.create("1")
        lab.upload(lab.announce(one)["blob_id"], content)
        with pytest.raises(RequestError, match="m is not a valid manifest"):
            lab.commit(one)


@pytest.mark.parametrize(
    ("limit", "value", "says"), [("LARGEST", 50, "50 bytes"), ("MOST_FILES", 1, "1 files, not 2")]
)
@pytest.mark.parametrize("kind", ["FULL", "PATCH"])
def test_a_manifest_beyond_the_limits_is_refused_in_one_line(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, says: str, kind: str
) -> None:
    one = lab.create("1", distributedID="job" if kind == "PATCH" else None)
    lab.add(one, {"a": "1", "b": "2"}, kind=kind)
    monkeypatch.setattr(manifests, limit, value)
    with pytest.raises(RequestError, match=says) as refused:
        lab.commit(one)
    assert "\n" not in str(refused.value)
    monkeypatch.undo()
    assert lab.commit(one)["file_count"] == 2


def test_other_clients_write_while_manifests_are_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, folder, read = Database(tmp_path / "wandb.sqlite"), Blobs(tmp_path / "blobs", "k"), []

    def aside(path: Path, row: ManifestRow, parse: Any = manifests._read) -> Any:
        assert database.lock.acquire(timeout=5), "the database is locked"
        database.lock.release()
        read.append(row["kind"])
        return parse(path, row)

    with database.transaction() as db:
        lab = Lab(db, folder)
        base = lab.make("1", {"a": "1"})
        more = lab.create("2")
        lab.add(more, {"b": "1"}, base, "INCREMENTAL")
    monkeypatch.setattr(manifests, "_read", aside)
    done = database.repeat(lambda db: versions.commit(db, folder, more))
    assert done["file_count"] == 2 and read == ["INCREMENTAL", "FULL"]
    database.close()


Action = Callable[[ArtifactRow, Any, Transaction], None]


def around_parts(
    patch: pytest.MonkeyPatch, before: Action | None = None, after: Action | None = None
) -> None:
    """Let something happen in the transaction of each part of a version's entries, before or after them."""
    store = manifests._store_entries

    def stored(artifact: ArtifactRow, part: Any, db: Transaction) -> None:
        if before:
            before(artifact, part, db)
        store(artifact, part, db)
        if after:
            after(artifact, part, db)

    patch.setattr(manifests, "_store_entries", stored)


def test_other_clients_write_between_the_entries_of_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version of 40 files is stored in parts. A file that is missing leaves nothing of it to be seen."""
    monkeypatch.setattr(manifests, "FILES_AT_ONCE", 3)
    database, folder, seen = Database(tmp_path / "wandb.sqlite"), Blobs(tmp_path / "blobs", "k"), []

    def count(_: ArtifactRow, _part: Any, db: Transaction) -> None:
        seen.append(db.value("SELECT count(*) FROM manifest_entry"))

    around_parts(monkeypatch, before=count)
    with database.transaction() as db:
        lab = Lab(db, folder)
        many, short = lab.create("1"), lab.create("2")
        lab.add(many, {f"f{number:02d}": str(number % 7) for number in range(40)})
        lab.add(short, {"a": "1", "b": "2", "c": "3", "d": "late"})
        db.run("UPDATE blob SET uploaded_at = NULL WHERE md5 = ?", md5(b"late"))
    done = database.repeat(lambda db: versions.commit(db, folder, many))
    assert done["file_count"] == 40 and done["size"] == 40 and seen == list(range(0, 40, 3))
    with pytest.raises(RequestError, match="file d was not uploaded"):
        database.repeat(lambda db: versions.commit(db, folder, short))
    with database.transaction() as db:
        assert existing(db.get("artifact", short["id"]))["state"] == "PENDING"
        db.run("UPDATE blob SET uploaded_at = 1 WHERE md5 = ?", md5(b"late"))
    assert database.repeat(lambda db: versions.commit(db, folder, short))["file_count"] == 4
    with database.transaction() as db:
        assert db.value("SELECT count(*) FROM expected_blob") == 0
    database.close()


def test_an_attempt_that_was_cut_off_protects_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two parts of the second attempt, another version with the same files is deleted."""
    monkeypatch.setattr(manifests, "FILES_AT_ONCE", 2)
    database, folder = Database(tmp_path / "wandb.sqlite"), Blobs(tmp_path / "blobs", "k")
    files = {f"f{number}": str(number) for number in range(6)}
    with database.transaction() as db:
        lab = Lab(db, folder)
        other, many = lab.make("1", files), lab.create("2")
        lab.add(many, files)

    def cut_off(_: ArtifactRow, part: Any, _db: Transaction) -> None:
        if part[0][0] == "f4":
            raise ZeroDivisionError

    def beside(_: ArtifactRow, part: Any, db: Transaction) -> None:
        if part[0][0] == "f0":
            for blob_id in versions.delete(db, other, with_aliases=True):
                folder.delete(blob_id)

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        around_parts(patch, before=cut_off)
        database.repeat(lambda db: versions.commit(db, folder, many))
    around_parts(monkeypatch, before=beside)
    assert database.repeat(lambda db: versions.commit(db, folder, many))["file_count"] == 6
    with database.transaction() as db:
        ids = [row["blob_id"] for row in db.all("SELECT blob_id FROM manifest_entry")]
    assert len(ids) == 6 and all(folder.path(blob_id).exists() for blob_id in ids)
    database.close()


def test_a_version_that_is_deleted_while_it_is_stored_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "FILES_AT_ONCE", 1)
    database, folder = Database(tmp_path / "wandb.sqlite"), Blobs(tmp_path / "blobs", "k")
    files = {"a": "1", "b": "2"}
    with database.transaction() as db:
        lab = Lab(db, folder)
        lab.make("1", files)
        gone = lab.create("2")
        lab.add(gone, files)

    def delete(artifact: ArtifactRow, _part: Any, db: Transaction) -> None:
        versions.delete(db, artifact, with_aliases=True)

    around_parts(monkeypatch, after=delete)
    with pytest.raises(RequestError, match="this version was deleted"):
        database.repeat(lambda db: versions.commit(db, folder, gone))
    database.close()


def test_two_lists_of_files_at_once_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, folder = Database(tmp_path / "wandb.sqlite"), Blobs(tmp_path / "blobs", "k")
    with database.transaction() as db:
        lab = Lab(db, folder)
        one = lab.create("1")
        lab.add(one, {"a": "1", "b": "2"})

    def take_away(_: ArtifactRow, _part: Any, db: Transaction) -> None:
        db.run("DELETE FROM manifest_entry WHERE path = 'a'")

    with monkeypatch.context() as patch, pytest.raises(RequestError, match="completed twice at once"):
        around_parts(patch, after=take_away)
        database.repeat(lambda db: versions.commit(db, folder, one))
    assert database.repeat(lambda db: versions.commit(db, folder, one))["file_count"] == 2
    database.close()


def test_parts_that_never_came_are_left_out(lab: Lab) -> None:
    one = lab.create("1", distributedID="job")
    assert lab.create("2", distributedID="job")["id"] == one["id"] != lab.create("2")["id"]
    lab.add(one, {"a": "1", "b": "1"}, kind="PATCH")
    lab.add(one, {"b": "22"}, kind="PATCH")
    lab.announce(one, kind="PATCH")
    done = lab.commit(one)
    listed = lab.db.all("SELECT path, size FROM manifest_entry WHERE artifact_id = ?", done["id"])
    assert {row["path"]: row["size"] for row in listed} == {"a": 1, "b": 2}
    assert (done["size"], done["file_count"]) == (3, 2)
    assert lab.create("1", distributedID="job")["id"] != one["id"]


def test_a_base_that_is_gone_is_not_forgotten_silently(lab: Lab) -> None:
    base = lab.make("1", {"a": "1"})
    more = lab.create("2")
    lab.add(more, {"b": "1"}, base, "INCREMENTAL")
    versions.delete(lab.db, base, with_aliases=True)
    with pytest.raises(RequestError, match="that this one adds to is gone"):
        lab.commit(more)


def test_a_manifest_that_is_announced_anew_counts_when_it_is_uploaded(lab: Lab) -> None:
    one = lab.create("1")
    manifest = lab.add(one, {"a": "1"})
    newer = b'{"version": 1, "contents": {}}'
    manifests.update(lab.db, manifest, None, md5(newer))
    with pytest.raises(RequestError, match="manifest was not uploaded"):
        lab.commit(one)
    lab.upload(manifest["blob_id"], newer)
    manifests.update(lab.db, manifest, None, md5(newer))
    assert lab.commit(one)["file_count"] == 0


def test_complete_versions_do_not_change(lab: Lab) -> None:
    done = lab.create("1")
    manifest = lab.add(done, {"a": "1"})
    done = lab.commit(done)
    for action in (
        lambda: lab.expect(done, b"y"),
        lambda: manifests.announce(lab.db, done, None, {"name": "m", "digest": "x"}),
        lambda: manifests.update(lab.db, manifest, None, "x"),
    ):
        with pytest.raises(RequestError, match="can no longer change"):
            action()


def test_bytes_of_complete_versions_do_not_change(lab: Lab) -> None:
    one = lab.create("1")
    manifest = lab.add(one, {"a": "1"})
    lab.upload(manifest["blob_id"], b"{}")
    old = lab.blobs.read(manifest["blob_id"])
    assert old == b"{}", "an open version's manifest can still change"
    manifest = lab.add(one, {"a": "1"})
    lab.commit(one)
    content = manifests.stored(lab.db, md5(b"1"))
    # What a client has lost the answer to, it sends again.
    listing = lab.blobs.read(manifest["blob_id"])
    for blob_id, bytes_ in ((content["id"], b"1"), (manifest["blob_id"], listing)):
        lab.upload(blob_id, bytes_)
        with pytest.raises(RequestError, match=r"announced|complete version"):
            lab.upload(blob_id, b"other")
        assert lab.blobs.read(blob_id) == bytes_
    lab.db.run("DELETE FROM expected_blob")
    gone = blobs.new_blob(lab.db, "gone")
    lab.db.run("DELETE FROM blob WHERE id = ?", gone)
    with pytest.raises(RequestError, match="may have been deleted"):
        lab.upload(gone, b"1")
    assert not lab.blobs.path(gone).exists()
