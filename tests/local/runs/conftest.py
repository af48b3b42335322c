from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project


@pytest.fixture
def db(tmp_path: Path) -> Any:
    with Database(tmp_path / "wandb.sqlite").transaction() as database:
        project = ensure_project(database, None, "p")
        database.insert(
            "run", project_id=project["id"], name="r", display_name="r", state="running", created_at=0.0
        )
        yield database
