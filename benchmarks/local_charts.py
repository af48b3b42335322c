"""python benchmarks/local_charts.py: the charts of a sweep with 200 runs of 10,000 steps.

It puts the runs in over HTTP, restarts the server, and measures how long the pages and their charts take
while another client sends heartbeats. Where Chromium is installed, it also measures how long a browser needs
to draw the curves and to follow the pointer. It prints its own numbers; exit code 1 if one misses its goal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import requests

REPOSITORY = Path(__file__).parents[1]
PROJECT = "charts"
METRICS = ("loss", "accuracy", "train/loss", "train/accuracy", "lr", "gradient_norm")
WRITERS, LINES = 4, 1000
# A browser's connections to one server, and what charts.js waits before it asks for more of a chart.
CONNECTIONS, AGAIN_SECONDS = 6, 0.2
HEARTBEAT_SECONDS = 0.05
FIRST_SECONDS, COMPLETE_SECONDS, HEARTBEAT_GOAL, MOVE_SECONDS = 1.0, 10.0, 0.2, 0.05

UPSERT = """mutation ($input: UpsertBucketInput!) { upsertBucket(input: $input) { inserted } }"""
SWEEP = """mutation ($config: String!, $project: String!) {
    upsertSweep(input: {config: $config, projectName: $project}) { sweep { name } } }"""


class Client:
    """Requests to the server of a root."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-m", "wandb_tl.local", "env", "--json", "--root", str(root)]
        answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        env = json.loads(answer.stdout)
        self.root, self.url = root, env["WANDB_BASE_URL"]
        self.session = requests.Session()
        self.session.auth = ("api", env["WANDB_API_KEY"])
        self.session.trust_env = False
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=16))

    def post(self, path: str, body: dict) -> dict:
        answer = self.session.post(self.url + path, json=body, timeout=120)
        answer.raise_for_status()
        return answer.json()

    def get(self, path: str) -> requests.Response:
        answer = self.session.get(self.url + path, timeout=120)
        answer.raise_for_status()
        return answer


@contextlib.contextmanager
def serving(root: Path) -> Iterator[Client]:
    command = [sys.executable, "-m", "wandb_tl.local", "serve", "--port", "0", "--root", str(root)]
    server = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()
        yield Client(root)
    finally:
        server.terminate()
        server.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--root", type=Path, help="keep the project here, and measure it again the next time")
    options = parser.parse_args()
    print(f"{options.runs} runs of {options.steps:,} steps, {len(METRICS)} metrics;", end=" ")
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or Path(folder) / "root"
        if not (root / "wandb.sqlite").exists():
            with serving(root) as client:
                seconds = put_in(client, options.runs, options.steps)
                rate = options.runs * options.steps / seconds
                print(f"put in by {WRITERS} writers: {seconds:.0f} s, {rate:,.0f} rows/s")
                time.sleep(10)
        with serving(root) as client:
            goals = measure(client, options.runs)
        if chromium := shutil.which("chromium") or shutil.which("google-chrome"):
            with serving(root) as client:
                goals += browse(client, chromium)
    for text, is_met in goals:
        print(text + ("" if is_met else "  <- misses its goal"))
    return 0 if all(is_met for _, is_met in goals) else 1


def put_in(client: Client, runs: int, steps: int) -> float:
    """Write the sweep's runs as their clients would; returns the seconds it took."""
    definition = {
        "method": "random",
        "metric": {"name": "accuracy", "goal": "maximize"},
        "parameters": {
            "lr0": {"min": 0.0001, "max": 1.0, "distribution": "log_uniform_values"},
            "depth": {"values": [1, 2, 3, 4]},
            "optimizer": {"values": ["SGD", "Adam", "Lion"]},
        },
    }
    variables = {"config": json.dumps(definition), "project": PROJECT}
    made = client.post("/graphql", {"query": SWEEP, "variables": variables})
    assert "errors" not in made, made
    sweep = made["data"]["upsertSweep"]["sweep"]["name"]
    start = time.perf_counter()
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda number: write(client, sweep, number, runs, steps), range(runs)))
    # The run that sends heartbeats.
    create(client, None, "live", {})
    return time.perf_counter() - start


