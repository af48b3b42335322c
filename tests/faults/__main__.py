"""python -m tests.faults --kills 100 --seed 1: sweeps whose processes are killed, and what is wrong then.

Each sweep has eight points. Half of the sweeps reach their server through a proxy whose connections are cut;
in the other half run_sweep starts the server.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from . import checks
from .moments import Faults
from .stage import PATIENCE_SECONDS, TERM, Process, Stage

POINTS = {"seed": [0, 1, 2, 3], "optimizer": ["Adam", "SGD"]}
RESTARTS = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--kills-per-sweep", type=int, default=12)
    parser.add_argument("--seed", type=int, help="default: a random one, which is printed")
    parser.add_argument("--only", nargs="*", default=[], help='names of faults, such as "agent SIGKILL"')
    parser.add_argument("--folder", type=Path, help="keep all files here (default: a temporary folder)")
    parser.add_argument("--proxy", choices=["always", "never"], help="default: every second sweep")
    options = parser.parse_args()
    seed = secrets.randbelow(10_000) if options.seed is None else options.seed
    folder = options.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    print(f"seed {seed}; files in {folder}", flush=True)
    counts: Counter[str] = Counter()
    faulty = sweeps = 0
    began = time.monotonic()
    while counts.total() < options.kills:
        sweeps += 1
        with_proxy = options.proxy == "always" or (options.proxy is None and sweeps % 2 == 1)
        stage = Stage(folder / str(sweeps), _data(), with_proxy)
        try:
            undisturbed = run_undisturbed(stage)
            faults = Faults(stage, f"{seed}/{sweeps}", tuple(options.only))
            kills = min(options.kills_per_sweep, options.kills - counts.total())
            sweep = run_disturbed(stage, faults, kills)
            problems = list(checks.problems(stage, sweep, undisturbed))
        finally:
            stage.close()
        counts += faults.counts
        faulty += bool(problems)
        print(f"sweep {sweeps}: {faults.counts.total()} faults, {len(problems)} problems", flush=True)
        for problem in problems:
            print(f"  {problem}", flush=True)
    print(f"\n{counts.total()} faults in {sweeps} sweeps, {time.monotonic() - began:,.0f} s, seed {seed}:")
    for name, count in sorted(counts.items()):
        print(f"  {count:4} {name}")
    print(f"{faulty} of {sweeps} sweeps have problems")
    if not faulty and not options.folder:
        shutil.rmtree(folder)
    return int(faulty > 0)


def _data() -> Path:
    from wandb_tl.cache_folder import cache_dir

    return cache_dir() / "FashionMNIST"


def run_undisturbed(stage: Stage) -> str:
    """A sweep to which nothing happens."""
    process = _run_sweep(stage, _definition(stage), "undisturbed")
    assert process.popen.wait(PATIENCE_SECONDS * 2) == 0, process.output.read_text()
    return _path_of(process)


def run_disturbed(stage: Stage, faults: Faults, kills: int) -> str:
    """The same sweep with faults. Whoever is ended by one is started again."""
    process = _run_sweep(stage, _definition(stage), "disturbed")
    path = ""
    # Before there is a sweep, each start makes another one.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path and time.monotonic() < deadline and process.popen.poll() is None:
        path = _path_of(process)
        time.sleep(0.1)
    assert path, process.output.read_text()
    misses = 0
    for _ in range(RESTARTS):
        while process.popen.poll() is None:
            if faults.counts.total() < kills and misses < 100:
                name = faults.next()
                misses = 0 if name else misses + 1
                if name:
                    print(f"    {time.strftime('%X')} {name}", flush=True)
            else:
                time.sleep(0.2)
        if process.popen.returncode == 0 or not _is_unfinished(stage, path):
            break
        process = _run_sweep(stage, path, "disturbed")
    # Children of a killed command may outlive the start of the next one, and keep its temporary folder, which
    # the one after that removes.
    _run_sweep(stage, path, "disturbed").popen.wait(PATIENCE_SECONDS)
    if stage.proxy:
        for server in (process for process in stage.processes if process.name == "server"):
            server.popen.send_signal(TERM)
            server.popen.wait(PATIENCE_SECONDS)
    return path


def _is_unfinished(stage: Stage, path: str) -> bool:
    """Whether a sweep has points left that another start of run_sweep would run."""
    query = "SELECT state FROM sweep WHERE name = ?"
    return stage.query(query, path.split("/")[-1]) != [("FINISHED",)]


def _definition(stage: Stage) -> str:
    file = stage.folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(stage.definition(**POINTS)))
    return str(file)


def _run_sweep(stage: Stage, sweep: str, project: str) -> Process:
    stage.environment["WANDB_PROJECT"] = project
    local = [] if stage.proxy else ["--local", "--root", str(stage.root)]
    return stage.start("run_sweep", "wandb_tl.run_sweep", sweep, "--agents", "2", *local)


def _path_of(process: Process) -> str:
    lines = [line for line in process.lines if line.startswith("Sweep local/")]
    return lines[0].split()[1].rstrip(";") if lines else ""


if __name__ == "__main__":
    sys.exit(main())
