"""HTML that a run logged, in a real browser: what it loads at its own address and on the page of its run."""

from __future__ import annotations

import base64
import io
import socket
import threading
from collections.abc import Iterator

import playwright.sync_api as playwright
import pytest
from browser_tab import needs_chromium
from live_server import Server, wait_for
from PIL import Image
from run_writer import write_run

from wandb_tl.local.access import Session

pytestmark = needs_chromium

PAGE = "media/html/page.html"
UPLOAD = """mutation ($file: String!) { createRunFiles(input:
    {projectName: "logged", runName: "r", files: [$file]}) { files { uploadUrl } } }"""
FILES = """{ project(name: "logged", entityName: "local") { run(name: "r") {
    files { edges { node { name directUrl } } } } } }"""
# What loads without a script, and what a script can ask for.
LOADS = """<link rel=stylesheet href="{other}/a"><link rel=preload as=image href="{other}/b">
    <style>@import "{other}/c"; @font-face {{ font-family: far; src: url({other}/d) }}
    body {{ background: url({other}/e); font-family: far }} p {{ color: rgb(0, 128, 0) }}</style>
    <p style="margin-top: 3px">read</p><img src="{other}/f"><img id=own src="data:image/png;base64,{png}">
    <video src="{other}/g" poster="{other}/h"></video><object data="{other}/i"></object>
    <svg><image href="{other}/j"/></svg><script src="{other}/k"></script>"""
SCRIPT = """<script>new Image().src = "{other}/l"; navigator.sendBeacon("{other}/m");
    fetch("{other}/n").catch(() => document.querySelector("p").append(" and scripted"))</script>"""


class OtherHost:
    """Another server on this machine, which counts its connections."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.count = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.count += 1
            connection.close()


@pytest.fixture
def other() -> Iterator[OtherHost]:
    host = OtherHost()
    yield host
    host.listener.close()


@pytest.fixture
def page(server: Server, browser: playwright.Browser) -> Iterator[playwright.Page]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(Session(server.key).link(server.url, "/"))
    yield page
    context.close()


def log_html(server: Server, other: OtherHost) -> str:
    """Log HTML that loads all it can from another host; the file's own address."""
    png = io.BytesIO()
    Image.new("RGB", (32, 16)).save(png, "png")
    html = (LOADS + SCRIPT).format(other=other.url, png=base64.b64encode(png.getvalue()).decode())
    write_run(server, "logged", "r", {}, [{"epoch": 1}])
    [file] = server.query(UPLOAD, file=PAGE)["createRunFiles"]["files"]
    assert server.request(file["uploadUrl"], html.encode(), key=None, method="PUT")[0] == 200
    edges = server.query(FILES)["project"]["run"]["files"]["edges"]
    return next(edge["node"]["directUrl"] for edge in edges if edge["node"]["name"] == PAGE)


def looks_as_logged(frame: playwright.Page | playwright.FrameLocator) -> None:
    text = frame.locator("p")
    assert text.evaluate("p => [getComputedStyle(p).color, getComputedStyle(p).marginTop]") == [
        "rgb(0, 128, 0)",
        "3px",
    ]
    assert frame.locator("#own").evaluate("image => image.complete && image.naturalWidth") == 32


def test_an_opened_file_asks_no_other_host(server: Server, other: OtherHost, page: playwright.Page) -> None:
    address = log_html(server, other)
    page.goto(address)
    looks_as_logged(page)
    page.wait_for_timeout(300)
    assert page.locator("p").inner_text() == "read" and other.count == 0
    # The other host can be reached from this browser.
    page.goto("about:blank")
    page.evaluate("address => { new Image().src = address }", other.url)
    wait_for(lambda: other.count > 0)


def test_in_a_frame_scripts_run_and_ask_no_other_host(
    server: Server, other: OtherHost, page: playwright.Page
) -> None:
    log_html(server, other)
    page.goto(f"{server.url}/local/logged/runs/r")
    # As the page of a run shows logged HTML.
    page.evaluate(
        """source => { const frame = document.createElement("iframe");
        frame.setAttribute("sandbox", "allow-scripts"); frame.src = source; document.body.append(frame); }""",
        f"?html={PAGE}",
    )
    frame = page.frame_locator("iframe")
    wait_for(lambda: frame.locator("p").inner_text() == "read and scripted")
    looks_as_logged(frame)
    page.wait_for_timeout(300)
    assert other.count == 0
