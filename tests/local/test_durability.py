"""Many agents, and a server that is killed meanwhile. In full size: benchmarks/local_durability.py."""

from __future__ import annotations

import json
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import pytest
from live_server import Server, wait_for

SCRIPT = """
import time, wandb
with wandb.init() as run:
    for step in range(10):
        run.log({"loss": run.config.x + run.config.y / 10 + step})
        time.sleep(0.1)
"""

READ = """
import json, sys, wandb
sweep = wandb.Api().sweep("local/durable/" + sys.argv[1])
runs = {run.id: [run.state, run.config["x"], run.config["y"], [row["loss"] for row in run.scan_history()]]
        for run in sweep.runs}
print(json.dumps([sweep.state, runs]))
"""


def survive(folder: Path, agents: int, side: int, kills: int) -> float:
    """A grid of side * side points under so many agents, while the server is killed and started again.

    Asserts that every point ran to its end exactly once and lost no row; returns the seconds it took.
    """
    server = Server(folder, variables={"WANDB_SILENT": "false", "WANDB_AGENT_DISABLE_FLAPPING": "true"})
    server.start()
    client = folder / "client"
    (client / "script.py").write_text(textwrap.dedent(SCRIPT))
    values = {"values": list(range(side))}
    config = {"program": "script.py", "method": "grid", "parameters": {"x": values, "y": values}}
    document = """mutation ($c: String!) { upsertSweep(input: {config: $c, projectName: "durable"}) {
        sweep { name } } }"""
    name = server.query(document, c=json.dumps(config))["upsertSweep"]["sweep"]["name"]
    begin = time.monotonic()
    processes = []
    for number in range(agents):
        with (folder / f"agent{number}.log").open("w") as log:
            command = ["wandb", "agent", f"local/durable/{name}"]
            processes.append(
                subprocess.Popen(command, cwd=client, env=server.env, stdout=log, stderr=subprocess.STDOUT)
            )
    try:
        for kill in range(1, kills + 1):
            goal = side * side * kill // (kills + 1)
            wait_for(lambda goal=goal: finished(server, name) >= goal)
            server.stop(signal.SIGKILL)
            time.sleep(2)
            server.start()
        for process in processes:
            assert process.wait(timeout=400) == 0
        seconds = time.monotonic() - begin
        state, runs = server.run(READ, name, WANDB_SILENT="true")
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
        server.stop()
    assert state == "FINISHED"
    assert [run[0] for run in runs.values()] == ["finished"] * side * side
    assert len({(x, y) for _, x, y, _ in runs.values()}) == side * side
    for _, x, y, losses in runs.values():
        assert losses == pytest.approx([x + y / 10 + step for step in range(10)]), (x, y)
    return seconds


def finished(server: Server, sweep: str) -> int:
    document = """query ($f: JSONString!) { project(name: "durable", entityName: "local") {
        runCount(filters: $f) } }"""
    answer = server.query(document, f=json.dumps({"sweep": sweep, "state": "finished"}))
    return (answer["project"] or {}).get("runCount", 0)


@pytest.mark.slow
def test_agents_outlive_a_server_that_is_killed_twice(tmp_path: Path) -> None:
    survive(tmp_path, agents=4, side=4, kills=2)
