"""Filters and orders against what W&B documents for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import filters, patterns
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.records.transaction import Transaction

RUNS: dict[str, dict[str, Any]] = {
    "a": {"config": {"lr": 0.1, "b.c": 1}, "summary": {"loss": 0.5, "n/m": 1}, "tags": ["x", "y"]},
    "b": {"config": {"lr": 0.01, "net": {"depth": 3}}, "summary": {"loss": float("nan")}, "state": "failed"},
    "c": {"config": {"lr": "high", "on": True}, "summary": {"loss": 2, "deep": {"er": 5}}, "tags": ["x"]},
    "d": {"config": {}, "summary": {}, "display_name": "delta run", "group_name": "g"},
}


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Database(tmp_path_factory.mktemp("filters") / "wandb.sqlite").transaction() as database:
        project = ensure_project(database, None, "p")
        for number, (name, run) in enumerate(RUNS.items()):
            run = {"state": "finished", "display_name": name, "tags": []} | run
            run["config"] = json.dumps({key: {"value": value} for key, value in run["config"].items()})
            run |= {"summary": json.dumps(run["summary"]), "tags": json.dumps(run["tags"])}
            database.insert(
                "run", project_id=project["id"], name=name, created_at=1.7e9 + 86_400 * number, **run
            )
        yield database


def names(db: Transaction, wanted: Any, order: str | None = None) -> str:
    condition, values = filters.where(json.dumps(wanted) if wanted is not None else None)
    terms, bound = filters.order_by(order)
    return "".join(
        row["name"]
        for row in db.all(f"SELECT * FROM run WHERE {condition} ORDER BY {terms}", *values, *bound)
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, "abcd"),
        ({}, "abcd"),
        ({"state": "failed"}, "b"),
        ({"state": {"$ne": "failed"}}, "acd"),
        ({"name": {"$in": ["a", "d", "zz"]}}, "ad"),
        ({"name": {"$in": []}}, ""),
        ({"name": {"$nin": ["a", "d"]}}, "bc"),
        ({"name": {"$in": [*map(str, range(5000)), "b"]}}, "b"),
        ({"$or": [*({"name": str(n)} for n in range(5000)), {"name": "b"}]}, "b"),
        ({"$and": [{"name": {"$ne": str(n)}} for n in range(5000)] + [{"name": "b"}]}, "b"),
        ({"group": {"$in": [None, "x"]}}, "abc"),
        ({"group": {"$in": ["x"]}}, ""),
        ({"group": {"$nin": [None]}}, "d"),
        ({"group": {"$nin": ["x"]}}, "abcd"),
        ({"config.lr": {"$in": [0.1, "high", 5, float("nan"), float("inf"), -float("inf")]}}, "ac"),
        ({"config.lr": {"$in": [1 << 70, 0.01]}}, "b"),
        ({"config.lr": {"$lt": 1 << 70}}, "ab"),
        ({"config.on": {"$in": [True]}}, "c"),
        ({"config.net": {"$in": [{"depth": 3}, [1]]}}, "b"),
        ({"tags": {"$in": [*map(str, range(5000)), "y"]}}, "a"),
        ({"display_name": {"$regex": "^delta"}}, "d"),
        ({"display_name": {"$contains": "ta r"}}, "d"),
        ({"display_name": {"$contains": ".*"}}, ""),
        ({"tags": {"$contains": "y"}}, "a"),
        ({"displayName": "delta run"}, "d"),
        ({"group": "g"}, "d"),
        ({"group": None}, "abc"),
        ({"config.lr": 0.1}, "a"),
        ({"config.lr.value": 0.1}, "a"),
        ({"config.lr": {"$gt": 0.001}}, "ab"),
        ({"config.lr": {"$gt": 0.01, "$lt": 1}}, "a"),
        ({"config.lr": {"$exists": False}}, "d"),
        ({"config.lr": {"$exists": True}}, "abc"),
        ({"config.lr": {"$ne": 0.1}}, "bcd"),
        ({"config.on": True}, "c"),
        ({"config.net.depth": 3}, "b"),
        ({"config.net.value.depth": {"$gte": 3}}, "b"),
        ({"config.b.c": 1}, "a"),
        ({"config.b.c.value": 1}, "a"),
        ({"summary_metrics.loss": {"$lte": 2}}, "ac"),
        ({"summary_metrics.loss": {"$not": {"$lt": 1}}}, "bcd"),
        ({"summary_metrics.deep.er": 5}, "c"),
        ({"summary_metrics.n/m": 1}, "a"),
        ({"tags": "x"}, "ac"),
        ({"tags": {"$in": ["y", "z"]}}, "a"),
        ({"tags": {"$nin": ["y"]}}, "bcd"),
        ({"tags": {"$ne": "x"}}, "bd"),
        ({"tags": {"$all": ["x", "y"]}}, "a"),
        ({"tags": {"$all": []}}, ""),
        ({"config.lr": {"$all": [0.1]}}, "a"),
        ({"config.lr": {"$all": [0.1, 0.01]}}, ""),
        ({"summary_metrics['n/m']": 1}, "a"),
        ({'config["net"].depth': 3}, "b"),
        ({"created_at": {"$gt": "2023-11-15T22:00:00"}}, "bcd"),
        ({"createdAt": {"$lt": "2023-11-16T00:00:00Z"}}, "ab"),
        ({"$or": [{"name": "a"}, {"state": "failed"}]}, "ab"),
        ({"$and": [{"tags": "x"}, {"$nor": [{"name": "a"}]}]}, "c"),
        ({"$not": {"name": "a"}}, "bcd"),
        ({"name": "a' OR 1=1 --"}, ""),
        ({"created_at": {"$gt": 10**400}}, ""),
        ({"created_at": {"$lt": 10**400}}, "abcd"),
    ],
)
def test_filter(db: Transaction, wanted: Any, expected: str) -> None:
    assert names(db, wanted) == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (None, "abcd"),
        ("+created_at", "abcd"),
        ("-created_at", "dcba"),
        ("+summary_metrics.loss", "acbd"),
        ("-summary_metrics.loss", "cadb"),
        ("+config.lr.value", "bacd"),
        ("-state,-name", "dcab"),
        ("-summary_metrics['loss']", "cadb"),
        ("+config['lr'].value,-summary_metrics['a,b']", "bacd"),
    ],
)
def test_order_puts_runs_without_the_key_last(db: Transaction, order: str | None, expected: str) -> None:
    assert names(db, None, order) == expected


def nested(levels: int) -> str:
    return '{"$not": ' * (levels - 1) + '{"name": "a"}' + "}" * (levels - 1)


def test_a_filter_may_have_many_levels(db: Transaction) -> None:
    assert names(db, json.loads(nested(19))) == "a"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{broken", "not valid JSON"),
        ("[1]", "object of key"),
        ('{"$where": 1}', r"\$where is not supported"),
        ('{"name": {"$near": 1}}', r"\$near is not supported"),
        ('{"colour": 1}', "cannot be filtered or ordered by colour"),
        ('{"$or": {}}', "takes a list"),
        ('{"name": {"$regex": "("}}', "not a valid regular expression"),
        ('{"name": {"$regex": "a(?=b)"}}', "not a valid regular expression: invalid perl operator"),
        ('{"name": {"$regex": "\\\\ud800"}}', "not a valid regular expression"),
        ('{"name": {"$regex": 3}}', "3 is not a valid regular expression"),
        (json.dumps({"name": {"$regex": "a" * 1001}}), "may have 1000 characters, not 1001"),
        ('{"name": {"$contains": 3}}', "takes a string"),
        ('{"created_at": {"$gt": "soon"}}', "not a valid ISO 8601 time"),
        (json.dumps({"$or": [{"name": "a"}] * 10_001}), "10,000 values, not 10,001"),
        (nested(21), "nested 20 levels deep"),
        (nested(50_000), "nested 20 levels deep"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        filters.where(text)


def test_an_order_has_few_keys() -> None:
    with pytest.raises(RequestError, match="100 keys, not 101"):
        filters.order_by(",".join(["+name"] * 101))


def test_a_regular_expression_takes_time_in_proportion_to_the_text() -> None:
    """Engines that go back and try again need 2^40 steps for the first one."""
    assert not patterns.matches("^(a+)+$", "a" * 40 + "b")
    assert patterns.matches(r"^(é|\w)+\d$", "é" * 100_000 + "7")
    assert not patterns.matches("a", None) and patterns.matches("^2$", 2)


def test_large_results_come_in_pages(db: Transaction) -> None:
    seen, after = "", None
    while True:
        page = db.page("SELECT * FROM run ORDER BY id", [], 3, after)
        seen += "".join(edge["node"]["name"] for edge in page["edges"])
        after = page["page_info"]["end_cursor"]
        if not page["page_info"]["has_next_page"]:
            break
    assert seen == "abcd" and page["total_count"]() == 4
