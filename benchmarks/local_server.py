"""The embedded server on a folder of its own, for benchmarks that need one."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from whole_process import REPOSITORY, variables


@contextlib.contextmanager
def serving(folder: Path, checkout: Path = REPOSITORY) -> Iterator[dict[str, str]]:
    """A checkout's server for the block; yields the environment variables of its clients."""
    environment = variables(folder, checkout)
    root = ["--root", str(folder / "root")]
    module = [sys.executable, "-m", "wandb_tl.local"]
    command = [*module, "serve", "--port", "0", *root]
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()
        client = subprocess.run(
            [*module, "env", "--json", *root],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        yield environment | json.loads(client.stdout) | {"WANDB_MODE": "online"}
    finally:
        server.terminate()
        server.wait()
