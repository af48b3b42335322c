"""python benchmarks/run_overhead.py: what a run costs beyond its arithmetic, under each kind of agent.

The same sweep of short runs on activations that are there already, by one agent. A run's overhead is the time
from its beginning to the beginning of the next one, less its `train_seconds`, from looking for the
activations to the last test.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import report
import wandb
import yaml
from local_server import REPOSITORY, serving

SWEEP = {
    "program": "wandb_tl/train.py",
    "project": "overhead",
    "command": ["${env}", sys.executable, "-m", "wandb_tl.train", "${args}"],
    "method": "grid",
    "parameters": {
        "model_name": {"value": "tf_efficientnet_lite0"},
        "image_size": {"value": 64},
        "train_limit": {"value": 5000},
        "epochs": {"value": 5},
    },
}
AGENTS = {
    "wandb agent": ["wandb", "agent"],
    "a process a run": ["wandb_tl.agent"],
    "in-process": ["wandb_tl.agent", "--in-process"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=8)
    options = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as environment:
        os.environ.update(environment)
        for name, module in AGENTS.items():
            # Two more than are counted: the first one with the start of the agent, and the last one, after
            # which none begins.
            figures[name] = measure(Path(folder), module, options.runs + 2)
    told = ", ".join(
        f"{name} {overhead:.2f} s a run (the first one {start:.1f} s)"
        for name, (overhead, start) in figures.items()
    )
    report.report("run_overhead", f"overhead of {options.runs} runs under one agent: {told}", figures)


def measure(folder: Path, module: list[str], runs: int) -> tuple[float, float]:
    """Mean overhead of a run, and that of the first one with the start of the agent."""
    file = folder / "sweep.yaml"
    parameters = SWEEP["parameters"] | {"seed": {"values": list(range(runs))}}
    file.write_text(yaml.safe_dump(SWEEP | {"parameters": parameters}))
    made = subprocess.run(
        [sys.executable, "-m", "wandb", "sweep", str(file)],
        cwd=REPOSITORY,
        env=os.environ | {"WANDB_SILENT": "false"},
        capture_output=True,
        text=True,
        check=True,
    )
    path = (made.stdout + made.stderr).split("wandb agent ")[1].split()[0]
    began = time.time()
    command = [sys.executable, "-m", *module, path]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    found = sorted(wandb.Api().sweep(path).runs, key=lambda run: run.created_at)
    assert len(found) == runs and {run.state for run in found} == {"finished"}
    # A run is made when it is handed out.
    starts = [datetime.fromisoformat(run.created_at).timestamp() for run in found]
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    overheads = [gap - run.summary["train_seconds"] for gap, run in zip(gaps, found, strict=False)]
    return sum(overheads[1:]) / len(overheads[1:]), starts[0] - began + overheads[0]


if __name__ == "__main__":
    main()
