"""What every benchmark says: one line, and the same as JSON with what it ran on."""

from __future__ import annotations

import datetime
import json
import platform
import statistics
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from wandb_tl.sweeping.agent_processes import usable_cores
from wandb_tl.training.devices import device_name, resolve_precision

RESULTS = Path(__file__).parent / "results"


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision() -> str:
    """What this package computes in by default on this machine."""
    return resolve_precision("auto", device())


def machine() -> dict[str, Any]:
    packages = ("torch", "torchvision", "timm", "wandb")
    return {
        "device": device_name(device()),
        "precision": precision(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        **{package: version(package) for package in packages},
    }


def report_seconds(name: str, work: str, seconds: dict[str, list[float]], ours: tuple[str, ...]) -> None:
    """Report the median seconds of each way to do the work, their range, and the ratios to ours."""
    median = {way: statistics.median(times) for way, times in seconds.items()}
    ratios = {own: {way: median[way] / median[own] for way in seconds if way not in ours} for own in ours}
    parts = [f"{way} {taken:.1f} s{_range(seconds[way])}" for way, taken in median.items()]
    for own, by_way in ratios.items():
        times = [f"{ratio:.2f}x as fast as {way}" for way, ratio in by_way.items()]
        parts.append(f"{own} is {' and '.join(times)}")
    line = f"{work}: {', '.join(parts)}"
    report(name, line, {"seconds": seconds, "ratios": ratios})


def _range(times: list[float]) -> str:
    return f" ({min(times):.1f} to {max(times):.1f})" if len(times) > 1 else ""


def report(name: str, line: str, figures: dict[str, Any]) -> None:
    """Print the line, and write the figures to benchmarks/results/NAME.json."""
    print(line, flush=True)
    # Wherever it was started from.
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    about = {"line": line, "command": command, "date": datetime.date.today().isoformat(), **machine()}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(about | {"figures": figures}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
