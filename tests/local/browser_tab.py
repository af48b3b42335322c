"""A page of a real browser, and what goes wrong on it."""

from __future__ import annotations

import os
import shutil

import playwright.sync_api as playwright
import pytest
from live_server import wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    not CHROMIUM and not os.environ.get("CI"), reason="no Chromium is installed (apt install chromium)"
)


class Tab:
    """A page of a logged-in browser that notes what goes wrong on it. url: of the server, as it sees it."""

    def __init__(self, url: str, page: playwright.Page) -> None:
        self.url, self.page, self.problems = url, page, []
        page.on("console", lambda said: said.type in ("error", "warning") and self.problems.append(said.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self.note)
        page.on("response", lambda answer: answer.status >= 400 and self.problems.append(answer.url))

    def note(self, request: playwright.Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.problems.append(f"asks another host: {request.url}")

    def open(self, address: str) -> playwright.Page:
        self.page.goto(address if "://" in address else self.url + address)
        return self.page

    def charts(self, kind: str) -> list[int]:
        """How many lines, points or bars each chart of a kind shows, once all have been drawn."""
        drawn = self.page.locator(f"[data-chart={kind}][data-drawn]:visible")
        for chart in self.page.locator(f"[data-chart={kind}]:visible").all():
            chart.scroll_into_view_if_needed()
            wait_for(lambda chart=chart: chart.get_attribute("data-drawn"))
            assert chart.locator(".main-svg").count() > 0
        return [int(chart.get_attribute("data-drawn")) for chart in drawn.all()]
