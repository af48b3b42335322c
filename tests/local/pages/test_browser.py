"""The pages in a real browser: every link that the client prints, live runs, and nothing from elsewhere."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import playwright.sync_api as playwright
import pytest
from browser_tab import Tab, needs_chromium
from live_server import Server, wait_for
from prefix_proxy import PREFIX, proxy_of
from run_writer import write_run

from wandb_tl.local.access import Session
from wandb_tl.local.server import leading_file

pytestmark = needs_chromium

SCRIPT = """
import json, numpy as np, wandb
from PIL import Image

def picture(i):
    return wandb.Image(Image.fromarray(np.full((24, 32, 3), 40 * i, dtype="uint8")), caption=f"epoch {i}")

config = {"lr": 0.1, "nested": {"depth": 3}}
with wandb.init(project="lab", name="<i>odd</i> & name", config=config, notes="said <b>so</b>") as run:
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")
    for epoch in (1, 2, 3):
        print(f"epoch {epoch} of 3")
        loss = float("nan") if epoch == 2 else 1 / epoch
        row = {"epoch": epoch, "test/accuracy": 0.5 + epoch / 10, "test/loss": loss}
        run.log(row | {"picture": picture(epoch), "weights": wandb.Histogram([1, 2, 2, epoch])})
    rows = [[picture(1), "shirt", 0.75], [picture(2), "<b>bag</b>", 0.5]]
    run.log({"epoch": 3, "predictions": wandb.Table(columns=["image", "label", "p"], data=rows)})
    names = ["shirt", "bag"]
    matrix = wandb.plot.confusion_matrix(y_true=[0, 1, 1, 1], preds=[0, 1, 0, 1], class_names=names)
    run.log({"epoch": 3, "matrix": matrix})
    squares = wandb.Table(data=[[i, i * i] for i in range(5)], columns=["x", "y"])
    run.log({"epoch": 3, "squares": wandb.plot.line(squares, "x", "y")})
    html = "<p id=inside>hello</p><script>document.body.append('scripted')</script>"
    run.log({"epoch": 3, "page": wandb.Html(html)})
    artifact = wandb.Artifact("weights-of-it", "model", metadata={"acc": 0.8})
    with artifact.new_file("w.txt") as file:
        file.write("w")
    run.log_artifact(artifact, aliases=["best"]).wait()
    print(json.dumps({"id": run.id, "artifact": artifact.url}))
"""

SWEEP = """
program: train.py
project: lab
method: grid
metric: {name: acc, goal: maximize}
parameters:
  lr: {values: [0.001, 0.1]}
  opt: {values: [Adam, SGD]}
command: ["${env}", python, "${program}", "${args}"]
"""
TRAIN = """
import argparse, wandb
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--opt")
options = parser.parse_args()
with wandb.init() as run:
    for step in range(3):
        run.log({"acc": options.lr + (options.opt == "Adam") + step / 10})
    right = [0, 1, 1] if options.opt == "Adam" else [1, 1, 0]
    run.log({"matrix": wandb.plot.confusion_matrix(y_true=[0, 1, 1], preds=right, class_names=["a", "b"])})
