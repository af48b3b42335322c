"""What tests of training share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from wandb_tl import wandb_process


@pytest.fixture
def offline_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[wandb.Run]:
    """A run of W&B that logs into files in tmp_path."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(mode="offline", dir=tmp_path, project="p") as run:
        yield run
    wandb_process.forget()
