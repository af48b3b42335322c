"""W&B's own check of a server, as it is given to those who host one."""

from __future__ import annotations

import subprocess

import pytest
from live_server import Server


@pytest.mark.long
def test_wandb_verify_passes_but_for_https(server: Server) -> None:
    done = subprocess.run(
        ["wandb", "verify", "--host", server.url],
        cwd=server.folder / "client",
        env=server.env | {"TMPDIR": str(server.folder)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    checks = [line.rstrip("✅❌").rstrip(".") for line in shown.splitlines() if line.startswith("Checking")]
    failed = [line for line in shown.splitlines() if "❌" in line]
    assert len(checks) == 10 and "Checking sweep creation and agent execution" in checks, shown
    assert len(failed) == 2 == shown.lower().count("not made over https"), shown
    assert "Checking requests to base url" in failed[0] and "over signed URLs" in failed[1], shown