def create(client: Client, sweep: str | None, name: str, config: dict) -> None:
    values = {key: {"value": value} for key, value in config.items()}
    # What run.define_metric("*", step_metric="epoch") puts there.
    values |= {"_wandb": {"value": {"m": [{"1": "epoch", "6": [3]}, {"2": "*", "5": 1}]}}}
    fields = {"modelName": PROJECT, "name": name, "displayName": name, "host": "h", "sweep": sweep}
    body = {key: value for key, value in fields.items() if value} | {"config": json.dumps(values)}
    answer = client.post("/graphql", {"query": UPSERT, "variables": {"input": body}})
    assert "errors" not in answer, answer


def write(client: Client, sweep: str, number: int, runs: int, steps: int) -> None:
    name = f"run{number:03d}"
    optimizer = ("SGD", "Adam", "Lion")[number % 3]
    config = {"lr0": 10 ** (-4 * number / runs), "depth": number % 4 + 1, "optimizer": optimizer}
    create(client, sweep, name, config)
    stream = f"/files/local/{PROJECT}/{name}/file_stream"
    rows = [
        json.dumps({"_step": step, "_timestamp": 1.7e9 + step, "_runtime": step / 3, "epoch": step / 100}
                   | {key: math.sin(step / 900 + number + place) + (step * 7919 % 101) / 500
                      for place, key in enumerate(METRICS)})
        for step in range(steps)
    ]  # fmt: skip
    for start in range(0, steps, LINES):
        chunk = {"offset": start, "content": rows[start : start + LINES]}
        client.post(stream, {"files": {"wandb-history.jsonl": chunk}})
    last = {"wandb-summary.json": {"offset": 0, "content": rows[-1:]}}
    client.post(stream, {"files": last, "complete": True, "exitcode": 0})


class Heartbeats:
    """A client that sends heartbeats to its run, and how long each waits for its answer, in seconds."""

    def __init__(self, client: Client) -> None:
        self.client, self.waits, self.stop = client, [], threading.Event()
        self.thread = threading.Thread(target=self.send)

    def send(self) -> None:
        while not self.stop.wait(HEARTBEAT_SECONDS):
            start = time.perf_counter()
            self.client.post(f"/files/local/{PROJECT}/live/file_stream", {})
            self.waits.append(time.perf_counter() - start)

    def __enter__(self) -> Heartbeats:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def measure(client: Client, runs: int) -> list[tuple[str, bool]]:
    """Pages first, then their charts as a browser asks for them."""
    project, sweep = f"/local/{PROJECT}", sweep_page(client)
    ticked = [("curves", "{}"), *(("run", f"run{number:03d}") for number in range(runs))]
    group = f"{project}?{urlencode(ticked)}"
    charts = [group.replace("%7B%7D", key.replace("/", "%2F")) for key in METRICS]
    with Heartbeats(client) as heartbeats:
        pages = {page: statistics.median(timed(client, page) for _ in range(5)) for page in (project, sweep)}
        best = [chart(client, f"{sweep}?chart=curves&metric=accuracy&group=none")]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            start = time.perf_counter()
            all_charts = list(pool.map(lambda address: chart(client, address), charts))
            whole = time.perf_counter() - start
        again = timed(client, charts[0])
    worst = max(heartbeats.waits)
    first, complete = best[0]
    firsts = max(seconds for seconds, _ in all_charts)
    return [
        (f"project page, server (median of 5): {pages[project]:.2f} s", pages[project] < FIRST_SECONDS),
        (f"sweep page, server (median of 5): {pages[sweep]:.2f} s", pages[sweep] < FIRST_SECONDS),
        (f"chart of the sweep: first {first:.2f} s, complete {complete:.2f} s", first < FIRST_SECONDS),
        (f"{len(charts)} charts at once: each drawn after {firsts:.2f} s at most", True),
        (f"{len(charts)} charts at once: complete after {whole:.2f} s", whole < COMPLETE_SECONDS),
        (f"a chart again: {again:.2f} s", again < FIRST_SECONDS),
        (
            f"heartbeats meanwhile: median {statistics.median(heartbeats.waits):.3f} s, worst {worst:.3f} s",
            worst < HEARTBEAT_GOAL,
        ),
    ]


