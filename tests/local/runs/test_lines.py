"""Lines of the streams as they are parsed before they are stored."""

from __future__ import annotations

import json

from wandb_tl.local.records.patient_json import PARSED_AT_ONCE
from wandb_tl.local.records.streams import EVENTS, HISTORY, OUTPUT, SUMMARY
from wandb_tl.local.runs.lines import LONGEST, Line, parse


def test_a_line_of_history_has_a_step_and_the_types_of_its_values() -> None:
    media = {"_type": "image-file", "path": "x.png"}
    row = {"_step": 3, "loss": 0.5, "bad": float("nan"), "on": True, "none": None, "text": "a", "list": [1]}
    line = parse(HISTORY, json.dumps({**row, "deep": {"a": {"b": 1}}, "image": media}))
    assert line.step == 3 and line.row is not None and line.row["list"] == [1]
    assert line.values == {
        "_step": ("number", 3),
        "loss": ("number", 0.5),
        "bad": ("number", "NaN"),
        "on": ("boolean", True),
        "none": ("nil", None),
        "text": ("string", "a"),
        "list": ("list", None),
        "deep.a.b": ("number", 1),
        "image": ("image-file", None),
    }


def test_a_long_string_is_not_stored_once_more() -> None:
    line = parse(HISTORY, json.dumps({"short": "x" * LONGEST, "long": "x" * (LONGEST + 1)}))
    assert line.values == {"short": ("string", "x" * LONGEST), "long": ("string", None)}


def test_each_stream_is_parsed_as_far_as_it_is_read() -> None:
    text = '{"_step": 1, "a": 2}'
    row = {"_step": 1, "a": 2}
    assert parse(EVENTS, text) == parse(SUMMARY, text) == Line(text, row, 1)
    assert parse(OUTPUT, text) == Line(text)
    assert [parse(HISTORY, wrong) for wrong in ("{", "[1]")] == [Line("{"), Line("[1]")]


def test_a_long_line_is_parsed_as_a_short_one_is() -> None:
    text = json.dumps({"_step": 1, "a": {"b": [1, "\ud800"]}}) + " " * PARSED_AT_ONCE
    assert parse(HISTORY, text) == parse(HISTORY, text.rstrip())._replace(text=text)
    deep = '{"a": ' + "[" * PARSED_AT_ONCE
    assert parse(HISTORY, deep) == Line(deep)
