"""Answers of sweeps: what is kept, and what is refused in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.records.transaction import Transaction, existing
from wandb_tl.local.sweeps import answers, sweep_rows

ANSWER = {
    "sentences": ["Use row 1: `lr=0.1`.", "It is best."],
    "commands": [{"label": "to train it again", "line": "python -m wandb_tl.train --lr 0.1"}],
    "tables": [{"title": "Recipes", "columns": ["Row", "lr"], "rows": [["1", "0.1"], ["2", ""]]}],
    "runs": 2,
    "finished": 3,
}


@pytest.fixture
def db(tmp_path: Path) -> Any:
    database = Database(tmp_path / "wandb.sqlite")
    with database.transaction() as transaction:
        yield transaction
    database.close()


def new_sweep(db: Transaction) -> Any:
    config = json.dumps({"method": "grid", "parameters": {"lr": {"values": [0.1, 1]}}})
    return sweep_rows.create(db, ensure_project(db, "a/team", "p"), config)[0]


def test_a_later_answer_replaces_the_earlier_one(db: Transaction) -> None:
    sweep = new_sweep(db)
    assert answers.of_sweep(db, sweep) is None
    for runs in (2, 3):
        answers.attach(db, "a/team", "p", sweep["name"], {**ANSWER, "runs": runs})
    answer, created = existing(answers.of_sweep(db, sweep))
    assert answer == {**ANSWER, "runs": 3} and created == db.now
    db.run("DELETE FROM sweep WHERE id = ?", sweep["id"])
    assert db.value("SELECT count(*) FROM answer") == 0


def test_without_the_sweep(db: Transaction) -> None:
    sweep = new_sweep(db)
    for entity, project, name in (("a/team", "p", "other"), ("a/team", "q", sweep["name"])):
        with pytest.raises(RequestError, match=f"there is no sweep {entity}/{project}/{name}") as refused:
            answers.attach(db, entity, project, name, ANSWER)
        assert refused.value.status == 404


def change(path: str, value: Any) -> Callable[[dict], None]:
    """Sets what a path such as tables.0.title names."""

    def apply(answer: Any) -> None:
        *parents, last = (int(part) if part.isdecimal() else part for part in path.split("."))
        for part in parents:
            answer = answer[part]
        answer[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sentences", [], "sentences is not a list of 1 to 50 items"),
        ("sentences", "Use row 1", "sentences is not a list of 1 to 50 items"),
        ("sentences", ["x"] * 51, "sentences is not a list of 1 to 50 items"),
        ("sentences.1", "", "sentences[1] is not a string of 1 to 8,000 characters"),
        ("sentences.0", "x" * 8001, "sentences[0] is not a string of 1 to 8,000 characters"),
        ("sentences.0", "\ud800", "sentences[0] is not valid Unicode"),
        ("commands.0", "ls", "commands[0] is not a JSON object"),
        ("commands.0.line", 1, "commands[0].line is not a string of 1 to 8,000 characters"),
        ("commands.0.run", True, "commands[0] has a key that is not known: 'run'"),
        ("tables.0.rows.1", ["2"], "tables[0].rows[1] is not a list of 2 items"),
        ("tables.0.rows.1.0", 2, "tables[0].rows[1][0] is not a string of 0 to 1,000 characters"),
        ("tables.0.caption", None, "tables[0].caption is not a string of 1 to 8,000 characters"),
        ("runs", True, "runs is not a whole number from 0 to 1,000,000,000"),
        ("finished", -1, "finished is not a whole number from 0 to 1,000,000,000"),
        ("finished", float("nan"), "finished is not a whole number from 0 to 1,000,000,000"),
    ],
)
def test_what_is_not_an_answer_is_refused_in_one_line(path: str, value: Any, message: str) -> None:
    answer = copy.deepcopy(ANSWER)
    change(path, value)(answer)
    with pytest.raises(RequestError) as refused:
        answers.check(answer)
    assert str(refused.value) == message and refused.value.status == 400


@pytest.mark.parametrize("key", list(ANSWER))
def test_every_part_must_be_there(key: str) -> None:
    with pytest.raises(RequestError, match=f"^the answer has no {key}$"):
        answers.check({name: value for name, value in ANSWER.items() if name != key})
