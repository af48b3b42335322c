"""The stream's rules and how streams are read, without a client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Database, Transaction
from wandb_tl.local.records.names import ensure_project, run_named
from wandb_tl.local.records.streams import EVENTS, HISTORY, OUTPUT, SUMMARY
from wandb_tl.local.runs import file_stream, history, history_keys


@pytest.fixture
def db(tmp_path: Path) -> Any:
    with Database(tmp_path / "wandb.sqlite").transaction() as database:
        project = ensure_project(database, None, "p")
        database.insert(
            "run", project_id=project["id"], name="r", display_name="r", state="running", created_at=0.0
        )
        yield database


def post(db: Transaction, **body: Any) -> dict:
    return file_stream.receive(db, "local", "p", "r", body)


def chunk(stream: str, offset: int, *lines: str) -> dict:
    return {stream: {"offset": offset, "content": list(lines)}}


def run(db: Transaction) -> dict:
    return run_named(db, ensure_project(db, None, "p"), "r")


def rows(*steps: int, **values: Any) -> list[str]:
    return [json.dumps({"_step": step, **values}) for step in steps]


def test_lines_land_at_their_offsets_and_sending_twice_changes_nothing(db: Transaction) -> None:
    for _ in range(2):
        post(db, files=chunk(HISTORY, 0, *rows(0, 1, 2)))
        post(db, files=chunk(HISTORY, 3, *rows(50)))
    assert file_stream.line_count(db, 1, HISTORY) == 4
    assert [json.loads(line)["_step"] for line in history.between(db, 1, 1, 51)] == [1, 2, 50]
    assert history.between(db, 1, 51, 99) == []


def test_console_rewrites_early_lines_and_keeps_the_tail(db: Transaction) -> None:
    post(db, files=chunk(OUTPUT, 0, "t0 0%", "t1 b", "ERROR t2 c"))
    post(db, files=chunk(OUTPUT, 0, "t0 100%"))
    post(db, files=chunk(OUTPUT, 5, json.dumps({"ts": "t5", "content": "last", "level": "error"})))
    lines = [edge["node"] for edge in history.log_lines(db, 1, None, None, None)["edges"]]
    assert [(line["number"], line["line"], line["level"]) for line in lines] == [
        (0, "100%", None),
        (1, "b", None),
        (2, "c", "error"),
        (5, "last", "error"),
    ]
    page = history.log_lines(db, 1, 2, None, None)
    assert page["page_info"] == {"end_cursor": "1", "has_next_page": True}
    assert [e["cursor"] for e in history.log_lines(db, 1, 2, "1", None)["edges"]] == ["2"]
    assert [e["cursor"] for e in history.log_lines(db, 1, None, None, 1)["edges"]] == ["5"]


def test_summary_is_replaced(db: Transaction) -> None:
    post(db, files=chunk(SUMMARY, 0, '{"a": 1, "b": NaN}'))
    post(db, files=chunk(SUMMARY, 0, '{"a": 2}'))
    assert run(db)["summary"] == '{"a": 2}'


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
        file_stream.receive(db, "local", "p", "other", {})
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
    assert file_stream.line_count(db, 1, HISTORY) == len(found)
    post(db, complete=True, exitcode=float("nan"))
    assert (run(db)["state"], run(db)["exit_code"]) == ("failed", 1)


def test_a_summary_that_is_no_object_is_left_out(db: Transaction) -> None:
    post(db, files=chunk(SUMMARY, 0, '{"a": 1}'))
    for wrong in ("{broken", "[1]", "null"):
        post(db, files=chunk(SUMMARY, 0, wrong))
        file_stream.receive(db, "local", "p", "r", {"files": chunk(SUMMARY, 0, wrong)}, "writer")
    assert run(db)["summary"] == '{"a": 1}'


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
        body = {"files": chunk(HISTORY, number // 2, json.dumps({"loss": number}))}
        file_stream.receive(db, "local", "p", "r", body, f"writer{number % 2}")
    db.connection.set_progress_handler(None, 0)
    rows = db.all("SELECT number, value FROM metric_value ORDER BY line")
    assert [tuple(row.values()) for row in rows] == [(n + 1, float(n)) for n in range(2000)]
    assert work[2] < 1.5 * work[1], work


def test_lines_that_are_no_json_are_kept(db: Transaction) -> None:
    post(db, files=chunk(HISTORY, 0, "{broken", "[1]", *rows(3)))
    assert file_stream.line_count(db, 1, HISTORY) == 3
    assert history_keys.keys_of(db, run(db))["lastStep"] == 3
    assert len(history.sampled(db, 1, HISTORY, None)) == 3


def test_non_finite_numbers_stay_in_text_and_become_words_in_values(db: Transaction) -> None:
    line = '{"_step": 0, "bad": NaN, "big": Infinity, "nested": {"low": -Infinity}, "list": [NaN]}'
    post(db, files=chunk(HISTORY, 0, line))
    assert history.between(db, 1, 0, 1) == [line]
    [row] = history.sampled_keys(db, 1, {"keys": ["bad", "big", "nested.low"]})
    assert row == {"bad": "NaN", "big": "Infinity", "nested.low": "-Infinity"}
    keys = history_keys.keys_of(db, run(db))["keys"]
    json.dumps(keys, allow_nan=False)
    assert keys["nested.low"]["previousValue"] == "-Infinity"


def test_keys_are_counted_as_the_history_grows_and_recounted_after_a_rewrite(db: Transaction) -> None:
    assert history_keys.keys_of(db, run(db)) is None
    media = {"_type": "image-file", "path": "x.png"}
    post(db, files=chunk(HISTORY, 0, *rows(0, 1, loss=0.5, nested={"a/b": 1}, image=media, on=True)))
    found = history_keys.keys_of(db, run(db))
    assert found["lastStep"] == 1
    assert found["keys"]["loss"] == {"typeCounts": [{"type": "number", "count": 2}], "previousValue": 0.5}
    assert found["keys"]["image"]["typeCounts"] == [{"type": "image-file", "count": 2}]
    assert found["keys"]["on"]["typeCounts"] == [{"type": "boolean", "count": 2}]
    assert "nested.a/b" in found["keys"] and "nested" not in found["keys"]
    post(db, files=chunk(HISTORY, 2, *rows(7, loss="text")))
    counts = history_keys.keys_of(db, run(db))["keys"]["loss"]["typeCounts"]
    assert counts == [{"type": "number", "count": 2}, {"type": "string", "count": 1}]
    post(db, files=chunk(HISTORY, 0, *rows(0, 1, 7, other=1)))
    assert set(history_keys.keys_of(db, run(db))["keys"]) == {"_step", "other"}


def test_samples_are_spread_evenly_and_windows_come_whole(db: Transaction) -> None:
    post(db, files=chunk(HISTORY, 0, *rows(*range(1000), x=1)))
    steps = [json.loads(line)["_step"] for line in history.sampled(db, 1, HISTORY, 4)]
    assert steps == [0, 333, 666, 999]
    spec = {"keys": ["_step", "x", "_step"], "samples": 4}
    assert [row["_step"] for row in history.sampled_keys(db, 1, spec)] == steps
    window = history.sampled_keys(db, 1, spec | {"minStep": 10, "maxStep": 20})
    assert [row["_step"] for row in window] == list(range(10, 21))
    assert history.sampled_keys(db, 1, {}) == [] == history.sampled_keys(db, 1, {"keys": ["x", "none"]})
    assert history.ends(db, 1, ["_step"]) == [{"_step": 0}, {"_step": 999}]


def test_tails_are_text_of_a_list_of_text(db: Transaction) -> None:
    assert history.tail(db, 1, EVENTS) == "[]"
    post(db, files=chunk(EVENTS, 0, *rows(0, 1)))
    assert json.loads(json.loads(history.tail(db, 1, EVENTS))[0]) == {"_step": 1}
