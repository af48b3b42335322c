"""python benchmarks/local_holdups.py [NAME ...]: how long a costly request keeps other clients waiting.

For each case it starts a server that may open 1,024 files, sends the case's requests, and meanwhile posts
heartbeats and reads as a second client. Then it sends the case once more and ends the server with SIGTERM. It
prints the worst waits and the server's peak memory; exit code 1 if one of them misses its goal.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import http.client
import json
import multiprocessing
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
OPEN_FILES = 1024
# How long a case may take, and what is aimed at.
CASE_SECONDS = 20.0
WAIT_SECONDS, END_SECONDS, MEMORY_MB = 0.2, 5.0, 500.0

STREAM = "/files/local/p/r/file_stream"
UPSERT = """mutation ($name: String, $config: JSONString) { upsertBucket(input:
    {name: $name, modelName: "p", host: "here", config: $config}) { bucket { id } } }"""
SWEEP = """mutation ($config: String!) { upsertSweep(input: {projectName: "p", config: $config}) {
    sweep { name } } }"""
AGENT = """mutation ($sweep: String!) { createAgent(input: {host: "here", projectName: "p", sweep: $sweep}) {
    agent { id } } }"""
BEAT = """mutation ($id: ID!) { agentHeartbeat(input: {id: $id, runState: "{}"}) { commands } }"""
RUNS = """query ($filters: JSONString) { project(name: "p", entityName: "local") {
    runs(filters: $filters) { edges { node { name } } } } }"""
SAMPLES = """{ project(name: "p", entityName: "local") { run(name: "r") { history(samples: 20000000) } } }"""


@dataclass
class Client:
    """One connection to a server."""

    port: int
    key: str
    connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: Any, timeout: float = CASE_SECONDS, **headers: str) -> tuple[int, bytes]:
        """Status and body of the answer; the connection stays open."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        credentials = base64.b64encode(f"api:{self.key}".encode()).decode()
        try:
            self.connection.request("POST", path, data, {"Authorization": f"Basic {credentials}"} | headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise

    def query(self, document: str, **variables: Any) -> Any:
        return json.loads(self.post("/graphql", {"query": document, "variables": variables})[1])

    def stream(self, name: str, *lines: str, offset: int = 0) -> None:
        self.post(STREAM, {"files": {name: {"offset": offset, "content": lines}}})


# ---- cases -----------------------------------------------------------------------------------------------


def nothing(_client: Client) -> None:
    """What the machine itself makes a client wait."""
    time.sleep(3)


def runs_filter(client: Client) -> None:
    """The filter of the table of runs, in a link."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=CASE_SECONDS)
    credentials = base64.b64encode(f"api:{client.key}".encode()).decode()
    address = "/local/p?filter=" + "a" + "%20" * 20_000 + "b"
    connection.request("GET", address, headers={"Authorization": f"Basic {credentials}"})
    connection.getresponse().read()


def api_regex(client: Client) -> None:
    client.query(UPSERT, name="a" * 40 + "b", config="{}")
    client.query(RUNS, filters=json.dumps({"name": {"$regex": "^(a+)+$"}}))


def sweep_aliases(client: Client) -> None:
    levels = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 7)]
    client.query(SWEEP, config="\n".join([*levels, "method: grid", "parameters: {x: {values: *a6}}"]))


def sweep_values(client: Client) -> None:
    text = json.dumps(list(range(150_000)))
    client.query(SWEEP, config=f"method: random\nparameters: {{x: {{values: {text}}}}}")


def sweep_parameters(client: Client) -> None:
    parameters = "".join(f"  p{i}: {{min: 0.0, max: 1.0}}\n" for i in range(10_000))
    client.query(SWEEP, config=f"method: random\nparameters:\n{parameters}")


def large_grid(client: Client) -> None:
    config = "method: grid\nparameters: {a: {distribution: int_uniform, min: 1, max: 99999}}"
    take_run(client, client.query(SWEEP, config=config)["data"]["upsertSweep"]["sweep"]["name"])


def bayes(client: Client) -> None:
    """The proposals of a search with 100 runs that have ended."""
    parameters = "".join(f"  p{i}: {{min: 0.0, max: 1.0}}\n" for i in range(20))
    config = f"method: bayes\nmetric: {{name: loss}}\nparameters:\n{parameters}"
    sweep = client.query(SWEEP, config=config)["data"]["upsertSweep"]["sweep"]["name"]
    for number in range(100):
        name = take_run(client, sweep)
        path = STREAM.replace("/r/", f"/{name}/")
        line = json.dumps({"_step": 0, "loss": (number * 37 % 100) / 100})
        body = {"files": {"wandb-history.jsonl": {"offset": 0, "content": [line]}}, "complete": True}
        client.query(UPSERT, name=name, config="{}")
        client.post(path, body)


def take_run(client: Client, sweep: str) -> str:
    """The name of the run that a new agent of a sweep gets."""
    agent = client.query(AGENT, sweep=sweep)["data"]["createAgent"]["agent"]["id"]
    answer = client.query(BEAT, id=agent)["data"]["agentHeartbeat"]
    return json.loads(answer["commands"])[0]["run_id"]


def fragments(client: Client) -> None:
    """18 fragments, each of which uses the next one twice."""
    levels = []
    for i in range(18):
        inner = f'run(name: "r") {{ project {{ ...f{i + 1} }} }}'
        levels.append(f"fragment f{i} on Project {{ a: {inner} b: {inner} }}")
    last = "fragment f18 on Project { name }"
    client.query('{ project(name: "p", entityName: "local") { ...f0 } }' + " ".join([*levels, last]))


def aliases(client: Client) -> None:
    client.query("query { " + " ".join(f"a{i}: viewer {{ id entity }}" for i in range(2000)) + " }")


def different_documents(client: Client) -> None:
    for number in range(150):
        client.query(
            "{ " + " ".join(f"a{i}: viewer {{ id }}" for i in range(300)) + f" b{number}: viewer {{ id }} }}"
        )


def many_samples(client: Client) -> None:
    client.stream("wandb-history.jsonl", *[json.dumps({"_step": i, "x": i}) for i in range(300)])
    client.stream("wandb-history.jsonl", '{"_step": 1000}', offset=1 << 61)
    client.query(SAMPLES)
    time.sleep(3)


def gzip_body(client: Client) -> None:
    with contextlib.suppress(OSError):
        client.post("/graphql", bomb(), **{"Content-Encoding": "gzip"})


@cache
def bomb() -> bytes:
    """A gigabyte of blanks, compressed."""
    return gzip.compress(b"[" + b" " * 10**9, 6)


def large_body(client: Client) -> None:
    with contextlib.suppress(OSError):
        client.post("/graphql", b'{"query": [' + b"{}," * 30_000_000 + b"1]}")


def console_lines(client: Client) -> None:
    client.stream("output.log", *[f"{number} line" for number in range(1_000_000)])


def history_lines(client: Client) -> None:
    client.stream("wandb-history.jsonl", *[json.dumps({"_step": i, "loss": 0.5}) for i in range(300_000)])


def wide_line(client: Client) -> None:
    for step in range(3):
        line = json.dumps({"_step": step} | {f"metric/{i}": i / 7 for i in range(100_000)})
        client.stream("wandb-history.jsonl", line, offset=step)


def wide_summary(client: Client) -> None:
    """Of a run that logs few metrics at a time, and many in all."""
    for step in range(3):
        line = json.dumps({f"metric/{i}": step + i / 7 for i in range(100_000)})
        client.stream("wandb-summary.json", line)


def unfinished_requests(client: Client) -> None:
    """Connections of a client without the key that never finish their requests."""
    sockets = []
    for _ in range(1100):
        with contextlib.suppress(OSError):
            sockets.append(socket.create_connection(("127.0.0.1", client.port), timeout=1))
            sockets[-1].sendall(b"POST /graphql HTTP/1.1\r\nHost: x\r\n")
    time.sleep(6)
    for each in sockets:
        each.close()


def garbage(client: Client) -> None:
    """Requests that are not HTTP."""
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", client.port), 1) as each:
            each.sendall(b"\0\0\0\r\n\r\n")
            each.recv(100)


CASES: list[Callable[[Client], None]] = [
    *(nothing, runs_filter, api_regex, sweep_aliases, sweep_values, sweep_parameters, large_grid, bayes),
    *(fragments, aliases, different_documents, many_samples, gzip_body, large_body),
    *(console_lines, history_lines, wide_line, wide_summary, unfinished_requests, garbage),
]

# ---- measuring -------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="the cases to run (all)")
    names = parser.parse_args().names
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    print(f"{'case':20} {'itself':>8} {'heartbeat':>10} {'read':>8} {'memory':>8} {'log':>8} {'SIGTERM':>8}")
    met = [measure(case) for case in CASES if not names or case.__name__ in names]
    return 0 if all(met) else 1


def measure(case: Callable[[Client], None]) -> bool:
    """Run a case and print its row; whether it meets all goals."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as (server, client, log):
        client.query(UPSERT, name="r", config="{}")
        here, there = multiprocessing.Pipe()
        other = multiprocessing.Process(target=second_client, args=(client.port, client.key, there))
        other.start()
        here.recv()
        start = time.perf_counter()
        in_background(case, client).join(CASE_SECONDS)
        itself = time.perf_counter() - start
        here.send("stop")
        heartbeat, read = here.recv()
        other.join()
        memory = peak_mb(server.pid)
        in_background(case, Client(client.port, client.key))
        time.sleep(0.5)
        start = time.perf_counter()
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(3 * END_SECONDS)
        end = time.perf_counter() - start
        logged = log.stat().st_size
    print(
        f"{case.__name__:20} {itself:6.2f} s {heartbeat:8.3f} s {read:6.3f} s {memory:5.0f} MB"
        f" {logged / 1000:5.0f} kB {end:6.2f} s",
        flush=True,
    )
    return max(heartbeat, read) <= WAIT_SECONDS and end <= END_SECONDS and memory <= MEMORY_MB


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Client, Path]]:
    """A server that may open few files, a client of it, and its log."""
    root, log = folder / "root", folder / "log"
    command = f"ulimit -n {OPEN_FILES}; exec {sys.executable} -m wandb_tl.local serve --port 0 --root {root}"
    with log.open("w") as errors:
        server = subprocess.Popen(
            ["bash", "-c", command], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        line = server.stdout.readline()
        port = int(re.search(r"http://[^\s/]+:(\d+)", line)[1])
        yield server, Client(port, (root / "key").read_text().strip()), log
    finally:
        server.kill()
        server.wait()


def in_background(case: Callable[[Client], None], client: Client) -> threading.Thread:
    def run() -> None:
        # A refusal ends a case early, and an answer that came too late is no JSON.
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, TypeError):
            case(client)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def second_client(port: int, key: str, control: Connection) -> None:
    """Send a heartbeat of the run r and read, over and over; answers with the worst waits in seconds."""
    client = Client(port, key)
    worst = {STREAM: 0.0, "/graphql": 0.0}
    bodies = {STREAM: {}, "/graphql": {"query": "{ viewer { entity } }"}}
    for path, body in bodies.items():
        client.post(path, body)
    control.send("ready")
    while not control.poll():
        for path, body in bodies.items():
            start = time.perf_counter()
            with contextlib.suppress(OSError, http.client.HTTPException):
                client.post(path, body, timeout=CASE_SECONDS)
            worst[path] = max(worst[path], time.perf_counter() - start)
        time.sleep(0.01)
    control.recv()
    control.send(tuple(worst.values()))


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
