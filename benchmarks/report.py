"""What every benchmark says: one line, and the same as JSON with what it ran on."""

from __future__ import annotations

import datetime
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from wandb_tl.agents import usable_cores
from wandb_tl.devices import device_name

RESULTS = Path(__file__).parent / "results"


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> dict[str, Any]:
    packages = ("torch", "torchvision", "timm", "wandb")
    return {
        "device": device_name(device()),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        **{package: version(package) for package in packages},
    }


def report(name: str, line: str, figures: dict[str, Any]) -> None:
    """Print the line, and write the figures to benchmarks/results/NAME.json."""
    print(line, flush=True)
    command = " ".join(["python", *sys.argv])
    about = {"line": line, "command": command, "date": datetime.date.today().isoformat(), **machine()}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(about | {"figures": figures}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
