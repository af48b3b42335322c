"""Agents on another host: two network namespaces with one cable between them, each a host of its own."""

import contextlib
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from live_server import Server, call

SERVER, AGENT = "10.77.0.1", "10.77.0.2"


def ip(*arguments: str) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(["ip", *arguments], capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"needs ip (apt install iproute2): {error}")


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[str, str]]:
    """The namespaces of the server and of the agent."""
    word = uuid.uuid4().hex[:6]
    names = (f"server-{word}", f"agent-{word}")
    for name in names:
        if (done := ip("netns", "add", name)).returncode:
            pytest.skip(f"needs root to create network namespaces: {done.stderr.strip()}")
    try:
        cable = ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", names[1])
        assert cable.returncode == 0, cable.stderr
        for name, address in zip(names, (SERVER, AGENT), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            ip("netns", "delete", name)


def on(host: str, folder: Path, environment: dict[str, str], *command: str) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        ["ip", "netns", "exec", host, *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output(process: subprocess.Popen) -> str:
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out
    return out


@pytest.mark.long
def test_an_agent_on_another_host_finishes_a_sweep(hosts, run_environment, tmp_path):
    here, there = hosts
    local = [sys.executable, "-m", "wandb_tl.local"]
    environment = {name: value for name, value in run_environment.items() if name != "WANDB_MODE"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    root = ["--root", str(tmp_path / "root")]
    serve = on(
        here,
        tmp_path / "a",
        environment,
        *local,
        "serve",
        "--host",
        "0.0.0.0",
        "--insecure",
        "--port",
        "0",
        *root,
    )
    try:
        lines = [serve.stdout.readline() for _ in range(4)]
        assert f"other hosts reach it at {SERVER}; to write their variables into a file:\n" in lines
        # The command that it prints.
        line = next(line for line in lines if "wandb.env" in line)
        output(on(here, tmp_path / "a", environment, "bash", "-c", line))
        file = tmp_path / "a" / "wandb.env"
        assert file.stat().st_mode & 0o077 == 0 and f"=http://{SERVER}:" in file.read_text()

        settings = {"train_limit": 64, "test_limit": 64, "image_size": 32, "epochs": 1}
        settings |= {"model_name": "resnet18", "pretrained": False, "finetuning": False}
        definition = {
            "project": "wandb_tl",
            "program": "wandb_tl/train.py",
            "command": ["${env}", "python", "-m", "wandb_tl.train", "${args}"],
            "method": "grid",
            "parameters": {name: {"value": value} for name, value in settings.items()},
        }
        (tmp_path / "a" / "sweep.yaml").write_text(yaml.safe_dump(definition))
        there_with = ("bash", "-c", f'source {shlex.quote(str(file))} && exec "$@"', "bash")
        made = output(on(there, tmp_path / "a", environment, *there_with, "wandb", "sweep", "sweep.yaml"))
        path = re.search(r"local/wandb_tl/\w+", made.split("wandb agent ")[1])[0]
        out = output(on(there, tmp_path / "b", environment, *there_with, "wandb", "agent", path))
        with contextlib.closing(sqlite3.connect(tmp_path / "root" / "wandb.sqlite")) as records:
            [(state,)] = records.execute("SELECT state FROM run").fetchall()
        assert state == "finished", out
    finally:
        serve.terminate()
        serve.wait(timeout=60)
        serve.stdout.close()


def test_variables_for_other_hosts_need_a_server_that_they_reach(server: Server):
    code, out = call(server, "wandb_tl.local", "env", "--host", "node1")
    message = f"the server at {server.url} listens on this machine only; start it with --host 0.0.0.0"
    assert code == 1 and out == f"error: {message}\n"
    # Of a server that is still to be started.
    code, out = call(server, "wandb_tl.local", "env", "--host", "node1", "--port", "8080")
    assert code == 0 and "export WANDB_BASE_URL=http://node1:8080\n" in out
    # Its folder is not there.
    assert "WANDB_TL_ROOT" not in out
