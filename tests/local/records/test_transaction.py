from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project, project_named
from wandb_tl.local.records.transaction import Transaction


def test_a_long_computation_is_made_outside_of_the_transaction(tmp_path: Path) -> None:
    """The action is repeated with its result, and finds what other clients have written meanwhile."""
    database = Database(tmp_path / "wandb.sqlite")
    attempts = []

    def compute() -> int:
        with database.transaction() as db:
            ensure_project(db, "me", "other")
        return 7

    def action(db: Transaction) -> tuple[int, bool]:
        attempts.append(ensure_project(db, "me", "p"))
        return db.outside(("seven",), compute), project_named(db, "me", "other") is not None

    assert database.repeat(action) == (7, True) and len(attempts) == 2
    # Without repeat, it is computed where it is needed.
    with database.transaction() as db:
        assert db.outside(("eight",), lambda: 8) == 8
    database.close()


def test_parts_are_committed_one_by_one(tmp_path: Path) -> None:
    database = Database(tmp_path / "wandb.sqlite")

    def part(name: str, db: Transaction) -> None:
        # The part before is there for other clients, too.
        assert name == "a" or reader_sees("a")
        ensure_project(db, "me", name)

    def reader_sees(name: str) -> bool:
        reader = Database(tmp_path / "wandb.sqlite", read_only=True)
        with reader.transaction() as db:
            found = project_named(db, "me", name) is not None
        reader.close()
        return found

    def action(db: Transaction) -> bool:
        ensure_project(db, "me", "c")
        db.in_parts(("projects",), [partial(part, "a"), partial(part, "b")])
        return project_named(db, "me", "b") is not None

    assert database.repeat(action)
    # Without repeat, all is one transaction.
    with pytest.raises(ZeroDivisionError), database.transaction() as db:
        db.in_parts(("more",), [lambda db: ensure_project(db, "me", "d") and None])
        _ = 1 / 0
    with database.transaction() as db:
        assert project_named(db, "me", "c") and not project_named(db, "me", "d")
    database.close()
