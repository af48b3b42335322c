"""Waiting for the agents of a sweep."""

import os
import sys
import time

from wandb_tl.sweeping import watching
from wandb_tl.sweeping.agent_processes import AgentProcess


class NoRuns:
    """A sweep without any run."""

    def statuses(self) -> dict:
        return {}

    def description(self, run_id: str) -> str:
        raise KeyError(run_id)


def test_the_end_of_the_last_agent_ends_the_wait(monkeypatch, tmp_path):
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
