"""How the runs of an agent ended, as JSON lines in a file: the agent writes it, run_sweep reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class AgentEvent:
    """The end of a run, or of the agent itself if run is None. reason: why it failed; empty if it did not."""

    run: str | None
    exit_code: int
    reason: str


def append(file: Path, event: AgentEvent) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(event)) + "\n")


def read(file: Path) -> list[AgentEvent]:
    """The events of a file, which an agent may be writing; none if it does not exist yet."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    # The last line may be incomplete.
    return [AgentEvent(**json.loads(line)) for line in lines if line.endswith("\n")]
