"""Many agents at once on one grid, and a server that is killed while they work."""

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


AGENTS, SIDE, KILLS = 8, 8, 2
POINTS = SIDE * SIDE


@pytest.mark.slow
def test_every_point_runs_once_and_loses_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path, variables={"WANDB_SILENT": "false", "WANDB_AGENT_DISABLE_FLAPPING": "true"})
    server.start()
    client = tmp_path / "client"
    (client / "script.py").write_text(textwrap.dedent(SCRIPT))
    values = {"values": list(range(SIDE))}
    config = {"program": "script.py", "method": "grid", "parameters": {"x": values, "y": values}}
    document = """mutation ($c: String!) { upsertSweep(input: {config: $c, projectName: "durable"}) {
        sweep { name } } }"""
    name = server.query(document, c=json.dumps(config))["upsertSweep"]["sweep"]["name"]
    processes = []
    for number in range(AGENTS):
        with (tmp_path / f"agent{number}.log").open("w") as log:
            command = ["wandb", "agent", f"local/durable/{name}"]
            processes.append(
                subprocess.Popen(command, cwd=client, env=server.env, stdout=log, stderr=subprocess.STDOUT)
            )
    try:
        for kill in range(1, KILLS + 1):
            goal = POINTS * kill // (KILLS + 1)
            wait_for(lambda goal=goal: finished(server, name) >= goal)
            server.stop(signal.SIGKILL)
            time.sleep(2)
            server.start()
        for process in processes:
            assert process.wait(timeout=400) == 0
        state, runs = server.run(READ, name, WANDB_SILENT="true")
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
        server.stop()
    assert state == "FINISHED"
    assert [run[0] for run in runs.values()] == ["finished"] * POINTS
    assert len({(x, y) for _, x, y, _ in runs.values()}) == POINTS
    for _, x, y, losses in runs.values():
        assert losses == pytest.approx([x + y / 10 + step for step in range(10)]), (x, y)


def finished(server: Server, sweep: str) -> int:
    document = """query ($f: JSONString!) { project(name: "durable", entityName: "local") {
        runCount(filters: $f) } }"""
    answer = server.query(document, f=json.dumps({"sweep": sweep, "state": "finished"}))
    return (answer["project"] or {}).get("runCount", 0)