"""


@pytest.fixture(scope="module")
def logged(server: Server) -> dict[str, str]:
    """A finished run of SCRIPT: its id, and the links that the client printed."""
    folder = server.folder / "client"
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=server.env | {"WANDB_SILENT": "false"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    out, err = done.stdout, done.stderr
    ids = json.loads(out.strip().splitlines()[-1])
    links = re.findall(rf"{server.url}[\w/-]*", re.sub(r"\x1b\[[0-9;]*m", "", err))
    return ids | {"links": sorted(set(links))}


@pytest.mark.slow
def test_every_link_that_the_client_prints(tab: Tab, server: Server, logged: dict) -> None:
    run = f"/local/lab/runs/{logged['id']}"
    assert {urlsplit(link).path for link in logged["links"]} - {""} == {"/local/lab", run}
    headings = {"": "All projects", "/local/lab": "lab", run: "<i>odd</i> & name"}
    for link, heading in (
        *((link, headings[urlsplit(link).path]) for link in logged["links"]),
        (logged["artifact"], "weights-of-it:v0"),
        (f"{server.url}/authorize", "Your API key"),
        ("/local/lab/artifacts", "Artifacts"),
        ("/local", "local"),
        (f"/local/lab/{logged['id']}", "<i>odd</i> & name"),
    ):
        page = tab.open(link)
        assert page.locator("h1").inner_text() == heading, link


def test_run_page(tab: Tab, logged: dict) -> None:
    page = tab.open(f"/local/lab/runs/{logged['id']}")
    assert page.locator("#state").inner_text().startswith("finished")
    assert page.locator(".notes").inner_text() == "said <b>so</b>"
    assert tab.charts("curves") == [1, 1]
    assert tab.charts("plot") == [1] and tab.charts("bars") == [64]
    picture = page.locator("#strip-picture")
    assert picture.locator("figcaption:visible").all_inner_texts() == ["epoch 3"]
    page.get_by_role("slider", name="epoch of all media").fill("0")
    wait_for(lambda: picture.locator("figcaption:visible").all_inner_texts() == ["epoch 1"])
    assert picture.locator("img:visible").evaluate("image => image.complete && image.naturalWidth") == 32
    page.get_by_role("slider", name="epoch of all media").fill("2")
    cells = page.locator("#strip-predictions tbody tr").nth(1)
    assert cells.inner_text().split() == ["epoch", "2", "<b>bag</b>", "0.5"]
    assert cells.locator("img").evaluate("image => image.naturalWidth") == 32
    matrix = page.locator("#strip-matrix_table tbody tr").all_inner_texts()
    assert [row.split() for row in matrix] == [["shirt", "1"], ["bag", "1", "2"]]
    frame = page.frame_locator("#strip-page iframe")
    assert frame.locator("#inside").inner_text() == "hello"
    assert "scripted" in frame.locator("body").inner_text()
    assert "epoch 3 of 3" in page.locator(".log").inner_text()
    assert "nested.depth" in page.locator("#values").inner_text()
    assert f"WANDB_RUN_ID={logged['id']} WANDB_RESUME=allow" in page.locator("#repeat").inner_text()
    page.locator("#files summary").click()
    row = page.get_by_role("row", name="output.log")
    with page.expect_download() as download:
        row.get_by_role("link", name="download").click()
    assert "epoch 1 of 3" in download.value.path().read_text()
    with page.context.expect_page() as opened:
        row.get_by_role("link", name="output.log").click()
    assert "epoch 1 of 3" in opened.value.locator("body").inner_text()


@pytest.mark.slow
def test_a_run_is_followed_while_it_trains(tab: Tab, server: Server) -> None:
    script = """
        import sys, wandb
        with wandb.init(project="live", id="following") as run:
            for line in sys.stdin:
                run.log({"loss": 1 / float(line)})
                print("logged", line.strip(), flush=True)
                open("logged", "w").close()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", "import textwrap, sys; exec(textwrap.dedent(sys.argv[1]))", script],
        cwd=server.folder / "client",
        env=server.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        process.stdin.write("1\n")
        process.stdin.flush()
        wait_for((server.folder / "client" / "logged").exists)
        page = tab.open("/local/live/runs/following")
        assert page.locator("#state .state").inner_text() == "running"
        wait_for(lambda: tab.charts("curves") == [1])
        count = "document.querySelector('[data-chart=curves] .canvas').data[0].x.length"
        assert page.evaluate(count) == 1
        page.evaluate("window.stayed = true")
        process.stdin.write("2\n3\n")
        process.stdin.close()
        wait_for(lambda: page.evaluate(count) == 3)
        wait_for(lambda: page.locator("#state .state").inner_text() == "finished")
        assert page.evaluate("window.stayed") and "logged 3" in page.locator(".log").inner_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_sweep_page(tab: Tab, server: Server) -> None:
    folder = server.folder / "client"
    (folder / "sweep.yaml").write_text(SWEEP)
    (folder / "train.py").write_text(TRAIN)

    env = server.env | {"WANDB_SILENT": "false"}

    def wandb(*arguments: str) -> str:
        command = [sys.executable, "-m", "wandb", *arguments]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)

    made = wandb("sweep", "sweep.yaml")
    link = re.search(rf"{server.url}/local/lab/sweeps/\w+", made)[0]
    page = tab.open(link)
    assert page.locator("#state .state").inner_text() == "pending"
    page.get_by_role("button", name="Pause").click()
    wait_for(lambda: page.locator("#state .state").inner_text() == "paused")
    page.get_by_role("button", name="Resume").click()
    wait_for(lambda: page.locator("#state .state").inner_text() == "running")
    page.evaluate("window.stayed = true")
    agent = [sys.executable, "-m", "wandb", "agent", f"local/lab/{link.rpartition('/')[2]}"]
    agents = [subprocess.Popen(agent, cwd=folder, env=server.env) for _ in range(2)]
    assert [agent.wait(timeout=240) for agent in agents] == [0, 0]
    wait_for(lambda: page.locator("#state .state").inner_text() == "finished")
    assert page.evaluate("window.stayed")
    assert "4 of 4 runs ended" in page.locator("#state").inner_text()
    assert tab.charts("parallel") == [4] and tab.charts("curves") == [4] and tab.charts("strip") == [4, 4]
    assert "with 1.3" in page.locator(".best").inner_text()
    best, worst = page.locator("#matrices .confusion").all()
    assert [row.split() for row in best.locator("tbody tr").all_inner_texts()] == [["a", "1"], ["b", "2"]]
    assert [row.split() for row in worst.locator("tbody tr").all_inner_texts()] == [
        ["a", "1"],
        ["b", "1", "1"],
    ]
    rows = page.locator(".runs tbody tr")
    values = [row.locator("td").nth(1).inner_text() for row in rows.all()]
    assert values == ["1.3", "1.201", "0.3", "0.201"]
    page.get_by_role("searchbox", name="Filter runs").fill("opt=SGD")
    wait_for(lambda: rows.count() == 2)


