"""python benchmarks/local_durability.py: 64 runs under 8 agents, with a server that is killed twice.

It is tests/local/test_durability.py in full size: every point of the grid must run to its end exactly once
and lose no row of its history. Prints the time it took.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "local")]

from test_durability import survive  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--side", type=int, default=8, help="the grid has side * side points")
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = survive(Path(folder), options.agents, options.side, options.kills)
    work = f"{options.side**2} runs, {options.agents} agents, server killed {options.kills} times"
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, wandb {version('wandb')}"
    print(f"{work}: all finished, all different, no row lost; {seconds:.0f} s on {machine}")


if __name__ == "__main__":
    main()