def sweep_page(client: Client) -> str:
    text = client.get(f"/local/{PROJECT}").text
    name = text.partition(f"{PROJECT}/sweeps/")[2].partition('"')[0]
    return f"/local/{PROJECT}/sweeps/{name}"


def timed(client: Client, path: str) -> float:
    # Heartbeats change the page, so that none is answered with "not modified".
    start = time.perf_counter()
    client.get(path)
    return time.perf_counter() - start


def chart(client: Client, path: str) -> tuple[float, float]:
    """Seconds until a chart has something to draw, and until it is complete."""
    start, first = time.perf_counter(), None
    while True:
        answer = client.get(path if first is None else f"{path}&more=1").json()
        first = first or time.perf_counter() - start
        if not answer["partial"]:
            assert answer["series"], "the chart is empty"
            return first, time.perf_counter() - start
        time.sleep(AGAIN_SECONDS)


def browse(client: Client, chromium: str) -> list[tuple[str, bool]]:
    """The sweep's page in a browser: until its curves are drawn, and how long a move of the pointer takes."""
    import playwright.sync_api as playwright

    from wandb_tl.local.access import Session

    session = Session(client.session.auth[1])
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(session.link(client.url, "/"))
        sweep = client.url + sweep_page(client) + "?group=none"
        page.add_init_script(WATCH)
        visits = [visit(page, sweep) for _ in range(3)]
        curves = page.locator("[data-chart=curves]")
        curves.scroll_into_view_if_needed()
        metrics = page.context.new_cdp_session(page)
        metrics.send("Performance.enable")
        before = thread_seconds(metrics)
        moves = page.evaluate(MOVES)
        busy = (thread_seconds(metrics) - before) / len(moves)
        browser.close()
    return [
        (
            "Chromium, the curves of the sweep, from opening its page: whole after"
            f" {visits[0]:.2f} s in a new browser, {visits[1]:.2f} and {visits[2]:.2f} s later",
            visits[2] < FIRST_SECONDS,
        ),
        (
            f"Chromium, a move of the pointer: {busy:.3f} s of the page's thread;"
            f" until the next frame, median {statistics.median(moves):.3f} s",
            busy < MOVE_SECONDS,
        ),
    ]


def visit(page: Any, address: str) -> float:
    """Seconds from opening the page until the whole chart of its curves is drawn."""
    page.goto(address)
    page.locator("[data-chart=curves]").scroll_into_view_if_needed()
    page.wait_for_function("window.wholeAt", timeout=120_000)
    seconds: float = page.evaluate("window.wholeAt") / 1000
    return seconds


def thread_seconds(metrics: Any) -> float:
    """The processor time of the page's main thread."""
    values = metrics.send("Performance.getMetrics")["metrics"]
    return next(value["value"] for value in values if value["name"] == "ThreadTime")


# When the chart was drawn whole: in the frame in which it is on the screen, not when a program asks for it.
WATCH = """new MutationObserver(() => {
  const chart = document.querySelector("[data-chart=curves][data-drawn]");
  if (!chart || chart.querySelector("figcaption").dataset.note || window.wholeAt) return;
  requestAnimationFrame(() => setTimeout(() => { window.wholeAt ??= performance.now(); }));
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-drawn", "data-note"] });"""

# Moves across the chart, and the seconds from each to the next frame, of which an idle one takes 0.017.
MOVES = """async () => {
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  const area = () => document.querySelector("[data-chart=curves] .nsewdrag");
  const box = area().getBoundingClientRect();
  const seconds = [];
  for (let i = 1; i < 100; i++) {
    const clientX = box.left + (box.width * i) / 100;
    const clientY = box.top + box.height * (0.5 + 0.4 * Math.sin(i / 5));
    await frame();
    const start = performance.now();
    const move = new PointerEvent("pointermove", { clientX, clientY, bubbles: true });
    area().dispatchEvent(move);
    await frame();
    seconds.push((performance.now() - start) / 1000);
  }
  return seconds.sort((a, b) => a - b);
}"""


if __name__ == "__main__":
    sys.exit(main())
