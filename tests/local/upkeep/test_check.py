"""A folder with every kind of damage: each is found, repaired without loss, and found no more."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from version_lab import Lab, md5

from wandb_tl.local import root as roots
from wandb_tl.local.artifacts.blobs import Blobs, new_blob
from wandb_tl.local.errors import ExitCode, RootError, RootServedError
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.upkeep.check import check


def fill(database: Database, root: Path) -> None:
    """Two versions with two files each, one of them shared, and a run that has ended with a file."""
    with database.transaction() as db:
        lab = Lab(db, Blobs(root / "blobs", "k"))
        lab.make("1", {"a": "a", "shared": "s"})
        lab.make("2", {"b": "b", "shared": "s"}, digestAlgorithm="MANIFEST_XXH128")
        project = ensure_project(db, None, "p")["id"]
        names = {"name": "r", "display_name": "r"}
        run = db.insert("run", project_id=project, state="finished", created_at=0, **names)
        blob_id = new_blob(db, "f.txt")
        db.insert("file", run_id=run, name="f.txt", blob_id=blob_id)
        lab.upload(blob_id, b"file")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with closing(Database(tmp_path / "wandb.sqlite")) as database:
        fill(database, tmp_path)
    return tmp_path


def sql(root: Path, query: str) -> Any:
    """Execute a query; returns the first value."""
    with closing(sqlite3.connect(root / "wandb.sqlite")) as records, records:
        row = records.execute(query).fetchone()
    return row and row[0]


def file_of(root: Path, condition: str) -> Path:
    blob_id = sql(root, f"SELECT id FROM blob WHERE {condition}")
    return root / "blobs" / blob_id[:2] / blob_id


def says(root: Path, capsys: pytest.CaptureFixture[str], repair: bool = False) -> tuple[ExitCode, list[str]]:
    code = check(root, repair)
    return code, capsys.readouterr().out.splitlines()


SHARED, FILE = f"md5 = '{md5(b's')}'", "name = 'f.txt'"
LISTING = "id = (SELECT blob_id FROM manifest WHERE artifact_id = 2)"
# What is damaged, what is said of it, and what is still wrong after the repair: bytes that are lost.
DAMAGES: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "content": (
        lambda root: file_of(root, SHARED).write_bytes(b"x"),
        "is damaged: f of version p/c:v0, version p/c:v1",
        ["version p/c:v0 lacks the bytes of shared", "version p/c:v1 lacks the bytes of shared"],
    ),
    "missing": (
        lambda root: file_of(root, f"md5 = '{md5(b'a')}'").unlink(),
        "is missing: f of version p/c:v0",
        ["version p/c:v0 lacks the bytes of a"],
    ),
    "run": (
        lambda root: file_of(root, FILE).write_bytes(b"newer"),
        "other bytes than recorded: f.txt of run",
        [],
    ),
    "listing": (
        lambda root: file_of(root, LISTING).write_bytes(b"{}"),
        "is damaged: m of version p/c:v1",
        [],
    ),
    "claim": (
        lambda root: sql(root, f"UPDATE blob SET digest = 'claimed' WHERE {SHARED}"),
        "has another digest than claimed",
        [],
    ),
    "digest": (
        lambda root: sql(root, "UPDATE artifact SET digest = 'x', size = 9 WHERE id = 2"),
        "the records of version p/c:v1 differ from its manifest",
        [],
    ),
    "entry": (
        lambda root: sql(root, "DELETE FROM manifest_entry WHERE path = 'b'"),
        "the records of version p/c:v1 differ from its manifest",
        [],
    ),
    "endless": (
        lambda root: sql(root, "UPDATE run SET state = 'running', heartbeat_at = 5"),
        "run p/r is running, and was not heard of for a day",
        [],
    ),
    "incoming": (lambda root: (root / "blobs/incoming/x").write_bytes(b"x"), "incoming/x belongs to", []),
    "unnamed": (
        lambda root: (root / "blobs/00").mkdir() or (root / "blobs/00/00").touch(),
        "00 belongs to",
        [],
    ),
    "draft": (
        lambda root: [(root / name).touch() for name in ("key.77", "key.pem")],
        "key.77 belongs to nothing",
        [],
    ),
    "row": (
        lambda root: sql(root, "INSERT INTO blob (id, name) VALUES ('ab', 'ab')"),
        "1 recorded files",
        [],
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_found_and_repaired(root: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    damage, finding, lost = DAMAGES[what]
    assert says(root, capsys) == (ExitCode.OK, [f"{root} is in order"])
    damage(root)
    before = {path.read_bytes() for path in root.glob("blobs/??/*") if path.name != "00"}
    code, lines = says(root, capsys)
    assert code == ExitCode.FAILED and finding in lines[0], lines
    assert lines[-1].startswith(f"{len(lines) - 1} found; stop the server")
    code, lines = says(root, capsys, repair=True)
    assert finding in lines[0] and ": " in lines[0].partition(finding)[2] + ": ", lines
    assert (code == ExitCode.FAILED) == bool(lost) and set(lost) <= set(lines), lines
    # Nothing that a run or a version had is deleted.
    kept = [path for place in ("blobs/??/*", "damaged/*") for path in root.glob(place)]
    assert before <= {path.read_bytes() for path in kept}
    code, lines = says(root, capsys)
    assert lines[:-1] == lost if lost else lines == [f"{root} is in order"], lines


def test_lost_bytes_come_back_when_they_are_logged_again(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file_of(root, SHARED).unlink()
    assert says(root, capsys, repair=True)[0] == ExitCode.FAILED
    with closing(Database(root / "wandb.sqlite")) as database, database.transaction() as db:
        lab = Lab(db, Blobs(root / "blobs", "k"))
        # The client is not told that the server has this version: it uploads it.
        again = lab.make(db.value("SELECT digest FROM artifact WHERE id = 1"), {"a": "a", "shared": "s"})
        assert again["version_index"] == 2
    code, lines = says(root, capsys, repair=True)
    assert code == ExitCode.OK and all("the same bytes" in line for line in lines) and len(lines) == 2
    assert says(root, capsys) == (ExitCode.OK, [f"{root} is in order"])


def test_a_folder_in_use_is_not_repaired_and_uploads_on_their_way_are_no_litter(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with roots.lock(root):
        roots.announce(root, "http://127.0.0.1:9", "127.0.0.1")
        (root / "blobs/incoming/x").touch()
        assert says(root, capsys) == (ExitCode.OK, [f"{root} is in order"])
        with pytest.raises(RootServedError, match="another server serves"):
            check(root, repair=True)
    with pytest.raises(RootError, match="there are no records"):
        check(root / "blobs", repair=True)
    pages = (root / "wandb.sqlite").read_bytes()
    (root / "wandb.sqlite").write_bytes(pages[:4096] + b"x" * (len(pages) - 4096))
    with pytest.raises(RootError, match="cannot check"):
        check(root, repair=False)
