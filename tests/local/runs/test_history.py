"""How the lines of streams are stored and read, without a client."""

from __future__ import annotations

import json

from stream_lab import chunk, post, rows, run

from wandb_tl.local.records.streams import EVENTS, HISTORY, SUMMARY, line_count
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import history, history_columns, history_keys


def test_lines_land_at_their_offsets_and_sending_twice_changes_nothing(db: Transaction) -> None:
    for _ in range(2):
        post(db, files=chunk(HISTORY, 0, *rows(0, 1, 2)))
        post(db, files=chunk(HISTORY, 3, *rows(50)))
    assert line_count(db, 1, HISTORY) == 4
    assert [json.loads(line)["_step"] for line in history.between(db, 1, 1, 51)] == [1, 2, 50]
    assert history.between(db, 1, 51, 99) == []


def test_summary_is_replaced(db: Transaction) -> None:
    post(db, files=chunk(SUMMARY, 0, '{"a": 1, "b": NaN}'))
    post(db, files=chunk(SUMMARY, 0, '{"a": 2}'))
    assert run(db)["summary"] == '{"a": 2}'


def test_a_summary_that_is_no_object_is_left_out(db: Transaction) -> None:
    post(db, files=chunk(SUMMARY, 0, '{"a": 1}'))
    for wrong in ("{broken", "[1]", "null"):
        post(db, files=chunk(SUMMARY, 0, wrong))
        post(db, writer="writer", files=chunk(SUMMARY, 0, wrong))
    assert run(db)["summary"] == '{"a": 1}'


def test_lines_that_are_no_json_are_kept(db: Transaction) -> None:
    post(db, files=chunk(HISTORY, 0, "{broken", "[1]", *rows(3)))
    assert line_count(db, 1, HISTORY) == 3
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


def test_a_line_far_from_the_others_costs_no_more(db: Transaction) -> None:
    post(db, files=chunk(HISTORY, 0, *rows(*range(250), x=1)))
    post(db, files=chunk(HISTORY, 1 << 61, *rows(999, x=1)))
    assert len(history.sampled(db, 1, HISTORY, 20_000_000)) == 251
    # Its block has not all of its lines yet.
    for _ in range(2):
        lines = history_columns.unstored(db)
        history_columns.store(db, lines, [history_columns.columns_of(block) for block in lines.blocks])
    assert run(db)["column_lines"] == (1 << 61) // 240 * 240 and history_columns.unstored(db) is None
    assert db.value("SELECT count(DISTINCT block) FROM history_column") == 2


def test_lines_that_are_sent_again_are_not_counted_again(db: Transaction) -> None:
    post(db, files=chunk(HISTORY, 0, *rows(*range(10), x=1)))
    db.run('UPDATE run SET history_keys = \'{"lastStep": 9, "keys": {}}\'')
    post(db, files=chunk(HISTORY, 5, *rows(*range(5, 10), x=1)))
    assert history_keys.keys_of(db, run(db)) is None
    post(db, files=chunk(HISTORY, 9, *rows(9, x=2)))
    assert history_keys.keys_of(db, run(db))["keys"]["x"]["typeCounts"] == [{"type": "number", "count": 10}]
