"""How the runs of an agent ended, as JSON lines in a file: the agent writes it, run_sweep reads it."""

from __future__ import annotations

import json
from contextlib import suppress
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
    events = []
    for line in file.read_text(encoding="utf-8").splitlines():
        # It is incomplete if the agent is writing it, or was killed when it did.
        with suppress(ValueError, TypeError):
            events.append(AgentEvent(**json.loads(line)))
    return events
