"""python -m tests.fuzz --minutes 60: odd input for the embedded server, for as long as you like.

Prints the seed, and each kind of failure once, with the smallest input that hypothesis finds for it. Fails
also if a heartbeat of a second client waits for longer than LONGEST_WAIT seconds meanwhile.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from .properties import PROPERTIES
from .served import Served

EXAMPLES = 40
# A heartbeat takes milliseconds; on a slow, busy machine, about a second beside the first charts.
LONGEST_WAIT = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, help="default: a random one, which is printed")
    parser.add_argument("--only", nargs="*", default=list(PROPERTIES), choices=PROPERTIES)
    options = parser.parse_args()
    start = secrets.randbelow(10_000) if options.seed is None else options.seed
    print(f"seed {start}", flush=True)
    until = time.monotonic() + 60 * options.minutes
    failures: dict[str, str] = {}
    examples: Counter[str] = Counter()
    slowest = longest_wait = (0.0, "")
    number = 0
    while time.monotonic() < until:
        for name in options.only:
            if time.monotonic() > until:
                break
            number += 1
            with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
                served = Served(Path(folder))
                try:
                    search(name, served, start + number, examples)
                except Exception as error:
                    report(name, error, failures)
                finally:
                    slowest = max(slowest, served.slowest)
                    longest_wait = max(longest_wait, served.longest_wait)
                    served.end()
    print(f"{sum(examples.values()):,} examples: {dict(examples)}; seed {start}")
    print(f"the slowest request took {slowest[0]:.2f} s: {slowest[1]}")
    print(f"a heartbeat waited for {longest_wait[0]:.2f} s at most: beside {longest_wait[1]}")
    print(f"{len(failures)} kinds of failures")
    return int(bool(failures) or longest_wait[0] > LONGEST_WAIT)


def search(name: str, served: Served, number: int, examples: Counter[str]) -> None:
    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        PROPERTIES[name](served, data)
        examples[name] += 1

    check()


def report(name: str, error: BaseException, failures: dict[str, str]) -> None:
    cause = error.__cause__ or error
    frames = traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if "wandb_tl" in frame.filename] or frames
    place = f"{type(cause).__name__} in {Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name}"
    if place in failures:
        return
    failures[place] = name
    print(f"{name}: {place}: {str(cause)[:300]}", flush=True)
    for note in getattr(error, "__notes__", ()):
        print(f"    {note[:500]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
