"""The watch: silent runs are closed, and what dead clients left goes, though nobody asks."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from live_server import wait_for
from stream_lab import post

from wandb_tl.local import watch
from wandb_tl.local.artifacts import blobs, versions
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.records import database as databases
from wandb_tl.local.records import run_states
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project


def test_the_watch_closes_silent_runs_and_clears_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own clock and thread; all of its silences are shortened."""
    monkeypatch.setattr(watch, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(watch, "CLEAN_SECONDS", 0.2)
    monkeypatch.setattr(run_states, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(versions, "ABANDONED_SECONDS", 0.5)
    monkeypatch.setattr(blobs, "NEVER_SENT_SECONDS", 0.5)
    monkeypatch.setattr(databases, "AWAY_SECONDS", 0.3)
    database, files = Database(tmp_path / "wandb.sqlite"), Blobs(tmp_path / "blobs", "k" * 64)
    with database.transaction() as db:
        project = ensure_project(db, None, "p")
        columns = {"name": "r", "display_name": "r", "state": "running", "created_at": time.time()}
        db.insert("run", project_id=project["id"], started_at=time.time(), **columns)
        post(db)
        left = blobs.new_blob(db, "left.bin", permanent=True)
        db.run("UPDATE blob SET uploaded_at = ?, md5 = 'x', size = 1 WHERE id = ?", time.time(), left)
        for name in ("announced.txt", "sent.txt"):
            announced = blobs.new_blob(db, name)
            db.insert("file", run_id=1, name=name, blob_id=announced)
        db.run("UPDATE blob SET uploaded_at = ?, md5 = 'x', size = 1 WHERE name = 'sent.txt'", time.time())
    files.path(left).parent.mkdir()
    files.path(left).write_bytes(b"x")

    def state() -> str:
        with database.transaction() as db:
            return db.value("SELECT state FROM run")

    def names() -> list[str]:
        with database.transaction() as db:
            query = "SELECT blob.name FROM blob LEFT JOIN file ON file.blob_id = blob.id"
            return [row["name"] for row in db.all(query)]

    assert state() == "running" and sorted(names()) == ["announced.txt", "left.bin", "sent.txt"]
    over = threading.Event()
    thread = threading.Thread(target=watch.keep_watch, args=(database, files, over))
    thread.start()
    try:
        wait_for(lambda: state() == "crashed")
        wait_for(lambda: not files.path(left).exists())
        wait_for(lambda: names() == ["sent.txt"])
    finally:
        over.set()
        thread.join()
        database.close()


def test_a_death_is_noticed_within_a_minute() -> None:
    assert run_states.SILENCE_SECONDS + watch.WATCH_SECONDS <= 60
    assert watch.WATCH_SECONDS < databases.AWAY_SECONDS
