"""The rules of the file stream, without a client."""

from __future__ import annotations

import json

import pytest
from stream_lab import chunk, post, run

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.streams import HISTORY, line_count
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import file_stream


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ({"complete": True, "exitcode": 0}, "finished"),
        ({"complete": True, "exitcode": 1}, "failed"),
        ({"complete": True, "exitcode": 255}, "killed"),
        ({"complete": True, "exitcode": 0, "preempting": True}, "finished"),
        ({"complete": True, "exitcode": 143, "preempting": True}, "preempted"),
        ({"preempting": True}, "preempting"),
        ({}, "running"),
    ],
)
def test_state_that_follows(db: Transaction, body: dict, state: str) -> None:
    assert post(db, **body) == {}
    assert run(db)["state"] == state and run(db)["heartbeat_at"] == db.now


def test_a_stopped_run_is_killed_even_if_it_takes_that_for_a_preemption(db: Transaction) -> None:
    db.update("run", 1, stop_requested=1)
    post(db, preempting=True)
    post(db, complete=True, exitcode=143)
    assert run(db)["state"] == "killed"


def test_stop_is_said_until_the_run_ends_and_unknown_runs_are_refused(db: Transaction) -> None:
    db.update("run", 1, stop_requested=1)
    assert post(db) == {"stopped": True}
    assert post(db, complete=True, exitcode=255) == {}
    assert run(db)["state"] == "killed"
    with pytest.raises(RequestError) as refusal:
        post(db, "other")
    assert refusal.value.status == 404


def test_nothing_in_a_body_fails(db: Transaction) -> None:
    steps = ("NaN", "Infinity", "9223372036854775808", "1" * 400, "-1e300", '"5"', "[1]", "7.9")
    lines = [f'{{"_step": {step}}}' for step in steps]
    post(db, files=chunk(HISTORY, 0, *lines, "[" * 100_000, 5, None, {"_step": 8}, "\ud800"))
    found = db.all("SELECT step, text FROM stream_line ORDER BY line")
    assert [row["step"] for row in found] == [None] * 7 + [7, None, None, None, 8, None]
    assert [row["text"] for row in found[-4:]] == ["5", "null", '{"_step": 8}', "?"]
    offsets = ("x", -1, 1e300, [1])
    for wrong in (5, [], {"content": "{}"}, *({"content": ["{}"], "offset": offset} for offset in offsets)):
        post(db, files={HISTORY: wrong})
    post(db, files=[1])
    assert line_count(db, 1, HISTORY) == len(found)
    post(db, complete=True, exitcode=float("nan"))
    assert (run(db)["state"], run(db)["exit_code"]) == ("failed", 1)


def test_a_shared_run_is_looked_at_line_by_line(db: Transaction) -> None:
    config = '{"method": "bayes", "metric": {"name": "loss"}, "parameters": {"a": {"min": 0.0, "max": 1.0}}}'
    times = {"created_at": 0.0, "updated_at": 0.0}
    sweep = db.insert("sweep", project_id=1, name="s", config=config, state="RUNNING", **times)
    db.update("run", 1, sweep_id=sweep)
    work = [0]

    def count() -> None:
        work[-1] += 1

    db.connection.set_progress_handler(count, 100)
    for number in range(2000):
        if number % 1000 == 0:
            work.append(0)
        line = json.dumps({"loss": number})
        post(db, writer=f"writer{number % 2}", files=chunk(HISTORY, number // 2, line))
    db.connection.set_progress_handler(None, 0)
    rows = db.all("SELECT number, value FROM metric_value ORDER BY line")
    assert [tuple(row.values()) for row in rows] == [(n + 1, float(n)) for n in range(2000)]
    assert work[2] < 1.5 * work[1], work


def test_many_lines_are_stored_in_several_transactions() -> None:
    """Other clients wait for one part at most; the end of the process comes with the last one."""
    many, long = [f"{number}" for number in range(2500)], ["x" * 300_000] * 3
    body = {
        "files": {"output.log": {"offset": 7, "content": many}, HISTORY: {"content": long}},
        "complete": True,
    }
    parts = list(file_stream.parts(body))
    assert [part.body for part in parts] == [{}, {}, {}, body]
    stored: dict[str, dict[int, str]] = {"output.log": {}, HISTORY: {}}
    for part in parts:
        assert sum(len(lines) for _, _, lines in part.lines) <= file_stream.PART_LINES
        for stream, offset, lines in part.lines:
            stored[stream] |= {number: line.text for number, line in enumerate(lines, start=offset)}
    assert stored == {"output.log": dict(enumerate(many, start=7)), HISTORY: dict(enumerate(long))}
    assert list(file_stream.parts({})) == [([], {})]
