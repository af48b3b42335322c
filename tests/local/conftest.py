from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import Server
from version_lab import Lab

from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.records.database import Database


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests of one module share."""
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    database = Database(tmp_path / "wandb.sqlite")
    with database.transaction() as db:
        yield Lab(db, Blobs(tmp_path / "blobs", "k"))
    database.close()
