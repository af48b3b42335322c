"""A short, repeatable part of what `python -m tests.fuzz` searches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fuzz.properties import PROPERTIES
from fuzz.served import Served
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Two seconds each on an idle core.
EXAMPLES = {"run": 12, "stream": 50, "sweep": 25, "view": 25, "artifact": 25, "document": 80, "request": 80}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.end()


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_server_answers_whatever_arrives(name: str, served: Served) -> None:
    @settings(
        max_examples=EXAMPLES[name],
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        PROPERTIES[name](served, data)

    check()


def test_the_wait_of_a_heartbeat_is_measured(served: Served) -> None:
    app = served.app

    async def slow(scope: dict, receive: Callable, send: Callable) -> None:
        if scope["path"] == "/slow":
            time.sleep(1)
        await app(scope, receive, send)

    served.app = slow
    served.page("slow")
    assert served.longest_wait[0] > 0.9 and "/slow" in served.longest_wait[1]
