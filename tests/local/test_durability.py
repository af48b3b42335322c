"""A server that is killed while agents work; in full size, benchmarks/local_durability.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from durability import ride


@pytest.mark.long
def test_every_point_runs_once_and_loses_nothing(tmp_path: Path) -> None:
    ride(tmp_path, agents=3, sides=(4, 3), kills=2)
