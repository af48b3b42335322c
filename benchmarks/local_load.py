"""python benchmarks/local_load.py: the embedded server under 1,000 runs of 100 steps.

It puts the runs in over HTTP, as wandb-core would, and measures how long the table and the project's page
take then, and how much memory the server came to need. It prints its own numbers; exit code 1 if one of
them misses its goal.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import requests

REPOSITORY = Path(__file__).parents[1]
PROJECT = "load"
WRITERS = 16

TABLE_SECONDS, PAGE_SECONDS, MEMORY_MB = 5.0, 1.0, 300.0

UPSERT = """mutation UpsertBucket($name: String, $project: String, $config: JSONString, $host: String,
    $displayName: String, $summary: JSONString) {
  upsertBucket(input: {name: $name, modelName: $project, config: $config, host: $host,
      displayName: $displayName, summaryMetrics: $summary}) {
    bucket { id name project { name entity { name } } historyLineCount } inserted } }"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        command = [sys.executable, "-m", "wandb_tl.local", "serve", "--port", "0", "--root", str(root)]
        server = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        try:
            server.stdout.readline()
            return measure(server.pid, root, options.runs, options.steps)
        finally:
            server.terminate()
            server.wait()


def measure(pid: int, root: Path, runs: int, steps: int) -> int:
    shown = [sys.executable, "-m", "wandb_tl.local", "env", "--json", "--root", str(root)]
    answer = subprocess.run(shown, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    env = os.environ | json.loads(answer.stdout) | {"WANDB_DIR": str(root.parent), "WANDB_SILENT": "true"}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}"
    versions = [f"{name} {version(name)}" for name in ("wandb", "graphql-core", "starlette")]
    print(
        f"{runs} runs of {steps} steps; {machine}; Python {platform.python_version()}, {', '.join(versions)}"
    )
    seconds = put_in(env["WANDB_BASE_URL"], env["WANDB_API_KEY"], runs, steps)
    print(f"put in by {WRITERS} writers: {seconds:.1f} s, {runs * steps / seconds:,.0f} rows/s")
    tables = [export(env) for _ in range(3)]
    whole, own = (statistics.median(column) for column in zip(*tables, strict=True))
    pages = [page(env) for _ in range(5)]
    memory = resident_mb(pid, "VmHWM")
    goals = [
        (f"export_table, whole command (median of 3): {whole:.2f} s", whole < TABLE_SECONDS),
        (f"export_table, after its imports (median of 3): {own:.2f} s", own < TABLE_SECONDS),
        (
            f"project page (median of 5): {statistics.median(pages):.3f} s",
            statistics.median(pages) < PAGE_SECONDS,
        ),
        (f"server memory: {resident_mb(pid, 'VmRSS'):.0f} MB, at most {memory:.0f} MB", memory < MEMORY_MB),
    ]
    for text, met in goals:
        print(text + ("" if met else "  <- misses its goal"))
    return 0 if all(met for _, met in goals) else 1


def put_in(url: str, key: str, runs: int, steps: int) -> float:
    """Write the runs as their clients would; returns the seconds it took."""
    numbers = (
        "avg_train_loss",
        "avg_train_accuracy",
        "test_accuracy",
        "test/loss",
        "test/f1_macro",
        "test/ece",
    )
    session = requests.Session()
    session.auth = ("api", key)
    session.trust_env = False
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=WRITERS))

    def post(path: str, body: dict) -> dict:
        answer = session.post(url + path, json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def write(number: int) -> None:
        name = f"run{number:05d}"
        config = {
            "lr": {"value": 0.001 * (number % 10)},
            "seed": {"value": number},
            "optimizer": {"value": "Adam"},
        }
        variables = {"name": name, "project": PROJECT, "config": json.dumps(config), "host": "host"}
        said = post("/graphql", {"query": UPSERT, "variables": variables | {"displayName": f"n{number}"}})
        assert "errors" not in said, said
        rows = [
            json.dumps({"_step": step, "_timestamp": 1.7e9 + step, "_runtime": step, "epoch": step}
                       | dict.fromkeys(numbers, (number + step) / 1000))
            for step in range(steps)
        ]  # fmt: skip
        summary = json.dumps(
            {"_step": steps - 1, "train_seconds": 1.0} | dict.fromkeys(numbers, number / 1000)
        )
        stream = f"/files/local/{PROJECT}/{name}/file_stream"
        for start in range(0, steps, 25):
            chunk = {"offset": start, "content": rows[start : start + 25]}
            post(stream, {"files": {"wandb-history.jsonl": chunk}})
        last = {"wandb-summary.json": {"offset": 0, "content": [summary]}}
        post(stream, {"files": last, "complete": True, "exitcode": 0})

    start = time.perf_counter()
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(runs)))
    return time.perf_counter() - start


def export(env: dict[str, str]) -> tuple[float, float]:
    """Seconds of `export_table LOAD`: all of the command, and what follows its imports."""
    code = """
import sys, time
from wandb_tl import export_table
start = time.perf_counter()
code = export_table.COMMAND.main(sys.argv[1:])
print(f"after imports: {time.perf_counter() - start}", file=sys.stderr)
sys.exit(code)
"""
    start = time.perf_counter()
    command = [sys.executable, "-c", code, f"local/{PROJECT}"]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    return seconds, float(re.search(r"after imports: (\S+)", done.stderr)[1])


def page(env: dict[str, str]) -> float:
    """Seconds until the project's page is there."""
    start = time.perf_counter()
    address = f"{env['WANDB_BASE_URL']}/local/{quote(PROJECT)}"
    answer = requests.get(address, auth=("api", env["WANDB_API_KEY"]), allow_redirects=False)
    assert answer.status_code == 200 and "run0" in answer.text, answer.status_code
    return time.perf_counter() - start


def resident_mb(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
