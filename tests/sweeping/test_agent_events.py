"""What run_sweep reads of the events that an agent writes."""

from wandb_tl.sweeping import agent_events
from wandb_tl.sweeping.agent_events import AgentEvent


def test_events_are_read_as_they_were_written(tmp_path):
    file = tmp_path / "events.jsonl"
    assert agent_events.read(file) == []
    events = [AgentEvent("abc", 0, ""), AgentEvent(None, 2, "no such sweep:\n“é”")]
    for event in events:
        agent_events.append(file, event)
    assert agent_events.read(file) == events


def test_a_line_that_is_not_complete_yet_is_left_out(tmp_path):
    file = tmp_path / "events.jsonl"
    agent_events.append(file, AgentEvent("abc", 1, "error"))
    with file.open("a") as lines:
        lines.write('{"run": "def", "exit')
    assert agent_events.read(file) == [AgentEvent("abc", 1, "error")]
