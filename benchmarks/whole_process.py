"""Commands as a user waits for them: whole processes that run a checkout's code in a folder of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wandb_tl.cache_folder import cache_dir
from wandb_tl.config import RunConfig
from wandb_tl.training import datasets

REPOSITORY = Path(__file__).parents[1]
# Seconds between two looks at the memory of a command. Each takes about 10 ms of a core.
SAMPLED_EVERY = 0.5


@dataclass(frozen=True)
class Usage:
    """What a command and all its processes take: seconds, and the peaks of two sums in GB.

    rss_gb: resident memory; a page that several processes share counts in each. own_gb: memory that only the
    end of the processes frees. It has no pages of mapped files, which the system drops when it needs them.
    """

    seconds: float
    rss_gb: float
    own_gb: float


def variables(folder: Path, checkout: Path = REPOSITORY) -> dict[str, str]:
    """Environment variables of commands that run the checkout's code and write to the folder.

    The cache that they name is created in the folder and contains only the data.
    """
    datasets.load(RunConfig())  # downloads the data if necessary
    cache = folder / "cache"
    cache.mkdir(parents=True)
    (cache / "FashionMNIST").symlink_to(cache_dir() / "FashionMNIST")
    own = {"PYTHONPATH": checkout, "WANDB_TL_CACHE": cache, "WANDB_DIR": folder, "WANDB_SILENT": "true"}
    return os.environ | {name: str(value) for name, value in own.items()}


def usage_of(arguments: list[object], folder: Path, environment: dict[str, str]) -> Usage:
    """Time and memory of `python ARGUMENTS` from start to exit, with its servers and agents; Linux only.

    environment: as `variables` gives it for this folder: its processes are found by their cache.
    """
    command = [sys.executable, *map(str, arguments)]
    marker = f"WANDB_TL_CACHE={environment['WANDB_TL_CACHE']}".encode()
    rss = own = 0
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True
        )
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(SAMPLED_EVERY)
                break
            memory = [memory_of(process) for process in processes_with(marker)]
            rss = max(rss, sum(resident for resident, _ in memory))
            own = max(own, sum(unshared for _, unshared in memory))
        seconds = time.perf_counter() - began
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)}: exit code {process.returncode}\n{output.read()}")
    return Usage(seconds, rss / 1e9, own / 1e9)


def processes_with(marker: bytes) -> list[Path]:
    """The folders in /proc of the processes with this environment variable."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        # A process may end, or belong to another user.
        with suppress(OSError):
            if marker in (folder / "environ").read_bytes().split(b"\0"):
                found.append(folder)
    return found


def memory_of(process: Path) -> tuple[int, int]:
    """Bytes that a process has in memory, and those that are not of files.

    Of the latter, a page that N processes share after a fork counts as 1/N.
    """
    try:
        lines = (process / "smaps_rollup").read_text()
    except OSError:
        return 0, 0
    kilobytes = {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB$", lines, re.M)}
    return 1024 * kilobytes["Rss"], 1024 * (kilobytes["Pss_Anon"] + kilobytes["Pss_Shmem"])


def seconds_of(arguments: list[object], folder: Path, environment: dict[str, str]) -> float:
    """Seconds that `python ARGUMENTS` takes from start to exit, in the folder. It must succeed."""
    command = [sys.executable, *map(str, arguments)]
    began = time.perf_counter()
    # Not in the repository: the current folder comes before PYTHONPATH.
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if result.returncode:
        sys.exit(f"{' '.join(command)}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    return seconds
