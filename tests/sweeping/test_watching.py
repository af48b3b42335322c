"""What is printed about the runs of a sweep that did not finish."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from wandb_tl.analysis.results import RunStatus
from wandb_tl.sweeping.agent_processes import AgentProcess
from wandb_tl.sweeping.watching import print_unfinished


def agent_with(tmp_path: Path, reasons: dict[str, str]) -> AgentProcess:
    """An agent that has ended, whose runs failed for these reasons, by id."""
    events = tmp_path / "events.jsonl"
    lines = [json.dumps({"run": run, "exit_code": 1, "reason": reason}) for run, reason in reasons.items()]
    events.write_text("\n".join(lines))
    agent = AgentProcess([sys.executable, "-c", ""], os.environ, tmp_path / "log", events)
    agent.process.communicate(timeout=60)
    return agent


def test_runs_that_failed_for_one_reason_share_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = agent_with(tmp_path, {"a": "no weights", "b": "no weights", "c": "out of memory"})
    unfinished = {run: RunStatus(f"sweep-{run}", "crashed") for run in "abcd"}
    print_unfinished(5, unfinished, [agent])
    assert capsys.readouterr().err.splitlines() == [
        "crashed: 2 runs: no weights",
        "  sweep-a (a)",
        "  sweep-b (b)",
        "crashed: sweep-c (c): out of memory",
        "crashed: sweep-d (d)",
        "1 run was never started",
    ]
