"""The folder of files, and what the disk is told."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest
from version_lab import Lab

from wandb_tl.local.artifacts import uploads
from wandb_tl.local.artifacts.blobs import new_blob


async def chunks() -> AsyncIterator[bytes]:
    yield b"a"
    yield b"b"


def test_a_file_and_its_folders_are_on_the_disk_before_it_counts(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    folder = lab.blobs.folder

    async def receive(blob_id: str) -> None:
        async with lab.blobs.receive(chunks()) as upload:
            uploads.accept(lab.db, lab.blobs, blob_id, upload, time.time())

    for name, send in (
        ("a", lambda blob_id: lab.upload(blob_id, b"ab")),
        ("b", lambda blob_id: asyncio.run(receive(blob_id))),
    ):
        blob_id = new_blob(lab.db, name)
        send(blob_id)
        assert lab.blobs.read(blob_id) == b"ab" and lab.db.blob(blob_id)["size"] == 2
        places = (lab.blobs.path(blob_id), folder, folder / blob_id[:2])
        assert synced == [place.stat().st_ino for place in places]
        synced.clear()
    lab.upload(blob_id, b"cd")
    assert synced[1:] == [(folder / blob_id[:2]).stat().st_ino] and lab.blobs.read(blob_id) == b"cd"
    assert list((folder / "incoming").iterdir()) == []


def test_files_that_nothing_names_are_deleted(lab: Lab) -> None:
    kept = lab.make("1", {"a": "1"})
    with lab.blobs.write(b"x") as upload:
        lab.blobs.move_in(upload.file, "00left-over")
    lab.blobs.delete_unnamed(lab.db)
    left = {path.name for path in lab.blobs.folder.glob("??/*")}
    assert left == {row["id"] for row in lab.db.all("SELECT id FROM blob")} and kept["size"] == 1
    assert len(left) == 2
