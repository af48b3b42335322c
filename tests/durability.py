"""Many agents at once on one grid, and a server that is killed while they work."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import textwrap
import time
from pathlib import Path

from live_server import Server, wait_for

STEPS = 10

SCRIPT = f"""
import time, wandb
with wandb.init() as run:
    for step in range({STEPS}):
        run.log({{"loss": run.config.x + run.config.y / 10 + step}})
        time.sleep(0.1)
"""

READ = """
import json, sys, wandb
sweep = wandb.Api().sweep("local/durable/" + sys.argv[1])
runs = {run.id: [run.state, run.config["x"], run.config["y"], [row["loss"] for row in run.scan_history()]]
        for run in sweep.runs}
print(json.dumps([sweep.state, runs]))
"""


def ride(folder: Path, agents: int, sides: tuple[int, int], kills: int) -> None:
    """Let agents run a grid of second-long runs while the server is killed (-9) and started again.

    The kills are spread over the sweep. Raises AssertionError where a point was run twice or not at all, or a
    row of history was lost.
    """
    server = Server(folder, variables={"WANDB_SILENT": "false", "WANDB_AGENT_DISABLE_FLAPPING": "true"})
    server.start()
    client = folder / "client"
    (client / "script.py").write_text(textwrap.dedent(SCRIPT))
    parameters = {name: {"values": list(range(side))} for name, side in zip("xy", sides, strict=True)}
    config = {"program": "script.py", "method": "grid", "parameters": parameters}
    document = """mutation ($c: String!) { upsertSweep(input: {config: $c, projectName: "durable"}) {
        sweep { name } } }"""
    name = server.query(document, c=json.dumps(config))["upsertSweep"]["sweep"]["name"]
    processes = []
    for number in range(agents):
        with (folder / f"agent{number}.log").open("w") as log:
            command = ["wandb", "agent", f"local/durable/{name}"]
            processes.append(
                subprocess.Popen(command, cwd=client, env=server.env, stdout=log, stderr=subprocess.STDOUT)
            )
    points = math.prod(sides)
    try:
        for kill in range(1, kills + 1):
            goal = points * kill // (kills + 1)
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
    assert [run[0] for run in runs.values()] == ["finished"] * points
    assert len({(x, y) for _, x, y, _ in runs.values()}) == points
    for _, x, y, losses in runs.values():
        assert losses == [x + y / 10 + step for step in range(STEPS)], (x, y, losses)


def finished(server: Server, sweep: str) -> int:
    document = """query ($f: JSONString!) { project(name: "durable", entityName: "local") {
        runCount(filters: $f) } }"""
    answer = server.query(document, f=json.dumps({"sweep": sweep, "state": "finished"}))
    return (answer["project"] or {}).get("runCount", 0)
