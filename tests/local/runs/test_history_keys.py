"""The keys that a run has logged: counted as lines arrive."""

from __future__ import annotations

from stream_lab import chunk, post, rows, run

from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import history_keys


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
