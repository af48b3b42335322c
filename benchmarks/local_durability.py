"""python benchmarks/local_durability.py: the embedded server, killed twice while 8 agents run a grid of 64.

It uses real `wandb agent` processes and needs the development dependencies. It prints what it did and how
long that took; exit code 1 if a point was run twice or not at all, or a row of history was lost.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from durability import STEPS, ride


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--sides", type=int, nargs=2, default=(8, 8), help="of the grid (default: 8 8)")
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            ride(Path(folder), options.agents, tuple(options.sides), options.kills)
        except AssertionError as error:
            print(f"lost or repeated: {error}", file=sys.stderr)
            return 1
    points = math.prod(options.sides)
    print(
        f"{options.agents} agents, {options.kills} kills: {points} of {points} points finished once, "
        f"{points * STEPS} of {points * STEPS} rows, {time.monotonic() - started:.0f} s "
        f"(wandb {version('wandb')}, Python {platform.python_version()}, {os.cpu_count()} cores)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
