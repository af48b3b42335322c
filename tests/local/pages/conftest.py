from __future__ import annotations

from collections.abc import Iterator

import playwright.sync_api as playwright
import pytest
from browser_tab import CHROMIUM, Tab
from gallery import log_everything
from live_server import Server

from wandb_tl.local.access import Session


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        # Chromium's own sandbox cannot be had by root, as whom CI runs.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(server: Server, browser: playwright.Browser) -> Iterator[Tab]:
    yield from logged_in(server, browser)


def logged_in(server: Server, browser: playwright.Browser) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    tab = Tab(server.url, context.new_page())
    tab.open(Session(server.key).link(server.url, "/"))
    yield tab
    context.close()
    assert not tab.problems


@pytest.fixture(scope="session")
def gallery_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the project "gallery", which one client process has logged."""
    running = Server(tmp_path_factory.mktemp("gallery"))
    running.start()
    log_everything(running)
    yield running
    running.stop()


@pytest.fixture
def gallery(gallery_server: Server, browser: playwright.Browser) -> Iterator[Tab]:
    """A logged-in browser on that server."""
    yield from logged_in(gallery_server, browser)
