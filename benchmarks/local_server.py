"""The embedded server on a folder of its own, for benchmarks that need one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[dict[str, str]]:
    """A server for the block; yields the environment of its clients, whose files go into the folder."""
    root = ["--root", str(folder / "root")]
    module = [sys.executable, "-m", "wandb_tl.local"]
    command = [*module, "serve", "--port", "0", *root]
    server = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()
        shown = subprocess.run(
            [*module, "env", "--json", *root], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        own = {"WANDB_DIR": str(folder), "WANDB_SILENT": "true", "WANDB_MODE": "online"}
        yield os.environ | json.loads(shown.stdout) | own
    finally:
        server.terminate()
        server.wait()
