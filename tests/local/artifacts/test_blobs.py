"""The folder of files, and what the disk is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
from version_lab import Lab


async def upload() -> AsyncIterator[bytes]:
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
    for blob_id, write in (
        ("a1", lambda: lab.blobs.write("a1", b"ab")),
        ("b1", lambda: asyncio.run(lab.blobs.receive("b1", upload(), None))),
    ):
        assert write()[0] == 2 and lab.blobs.read(blob_id) == b"ab"
        places = (lab.blobs.path(blob_id), folder, folder / blob_id[:2])
        assert synced == [place.stat().st_ino for place in places]
        synced.clear()
    lab.blobs.write("a1", b"cd")
    assert synced[1:] == [(folder / "a1").stat().st_ino]


def test_files_that_nothing_names_are_deleted(lab: Lab) -> None:
    kept = lab.make("1", {"a": "1"})
    lab.blobs.write("00left-over", b"x")
    lab.blobs.delete_unnamed(lab.db)
    left = {path.name for path in lab.blobs.folder.glob("??/*")}
    assert left == {row["id"] for row in lab.db.all("SELECT id FROM blob")} and kept["size"] == 1
    assert len(left) == 2
