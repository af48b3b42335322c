"""The keys that a run has logged: counted as lines arrive."""

from __future__ import annotations

from pathlib import Path

import pytest
from stream_lab import chunk, post, rows, run

from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import file_stream, history_keys
from wandb_tl.local.runs.lines import Line


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


def test_a_line_of_very_many_keys_has_few_of_them_counted(db: Transaction) -> None:
    post(
        db,
        files=chunk(
            HISTORY, 0, *rows(0, 1, **{f"m{number}": 1 for number in range(15_000)}), *rows(2, new=1)
        ),
    )
    found = history_keys.keys_of(db, run(db))
    assert len(found["keys"]) == history_keys.MOST_KEYS and "new" not in found["keys"]
    assert found["keys"]["m7"]["typeCounts"] == [{"type": "number", "count": 2}] and found["lastStep"] == 2


def test_keys_beyond_the_most_are_left_out_in_the_order_of_lines(
    db: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_keys, "MOST_KEYS", 3)
    post(db, files=chunk(HISTORY, 0, *rows(0, a=1), *rows(1, b=1, c=1, a=1), *rows(2, c=1, b=1)))
    found = history_keys.keys_of(db, run(db))
    counts = {key: statistics["typeCounts"][0]["count"] for key, statistics in found["keys"].items()}
    assert counts == {"_step": 3, "a": 2, "b": 2} and found["lastStep"] == 2


def test_more_keys_than_the_most_that_were_counted_before_there_was_a_limit_stay(
    db: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(db, files=chunk(HISTORY, 0, *rows(0, a=1, b=1)))
    monkeypatch.setattr(history_keys, "MOST_KEYS", 1)
    post(db, files=chunk(HISTORY, 1, *rows(1, a=1, c=1)))
    found = history_keys.keys_of(db, run(db))
    counts = {key: statistics["typeCounts"][0]["count"] for key, statistics in found["keys"].items()}
    assert counts == {"_step": 2, "a": 2, "b": 1}


def test_other_clients_write_while_a_long_line_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them writes the next line of the same run."""
    database = Database(tmp_path / "wandb.sqlite")
    with database.transaction() as db:
        project = ensure_project(db, None, "p")["id"]
        db.insert("run", project_id=project, name="r", display_name="r", state="running", created_at=0.0)
    [part] = file_stream.parts({"files": chunk(HISTORY, 0, *rows(0, x=1, text="a" * 200_000))})
    count, counted = history_keys._with_lines, []

    def count_beside(stored: str | None, texts: tuple[str, ...], parsed: dict[str, Line]) -> str:
        counted.append(len(texts))
        if len(counted) == 1:
            with database.transaction() as other:
                post(other, files=chunk(HISTORY, 1, *rows(1, x=1, y=1)))
        return count(stored, texts, parsed)

    monkeypatch.setattr(history_keys, "_with_lines", count_beside)
    database.repeat(lambda db: file_stream.receive(db, "local", "p", "r", part))
    assert counted == [1, 1, 2]
    with database.transaction() as db:
        assert run(db)["history_keys_lines"] == 2
        found = history_keys.keys_of(db, run(db))
    counts = {key: statistics["typeCounts"][0]["count"] for key, statistics in found["keys"].items()}
    assert counts == {"_step": 2, "x": 2, "text": 1, "y": 1}
    database.close()


def test_a_run_of_long_lines_that_were_changed_is_counted_again(
    db: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lines at a time, however long they are."""
    monkeypatch.setattr(history_keys, "NOTED_CHARACTERS", 1)
    for step in range(5):
        post(db, files=chunk(HISTORY, step, *rows(step, x=1)))
    post(db, files=chunk(HISTORY, 1, *rows(1, x="changed")))
    assert run(db)["history_keys_lines"] == 2
    for step in range(5, 9):
        post(db, files=chunk(HISTORY, step, *rows(step, x=1)))
    assert run(db)["history_keys_lines"] == 9
    types = history_keys.keys_of(db, run(db))["keys"]["x"]["typeCounts"]
    assert types == [{"type": "number", "count": 8}, {"type": "string", "count": 1}]
