"""Pages beside one another and beside other requests: a slow one is waited for by nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from app_in_process import running
from live_server import wait_for

from wandb_tl.local.pages import overview, site
from wandb_tl.local.pages.view import Page, PageRequest
from wandb_tl.local.records.database import READERS

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

# Asks for an address with a method.
Ask = Callable[..., requests.Response]


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    with running(tmp_path) as app:
        yield app.ask


@pytest.fixture
def slow(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[Future]]]:
    """Ask for so many pages of a project, which come when the test has ended."""
    begun, may_end = [], threading.Event()

    def project(request: PageRequest) -> Page:
        begun.append(request)
        may_end.wait(60)
        return Page("key.html", {})

    monkeypatch.setattr(overview, "project", project)
    with ThreadPoolExecutor(60) as threads:

        def start(count: int) -> list[Future]:
            asked = [threads.submit(ask, "GET", "/local/slow") for _ in range(count)]
            # Where pages wait for one another, only one begins.
            deadline = time.monotonic() + 10
            wait_for(lambda: len(begun) == min(count, READERS) or time.monotonic() > deadline)
            return asked

        yield start
        may_end.set()


def test_a_slow_page_does_not_hold_up_others(ask: Ask, slow: Callable[[int], list[Future]]) -> None:
    asked = slow(READERS - 1)
    assert ask("GET", "/").status_code == 200
    assert not any(page.done() for page in asked)


def test_pages_that_wait_for_slow_ones_leave_the_threads_to_clients(
    ask: Ask, slow: Callable[[int], list[Future]]
) -> None:
    """More of them than the 40 threads that requests have in common."""
    asked = slow(50)
    answer = ask("POST", "/files/local/p/none/file_stream", json={})
    assert answer.status_code == 404 and "no run" in answer.text
    assert not any(page.done() for page in asked)


def test_a_page_without_an_end_is_given_up(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "PAGE_SECONDS", 0.05)
    monkeypatch.setattr(overview, "project", lambda request: request.db.value(ENDLESS))
    answer = ask("GET", "/local/slow")
    assert answer.status_code == 503 and "This page took longer than 0.05 s" in answer.text
    assert ask("GET", "/").status_code == 200
