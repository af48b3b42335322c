"""The console: lines that are rewritten, and its pages."""

from __future__ import annotations

import json

from stream_lab import chunk, post

from wandb_tl.local.records.streams import OUTPUT
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import console


def test_console_rewrites_early_lines_and_keeps_the_tail(db: Transaction) -> None:
    post(db, files=chunk(OUTPUT, 0, "t0 0%", "t1 b", "ERROR t2 c"))
    post(db, files=chunk(OUTPUT, 0, "t0 100%"))
    post(db, files=chunk(OUTPUT, 5, json.dumps({"ts": "t5", "content": "last", "level": "error"})))
    lines = [edge["node"] for edge in console.log_lines(db, 1, None, None, None)["edges"]]
    assert [(line["number"], line["line"], line["level"]) for line in lines] == [
        (0, "100%", None),
        (1, "b", None),
        (2, "c", "error"),
        (5, "last", "error"),
    ]
    page = console.log_lines(db, 1, 2, None, None)
    assert page["page_info"] == {"end_cursor": "1", "has_next_page": True}
    assert [e["cursor"] for e in console.log_lines(db, 1, 2, "1", None)["edges"]] == ["2"]
    assert [e["cursor"] for e in console.log_lines(db, 1, None, None, 1)["edges"]] == ["5"]
