"""What the package needs of a system: nothing that Windows lacks, and no file name that it refuses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_run_sweep import nothing_left_in

WITHOUT_POSIX = str(Path(__file__).with_name("without_posix"))
IMPORT_ALL = """
import importlib, pkgutil, wandb_tl
for module in pkgutil.walk_packages(wandb_tl.__path__, "wandb_tl."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
try:
    exec("import fcntl", {"__name__": "wandb_tl.any"})
except ModuleNotFoundError:
    print("all without fcntl")
"""
# Windows reserves them, with any suffix.
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def test_every_module_loads_without_what_windows_lacks():
    environment = os.environ | {"PYTHONPATH": WITHOUT_POSIX}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORT_ALL], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "all without fcntl", done.stderr


@pytest.mark.long
def test_a_sweep_runs_without_what_windows_lacks(run_environment, tmp_path):
    settings = {"finetuning": False, "pretrained": False, "optimizer": "Adam", "epochs": 1, "image_size": 32}
    settings |= {"train_limit": 256, "test_limit": 128}
    flags = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "wandb_tl.run_sweep", "laptop", "--local", "--root", "root", *flags],
        env=run_environment | {"PYTHONPATH": WITHOUT_POSIX},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0 and "1 run finished" in done.stdout, done.stdout + done.stderr
    assert nothing_left_in(tmp_path)
    names = [path.name for path in tmp_path.rglob("*")]
    refused = [name for name in names if re.search(r'[<>:"|?*\\]|[. ]$', name) or RESERVED.fullmatch(name)]
    assert len(names) > 100 and not refused