@pytest.mark.slow
def test_project_page_sorts_filters_and_compares(tab: Tab, server: Server) -> None:
    server.run("""
        import wandb
        for i in range(3):
            with wandb.init(project="many", name=f"run{i}", config={"lr": 10.0 ** -i, "same": 1}) as run:
                for step in range(2):
                    run.log({"loss": i + step, "only" + str(i): step})
        print(1)
    """)
    page = tab.open("/local/many")
    names = page.locator(".runs tbody th a")
    assert names.all_inner_texts() == ["run2", "run1", "run0"]
    assert "same" not in page.locator(".runs thead").inner_text()
    page.evaluate("window.stayed = true")
    page.get_by_role("link", name="loss").first.click()
    wait_for(lambda: page.locator("[aria-sort=descending]").count() == 1)
    page.get_by_role("link", name="loss").first.click()
    wait_for(lambda: names.all_inner_texts() == ["run0", "run1", "run2"])
    assert "sort=%2Bsummary.loss" in page.url
    page.get_by_role("checkbox", name="Compare run1").check()
    page.get_by_role("checkbox", name="Compare run2").check()
    wait_for(lambda: "the 2 ticked runs" in page.locator("#curves h2").inner_text())
    labels = page.locator("#curves figcaption").all_inner_texts()
    assert labels == ["loss", "only1", "only2"] and tab.charts("curves") == [2, 1, 1]
    assert page.evaluate("document.activeElement.value") in page.url
    page.get_by_role("searchbox", name="Filter runs").fill("lr < 0.05")
    # Ticked runs stay in sight.
    wait_for(lambda: names.all_inner_texts() == ["run1", "run2"])
    assert "the 2 ticked runs" in page.locator("#curves h2").inner_text() and "sort=" in page.url
    assert page.evaluate("window.stayed")
    page.go_back()
    wait_for(lambda: names.count() == 3)
    assert page.get_by_role("searchbox", name="Filter runs").input_value() == ""
    page.get_by_role("searchbox", name="Filter runs").fill("nobody")
    page.get_by_text("No run matches").wait_for()
    assert names.all_inner_texts() == ["run1", "run2"]


HOSTILE = """
import json, wandb
attack = "<img src=x onerror='document.title=1'><iframe srcdoc='<script src=/blobs/x></script>'></iframe>"
with wandb.init(project="hostile", name=attack, notes=attack, tags=[attack[:60]], group=attack) as run:
    run.config.update({attack: attack, "odd": float("nan"), "large": 10**400})
    run.log({"loss": 1, attack: 2, 'we"ird': wandb.Histogram([1, 2]), "_runtime": float("nan")})
    points = wandb.Table(data=[[attack, attack], ["b", 1], ["c", float("inf")]],
                         columns=["x", "y"], allow_mixed_types=True)
    run.log({"plot": wandb.plot.line(points, "x", "y", title=attack)})
    run.log({"bar": wandb.plot.bar(points, "x", "y")})
    run.log({"values": wandb.plot.histogram(wandb.Table(data=[[1e308], [-1e308]], columns=["v"]), "v")})
    counts = wandb.Table(data=[["a", "b", "many"]], columns=["Actual", "Predicted", "nPredictions"])
    run.log({"counts": counts, "cells": wandb.Table(data=[[attack]], columns=[attack])})
    run.summary.update({"_runtime": float("nan"), "large": 10**400, "inf": float("inf")})
    with open("evil.js", "w") as file:
        file.write("document.title = 'owned'")
    run.save("evil.js")
print(json.dumps(run.id))
"""


