from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests of one module share."""
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0
