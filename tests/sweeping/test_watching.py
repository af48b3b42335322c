"""Waiting for the agents of a sweep, and what is printed about the runs that did not finish."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from wandb_tl.analysis.results import RunStatus
from wandb_tl.sweeping import watching
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


class NoRuns:
    """A sweep without any run."""

    def statuses(self) -> dict[str, RunStatus]:
        return {}

    def description(self, run_id: str) -> str:
        raise KeyError(run_id)


def test_the_end_of_the_last_agent_ends_the_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 600)
    agents = [
        AgentProcess(
            [sys.executable, "-c", f"import time; time.sleep({seconds})"],
            os.environ,
            tmp_path / f"{seconds}.log",
            tmp_path / f"{seconds}.jsonl",
        )
        for seconds in (0, 1)
    ]
    began = time.monotonic()
    assert watching.watch(agents, None, NoRuns(), None) == {}
    assert time.monotonic() - began < 300 and not any(agent.working for agent in agents)