@pytest.mark.slow
def test_what_a_run_logged_is_shown_and_never_obeyed(tab: Tab, server: Server) -> None:
    run = server.run(HOSTILE)
    for address in ("/local/hostile", f"/local/hostile/runs/{run}", "/local/hostile?sort=-summary.large"):
        page = tab.open(address)
        assert page.locator("img[src=x]").count() == 0 and "<img" in page.locator("main").inner_text()
        tab.charts("curves")
        tab.charts("plot")
        tab.charts("bars")
        for chart in page.locator("[data-chart]:visible").all():
            box = chart.bounding_box()
            for share in (0.2, 0.5, 0.9):
                chart.hover(position={"x": box["width"] * share, "y": box["height"] * 0.5})
        assert page.locator("img[src=x], iframe[srcdoc]").count() == 0 and page.title() not in ("1", "owned")
    page = tab.open(f"/local/hostile/runs/{run}")
    assert page.locator("#strips h3", has_text='we"ird').count() == 1
    page.locator("#files summary").click()
    script = page.get_by_role("link", name="evil.js").evaluate("link => link.href")
    answer = page.request.get(script)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.slow
def test_a_sweeps_metric_may_be_kept_as_its_least_value(tab: Tab, server: Server) -> None:
    sweep = server.run("""
        import json, wandb
        config = {"method": "grid", "metric": {"name": "loss", "goal": "minimize"},
                  "parameters": {"lr": {"values": [1, 2]}}}
        sweep = wandb.sweep(config, project="least")
        def train():
            with wandb.init() as run:
                run.define_metric("loss", summary="min")
                for step in range(2):
                    run.log({"loss": run.config.lr + step})
        wandb.agent(sweep, function=train, project="least")
        print(json.dumps(sweep))
    """)
    page = tab.open(f"/local/least/{sweep}")
    assert "by loss.min (minimize)" in page.locator(".best").inner_text()
    assert tab.charts("parallel") == [2] and tab.charts("curves") == [2] and tab.charts("strip") == [2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_width_in_light_and_dark(tab: Tab, logged: dict, scheme: str) -> None:
    tab.page.set_viewport_size({"width": 375, "height": 700})
    tab.page.emulate_media(color_scheme=scheme)
    for address in (
        "/",
        "/local/lab",
        f"/local/lab/runs/{logged['id']}",
        "/local/lab/artifacts",
        logged["artifact"],
    ):
        page = tab.open(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, address
        shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", shade))) < 200) == (scheme == "dark")


@pytest.mark.slow
def test_names_of_all_kinds_have_pages(tab: Tab, server: Server) -> None:
    address = server.run("""
        import json, wandb
        with wandb.init(project="p.q-ü", entity="my-team", id="r_1", name="a/b?c#d%") as run:
            run.log({"x/y": 1, "ü.z": 2})
        with wandb.init(project="p", entity="my/team") as run:
            print(json.dumps(run.url))
    """)
    assert "/my/team/p/runs/" in address
    assert tab.open(address).locator(".crumbs a").all_inner_texts() == ["wandb_tl", "my/team", "p"]
    page = tab.open("/")
    page.get_by_role("link", name="my-team / p.q-ü").click()
    page.get_by_role("link", name="a/b?c#d%").click()
    assert page.locator("h1").inner_text() == "a/b?c#d%"
    assert len(tab.charts("curves")) == 2


@pytest.mark.slow
def test_the_pages_work_below_the_prefix_of_a_proxy(
    server: Server, browser: playwright.Browser, logged: dict
) -> None:
    made = server.run("""
        import json, wandb
        definition = {"method": "grid", "parameters": {"a": {"values": [1]}}}
        print(json.dumps(wandb.sweep(definition, project="lab")))
    """)
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    with proxy_of(server.url) as url:
        tab = Tab(url, context.new_page())
        page = tab.open(Session(server.key).link(url, f"/local/lab/sweeps/{made.split()[-1]}"))
        assert [cookie["path"] for cookie in context.cookies()] == [PREFIX]
        page.get_by_role("button", name="Pause").click()
        wait_for(lambda: page.locator("#state .state").inner_text() == "paused")
        page.get_by_role("link", name="wandb_tl").click()
        page.get_by_role("link", name="local / lab").click()
        assert page.url == f"{url}/local/lab" and tab.charts("curves")
        page.get_by_role("searchbox", name="Filter runs").fill("nothing has this name")
        page.get_by_text("No run matches").wait_for()
        page.go_back()
        page.get_by_role("link", name="<i>odd</i>").first.click()
        assert page.url == f"{url}/local/lab/runs/{logged['id']}"
        image = page.locator("#strip-picture img:visible")
        assert image.evaluate("image => image.complete && image.naturalWidth") == 32
        assert tab.charts("curves") == [1, 1]
        page.locator("#files summary").click()
        with page.expect_download() as download:
            page.get_by_role("row", name="output.log").get_by_role("link", name="download").click()
        assert "epoch 1 of 3" in download.value.path().read_text()
        tab.open(f"/local/lab/{logged['id']}")
        assert page.url == f"{url}/local/lab/runs/{logged['id']}"
        assert not tab.problems
        # A link that has expired leads a browser that is logged in to its page, and asks others for the key.
        stale = Session(server.key).link(url, "/local/lab", issued=0)
        tab.open(stale)
        assert page.url == f"{url}/local/lab"
        context.clear_cookies()
        tab.open(stale)
        page.get_by_label("paste the key").fill(server.key)
        page.get_by_role("button", name="Log in", exact=True).click()
        assert page.url == f"{url}/local/lab" and page.locator("h1").inner_text() == "lab"
    context.close()


@contextlib.contextmanager
def page_elsewhere(html: str) -> Iterator[int]:
    """The port on which another program of this machine serves one page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            """Not to stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            yield other.server_address[1]
        finally:
            other.shutdown()
            thread.join()


def test_links_on_other_pages_log_in_and_other_pages_read_nothing(
    server: Server, browser: playwright.Browser, tmp_path: Path
) -> None:
    """As links in a notebook, which is another site by its name, or the same one on another port."""
    context, plain = browser.new_context(), f"{server.url}/authorize"
    page, link = context.new_page(), Session(server.key).link(server.url, "/authorize")
    html = f'<a href="{escape(link)}">in</a> <a href="{plain}">page</a>'
    with page_elsewhere(html) as port:
        for host in ("localhost", "127.0.0.1"):
            # The second time, the link is spent, but the browser is logged in.
            for _ in range(2):
                page.goto(f"http://{host}:{port}")
                page.get_by_role("link", name="in").click()
                page.wait_for_url(plain)
                assert page.locator("h1").inner_text() == "Your API key"
            page.goto(f"http://{host}:{port}")
            page.get_by_role("link", name="page").click()
            if host == "localhost":
                page.get_by_role("link", name="Open the page").click()
            page.get_by_role("heading", name="Your API key").wait_for()
        page.goto(f"http://127.0.0.1:{port}")
        heard = page.evaluate(
            """address => Promise.all([
                fetch(address, {credentials: "include"}).then(() => "read", () => "refused"),
                fetch(address, {credentials: "include", mode: "no-cors"}).then(() => "read", () => "refused"),
                new Promise((done) => {
                    const frame = document.createElement("iframe");
                    frame.src = address;
                    frame.onload = () => done(frame.contentDocument ? "blank" : "refused");
                    document.body.append(frame);
                }),
                new Promise((done) => { setTimeout(() => done(window.open(address) ? "opened" : ""), 0); }),
            ])""",
            plain,
        )
        assert heard[:3] == ["refused"] * 3
    # The file that `open` writes.
    file = leading_file(tmp_path, Session(server.key).link(server.url, "/authorize"))
    fresh = browser.new_context().new_page()
    fresh.goto(file.as_uri())
    fresh.wait_for_url(plain)
    fresh.get_by_role("heading", name="Your API key").wait_for()
    fresh.get_by_role("link", name="wandb_tl").click()
    fresh.get_by_role("button", name="Log out").click()
    assert fresh.locator(".problem").inner_text() == "All browsers are logged out."
    fresh.goto(plain)
    assert fresh.locator("h1").inner_text() == "This server asks for its key"
    fresh.context.close()
    context.close()


def test_what_is_not_there_is_said(server: Server, browser: playwright.Browser) -> None:
    page = browser.new_context().new_page()
    page.goto(Session(server.key).link(server.url, "/local/none"))
    assert page.locator("main p").first.inner_text() == "There is no project local/none here."
    for address in ("/nobody", "/local/none/runs/x", "/a/b/c/d/e"):
        assert page.goto(server.url + address).status == 404
    for address in ("/local/%2e%2e/%2e%2e/key", "/-/static/..%2f..%2fapp.py", "/-/static/../app.py"):
        assert server.request(address)[0] == 404


def test_a_run_is_described_and_deleted_on_its_page(tab: Tab, server: Server) -> None:
    make = """
    import json, wandb
    with wandb.init(project="desk", id="doomed", name="old") as run:
        run.log({"acc": 1})
        artifact = wandb.Artifact("weights", "model")
        with artifact.new_file("w.txt") as file:
            file.write("w")
        run.log_artifact(artifact).wait()
    print(1)
    """
    server.run(make)
    page = tab.open("/local/desk/runs/doomed")
    page.locator(".forms summary").click()
    page.get_by_label("Name").fill("<b>new</b>")
    page.get_by_label("Tags").fill("good, , baseline,good")
    page.get_by_label("Notes").fill("to be kept")
    page.get_by_role("button", name="Save").click()
    wait_for(lambda: page.locator("h1").inner_text() == "<b>new</b>")
    assert page.locator(".tag").all_inner_texts() == ["good", "baseline"]
    assert page.locator(".notes").inner_text() == "to be kept"

    page.locator(".forms summary").click()
    # The browser itself asks for the tick.
    page.get_by_role("button", name="Delete").click()
    assert urlsplit(page.url).path == "/local/desk/runs/doomed" and page.locator("h1").inner_text()
    page.get_by_label("also delete the 1 artifact version").check()
    page.get_by_label("delete <b>new</b>").check()
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/local/desk")
    assert page.locator("table.runs tbody tr").count() == 0
    read = """
    import json, wandb
    api = wandb.Api()
    print(json.dumps([len(api.runs("local/desk")), api.artifact_exists("local/desk/weights:v0")]))
    """
    assert server.run(read) == [0, False]


def test_a_run_that_ends_can_be_deleted_while_its_name_is_typed(tab: Tab, server: Server) -> None:
    write_run(server, "desk3", "ends", {}, [{"acc": 1.0}], finished=False)
    page = tab.open("/local/desk3/runs/ends")
    page.locator(".forms summary").click()
    assert page.get_by_role("button", name="Delete").count() == 0
    page.get_by_label("Name").fill("half typed")
    write_run(server, "desk3", "ends", {}, [{"acc": 1.0}])
    page.get_by_role("button", name="Delete").wait_for()
    assert page.get_by_label("Name").input_value() == "half typed"


def test_what_a_form_refuses(server: Server, tab: Tab) -> None:
    make = """
    import wandb
    wandb.init(project="desk2", id="kept", name="old").finish()
    print(1)
    """
    server.run(make)
    page = tab.open("/local/desk2/runs/kept")
    token = {"token": Session(server.key).form_token}
    for form, status, message in (
        ({"describe": "1", "name": "x" * 129}, 400, "has 1 to 128 characters, not 129"),
        ({"describe": "1", "name": "x", "tags": "y" * 65}, 400, "a tag has at most 64 characters"),
        ({"delete": "kept"}, 400, "was not confirmed"),
        ({"delete": "other", "sure": "1"}, 400, "was not confirmed"),
        ({"describe": "1", "name": "new", "notes": "z" * 66_000}, 413, "more than 64 KiB"),
    ):
        answer = page.request.post(page.url, form=form | token, headers={"Origin": tab.url})
        assert answer.status == status and message in answer.text(), form
        assert ("<h1>Too large</h1>" if status == 413 else "<h1>Not done</h1>") in answer.text()
    nowhere = page.request.post(tab.url + "/local/desk2", form=token, headers={"Origin": tab.url})
    assert nowhere.status == 404 and "<h1>Not found</h1>" in nowhere.text()
    assert page.request.post(
        page.url, form={"delete": "kept", "sure": "1"} | token, headers={"Origin": "http://evil"}
    )
    stale = page.request.post(page.url, form={"delete": "kept", "sure": "1"}, headers={"Origin": tab.url})
    assert stale.status == 403 and "reload the page" in stale.text()
    page.reload()
    assert page.locator("h1").inner_text() == "old"
