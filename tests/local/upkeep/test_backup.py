"""Copies of a folder, also of one that changes all the time, and what becomes of them."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from live_server import Server, call, sqlite, wait_for
from version_lab import Lab

from wandb_tl.local.artifacts import versions
from wandb_tl.local.artifacts.blobs import Blobs, new_blob
from wandb_tl.local.errors import ExitCode, RootError
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.upkeep.backup import backup, restore
from wandb_tl.local.upkeep.check import check

WRITE = """
import json, pathlib, sys, wandb
made = []
with wandb.init(project="busy", id=sys.argv[1]) as run:
    while not pathlib.Path(sys.argv[2]).exists():
        number = len(made)
        algorithm = "XXH128" if number % 2 else "MD5"
        artifact = wandb.Artifact(f"model-{run.id}", "model", digest_algorithm=algorithm)
        with artifact.new_file("weights", "wb") as file:
            file.write(f"{run.id} {number}".encode() * 1000)
        made.append(run.log_artifact(artifact).wait().version)
        run.log({"number": number})
        pathlib.Path(run.dir, "live.txt").write_text(str(number) * 1000)
        run.save("live.txt", policy="live")
print(json.dumps(made))
"""

READ = """
import json, wandb
api, answer = wandb.Api(), {}
for run in api.runs("local/busy"):
    versions = [version for version in run.logged_artifacts()]
    for version in versions:
        version.verify(version.download())
    answer[run.id] = [len(versions), len(list(run.scan_history()))]
print(json.dumps(answer))
"""


def write_versions(root: Path, stop: threading.Event, started: threading.Event) -> None:
    """Log versions, replace a run's file and delete old versions, without a pause."""
    with closing(Database(root / "wandb.sqlite")) as database:
        blobs, number = Blobs(root / "blobs", "k"), 0
        while not stop.is_set():
            number += 1
            with database.transaction() as db:
                lab = Lab(db, blobs)
                lab.make(str(number), {"a": f"a{number}", "b": f"b{number}"})
                blob_id = db.value("SELECT blob_id FROM file")
                lab.upload(blob_id, str(number).encode() * 50)
                unused = []
                if number > 20:
                    oldest = db.value("SELECT min(id) FROM artifact")
                    unused = versions.delete(db, db.get("artifact", oldest), with_aliases=True)
            for blob_id in unused:
                blobs.delete(blob_id)
            if number > 20:
                started.set()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    with closing(Database(root / "wandb.sqlite")) as database, database.transaction() as db:
        lab = Lab(db, Blobs(root / "blobs", "k"))
        lab.make("0", {"a": "a"})
        project = ensure_project(db, None, "p")["id"]
        names = {"name": "r", "display_name": "r"}
        run = db.insert("run", project_id=project, state="finished", created_at=0, **names)
        blob_id = new_blob(db, "f")
        db.insert("file", run_id=run, name="f", blob_id=blob_id)
        lab.upload(blob_id, b"f")
    (root / "key").write_text("k" * 40)
    return root


def test_a_copy_is_of_one_moment_while_the_folder_changes(root: Path, tmp_path: Path) -> None:
    stop, started = threading.Event(), threading.Event()
    writer = threading.Thread(target=write_versions, args=(root, stop, started))
    writer.start()
    try:
        assert started.wait(100)
        backup(root, tmp_path / "copy")
    finally:
        stop.set()
        writer.join()
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"blobs", "key", "wandb.sqlite"}
    assert check(tmp_path / "copy", repair=False) == ExitCode.OK
    restore(tmp_path / "copy", tmp_path / "new")
    assert check(tmp_path / "new", repair=False) == ExitCode.OK
    for folder in (tmp_path / "copy", tmp_path / "new"):
        assert (folder / "key").read_text() == "k" * 40 and (folder / "key").stat().st_mode & 0o77 == 0
        assert folder.stat().st_mode & 0o77 == 0
    with closing(Database(tmp_path / "new/wandb.sqlite")) as database, database.transaction() as db:
        assert db.value("SELECT count(*) FROM artifact WHERE state = 'COMMITTED'") >= 20


def test_what_cannot_be_copied_whole_is_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for action, says in (
        (lambda: backup(root, tmp_path / "full"), "is not empty"),
        (lambda: restore(root, tmp_path / "full"), "is not empty: move it away"),
        (lambda: restore(tmp_path / "full", tmp_path / "other"), "nor a whole backup"),
    ):
        with pytest.raises(RootError, match=says):
            action()
    next(root.glob("blobs/??/*")).write_bytes(b"rotten")
    with pytest.raises(RootError, match="lacks 1 files that are damaged"):
        backup(root, tmp_path / "copy")
    assert (tmp_path / "copy/wandb.sqlite").exists() and len([*(tmp_path / "copy").glob("blobs/??/*")]) == 2


@pytest.mark.parametrize("blob_id", ["../../stolen", "/etc/hostname", "..", "a\\b"])
def test_a_backup_from_elsewhere_reads_and_writes_nothing_outside(
    root: Path, tmp_path: Path, blob_id: str
) -> None:
    (root.parent / "stolen").write_text("x")
    with closing(sqlite3.connect(root / "wandb.sqlite")) as records, records:
        columns = "id, name, uploaded_at, size, md5"
        md5 = base64.b64encode(hashlib.md5(b"x").digest()).decode()
        records.execute(f"INSERT INTO blob ({columns}) VALUES (?, 'f', 1, 1, ?)", (blob_id, md5))
    (tmp_path / "new").mkdir()
    with pytest.raises(RootError, match="which no server gives"):
        restore(root, tmp_path / "new" / "root")
    assert not (tmp_path / "new" / "stolen").exists() and not (tmp_path / "new" / "root").exists()


@pytest.mark.long
def test_a_copy_made_while_clients_write_is_served_with_all_that_it_has(
    server: Server, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    writers = [server.spawn(WRITE, name, str(end)) for name in ("one", "two")]
    made = "SELECT count(*) FROM artifact WHERE state = 'COMMITTED'"
    copies = []
    try:
        for number in range(3):
            wait_for(lambda number=number: sqlite(server, made) > 4 * number)
            copies.append(tmp_path / f"copy{number}")
            code, out = call(server, "wandb_tl.local", "backup", str(copies[-1]), "--root", str(server.root))
            assert code == 0, out
            code, out = call(server, "wandb_tl.local", "check", "--root", str(copies[-1]))
            assert code == 0 and "is in order" in out, out
        end.touch()
        logged = {}
        for name, writer in zip(("one", "two"), writers, strict=True):
            out, err = writer.communicate(timeout=240)
            assert writer.returncode == 0, err
            logged[name] = len(json.loads(out.strip().splitlines()[-1]))
    finally:
        for writer in writers:
            if writer.poll() is None:
                writer.kill()
    code, out = call(server, "wandb_tl.local", "check", "--root", str(server.root))
    assert code == 0 and "is in order" in out, out
    restored = Server(tmp_path)
    restore(copies[-1], restored.root)
    restored.start()
    try:
        assert restored.key == server.key
        read = restored.run(READ)
    finally:
        restored.stop()
    assert all(0 < versions <= logged[name] and rows > 0 for name, (versions, rows) in read.items()), read
    assert set(read) == {"one", "two"}
