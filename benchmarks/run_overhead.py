"""python benchmarks/run_overhead.py: what a run costs beyond its arithmetic, under each kind of agent.

One agent works on a sweep of short runs whose activations are cached already. A run's overhead is the time
from its creation to the creation of the next one, less its `train_seconds`, which last from the look-up of
the activations to the last test. With --baseline, the same for another checkout, in turn with this one; each
has its own server and cache, and both use this Python and its libraries.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import report
import wandb
import work
from local_server import serving
from whole_process import REPOSITORY, seconds_of

SWEEP = {
    "program": "wandb_tl/train.py",
    "command": ["${env}", sys.executable, "-m", "wandb_tl.train", "${args}"],
    "method": "grid",
}
MODEL = "tf_efficientnet_lite0"
AGENTS = {
    "wandb agent": ["wandb", "agent"],
    "a process per run": ["wandb_tl.agent", "--process-per-run"],
    "one process": ["wandb_tl.agent"],
}
PROJECT = "overhead"
CREATE = f"import json, sys, wandb; print(wandb.sweep(json.loads(sys.argv[1]), project='{PROJECT}'))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=8)
    work.add_size_flags(parser, 5000, 0)
    parser.set_defaults(epochs=5)
    parser.add_argument("--rounds", type=int, default=1, help="sweeps per agent and checkout (default: 1)")
    parser.add_argument("--baseline", type=Path, metavar="DIR", help="another checkout to compare with")
    options = parser.parse_args()
    checkouts = {"before": options.baseline.resolve()} if options.baseline else {}
    checkouts["after"] = REPOSITORY
    figures: dict[str, dict[str, list[tuple[float, float]]]] = {agent: {} for agent in AGENTS}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        servers = {
            side: stack.enter_context(serving(Path(name, side), checkout))
            for side, checkout in checkouts.items()
        }
        for side, checkout in checkouts.items():
            check_code(Path(name, side), servers[side], checkout)
        for _, agent, side in itertools.product(range(options.rounds), AGENTS, checkouts):
            overheads = measure(Path(name, side), servers[side], AGENTS[agent], options)
            figures[agent].setdefault(side, []).append(overheads)
    report.report("run_overhead", line(options.runs, figures), figures)


def check_code(folder: Path, environment: Mapping[str, str], checkout: Path) -> None:
    """Exit unless Python runs the checkout's code there, and not that of an installed package."""
    command = [sys.executable, "-c", "import wandb_tl; print(wandb_tl.__file__)"]
    file = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout.strip()
    if Path(file) != checkout / "wandb_tl" / "__init__.py":
        sys.exit(f"{checkout}: Python imports {file or 'no wandb_tl'} instead")


def measure(
    folder: Path, environment: dict[str, str], agent: list[str], options: argparse.Namespace
) -> tuple[float, float]:
    """Mean overhead of a run, and that of the first one with the start of the agent."""
    # Two more than count: the first one, and the last one, after which no other is created.
    seeds = list(range(options.runs + 2))
    values = {"model_name": MODEL} | work.hyperparameters(options)
    parameters = {name: {"value": value} for name, value in values.items()} | {"seed": {"values": seeds}}
    definition = json.dumps(SWEEP | {"parameters": parameters})
    create = [sys.executable, "-c", CREATE, definition]
    output = subprocess.run(
        create, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    api = wandb.Api({"base_url": environment["WANDB_BASE_URL"]}, api_key=environment["WANDB_API_KEY"])
    path = f"{api.default_entity}/{PROJECT}/{output.stdout.split()[-1]}"
    began = time.time()
    seconds_of(["-m", *agent, path], folder, environment)
    runs = sorted(api.sweep(path).runs, key=lambda run: run.created_at)
    assert len(runs) == len(seeds) and {run.state for run in runs} == {"finished"}
    # A run is created when it is handed out.
    starts = [datetime.fromisoformat(run.created_at).timestamp() for run in runs]
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    overheads = [gap - run.summary["train_seconds"] for gap, run in zip(gaps, runs, strict=False)]
    return statistics.mean(overheads[1:]), starts[0] - began + overheads[0]


def line(runs: int, figures: dict[str, dict[str, list[tuple[float, float]]]]) -> str:
    """Each agent's means over the rounds, before and after if there are both."""
    parts = []
    for agent, sides in figures.items():
        for side, rounds in sides.items():
            mean, first = (statistics.mean(column) for column in zip(*rounds, strict=True))
            name = f"{agent}, {side}" if len(sides) > 1 else agent
            parts.append(f"{name}: {mean:.2f} s per run (the first one {first:.1f} s)")
    return f"overhead of {runs} runs under one agent: {'; '.join(parts)}"


if __name__ == "__main__":
    os.environ["WANDB_SILENT"] = "true"
    main()
