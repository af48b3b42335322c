"""Filters and orders of runs, collections and versions: the client's Mongo-style JSON -> SQL.

Keys are those that W&B documents (`state`, `display_name`, `config.lr`, `summary_metrics.loss`, ...). As in
Mongo, a missing value equals null, differs from everything else, and is never less or greater than anything.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.json_path import sql_number
from wandb_tl.local.records.names import user_name

COLUMNS = {
    "name": "run.name",
    "state": "run.state",
    "display_name": "run.display_name",
    "displayName": "run.display_name",
    "group": "run.group_name",
    "job_type": "run.job_type",
    "jobType": "run.job_type",
    "notes": "run.notes",
    "description": "run.description",
    "host": "run.host",
    "sweep": "(SELECT sweep.name FROM sweep WHERE sweep.id = run.sweep_id)",
}
TIMES = {
    "created_at": "run.created_at",
    "createdAt": "run.created_at",
    "heartbeat_at": "run.heartbeat_at",
    "heartbeatAt": "run.heartbeat_at",
    "updated_at": "run.heartbeat_at",
    "updatedAt": "run.heartbeat_at",
}
# A pattern is searched while others wait.
LONGEST_PATTERN = 1000

COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}

Compiled = tuple[str, list[Any]]


@dataclass(frozen=True)
class Kind:
    """What rows of a table can be filtered and ordered by.

    `columns` and `times` (Unix seconds; filters hold ISO 8601) map keys to SQL. `sets` maps keys of several
    values to a table expression whose column item.value has them. `other` reads the remaining keys.
    """

    table: str
    plural: str
    columns: dict[str, str]
    times: dict[str, str]
    sets: dict[str, str]
    other: Callable[[str], Compiled | None] = lambda _key: None

    def expression(self, key: str) -> Compiled:
        """A key as an SQL expression, NULL where the row does not have it."""
        if key in self.columns or key in self.times:
            return self.columns.get(key) or self.times[key], []
        found = self.other(key)
        if found is None:
            raise RequestError(f"{self.plural} cannot be filtered or ordered by {key}")
        return found


def where(filters: str | None, kind: Kind | None = None) -> Compiled:
    """The SQL condition on a table (`run` unless told otherwise) and its values for a filter in JSON text.

    Raises RequestError for what it cannot read.
    """
    try:
        parsed = json.loads(filters) if filters else {}
    except ValueError:
        raise RequestError(f"the filter is no JSON: {filters}") from None
    return _condition(parsed or {}, kind or RUNS)


def _condition(filters: Any, kind: Kind) -> Compiled:
    if not isinstance(filters, dict):
        raise RequestError(f"a filter is an object of key: condition, not {json.dumps(filters)}")
    parts = []
    for key, wanted in filters.items():
        if key in ("$and", "$or", "$nor"):
            if not isinstance(wanted, list):
                raise RequestError(f"{key} takes a list of filters")
            joined = _join([_condition(item, kind) for item in wanted], " AND " if key == "$and" else " OR ")
            parts.append(_negated(joined) if key == "$nor" else joined)
        elif key == "$not":
            parts.append(_negated(_condition(wanted, kind)))
        elif key.startswith("$"):
            raise RequestError(f"the filter operator {key} is not supported")
        else:
            parts.append(_key(key, wanted, kind))
    return _join(parts, " AND ")


def _join(parts: list[Compiled], glue: str) -> Compiled:
    if not parts:
        return "1", []
    return _tree([sql for sql, _ in parts], glue), [value for _, values in parts for value in values]


def _tree(conditions: list[str], glue: str) -> str:
    """The conditions joined two by two: SQLite takes a row of them as an expression as deep as it is long."""
    if len(conditions) == 1:
        return f"({conditions[0]})"
    half = len(conditions) // 2
    return f"({_tree(conditions[:half], glue)}{glue}{_tree(conditions[half:], glue)})"


def _negated(part: Compiled) -> Compiled:
    # A comparison with a missing value is NULL in SQL and false in Mongo; its negation is true.
    return f"(NOT coalesce({part[0]}, 0))", part[1]


def _key(key: str, wanted: Any, kind: Kind) -> Compiled:
    tests = wanted if isinstance(wanted, dict) and any(k.startswith("$") for k in wanted) else {"$eq": wanted}
    if key in kind.sets:
        items = kind.sets[key]
        return _join([_set_test(items, operator, value) for operator, value in tests.items()], " AND ")
    expression, values = kind.expression(key)
    convert = _seconds if key in kind.times else _plain
    return _join(
        [_test(expression, values, operator, value, convert) for operator, value in tests.items()], " AND "
    )


def _of_run(key: str) -> Compiled | None:
    if key in ("username", "user"):
        return "?", [user_name()]
    if key == "duration":
        return "(run.heartbeat_at - run.created_at)", []
    root, _, path = key.partition(".")
    if root == "config" and path:
        # config.lr, config.lr.value and config.nested.depth all occur; values sit one level down, under
        # "value".
        head, _, rest = path.partition(".")
        inner = rest.removeprefix("value").removeprefix(".") if rest.split(".")[0] == "value" else rest
        nested = f"{head}.value.{inner}" if inner else f"{head}.value"
        literal = f"{path.removesuffix('.value')}.value"
        return "coalesce(pluck(run.config, ?), pluck(run.config, ?))", [nested, literal]
    if root in ("summary_metrics", "summaryMetrics", "summary") and path:
        return "pluck(run.summary, ?)", [path]
    return None


RUN_TAGS = "json_each(run.tags) AS item"
RUNS = Kind("run", "runs", COLUMNS, TIMES, {"tags": RUN_TAGS, "tag": RUN_TAGS}, _of_run)


def _plain(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return sql_number(value) if isinstance(value, int) else value


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError:
        raise RequestError(f"{value} is no ISO 8601 time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _listed(items: list[Any]) -> str:
    """The items but for null as JSON text that SQLite reads, which knows neither NaN nor Infinity."""
    words = {math.inf: "9e999", -math.inf: "-9e999"}
    known = (item for item in items if item is not None and item == item)
    return f"[{', '.join(words.get(item) or json.dumps(item) for item in known)}]"


def _test(expression: str, bound: list[Any], operator: str, value: Any, convert: Any) -> Compiled:
    if operator in ("$in", "$nin"):
        if not isinstance(value, list):
            raise RequestError(f"{operator} takes a list")
        items = [convert(item) for item in value]
        found = f"{expression} IN (SELECT value FROM json_each(?))", [*bound, _listed(items)]
        if None in items:
            found = _join([found, (f"{expression} IS NULL", bound)], " OR ")
        return _negated(found) if operator == "$nin" else found
    if operator == "$not":
        inner = value if isinstance(value, dict) else {"$eq": value}
        return _negated(_join([_test(expression, bound, op, v, convert) for op, v in inner.items()], " AND "))
    if operator == "$exists":
        return f"({expression} IS {'NOT ' if value else ''}NULL)", bound
    if operator == "$eq":
        return f"({expression} IS ?)", [*bound, convert(value)]
    if operator == "$ne":
        return f"({expression} IS NOT ?)", [*bound, convert(value)]
    if operator == "$regex":
        try:
            re.compile(value)
        except (re.error, TypeError, OverflowError, RecursionError):
            raise RequestError(f"{value} is no regular expression") from None
        if len(value) > LONGEST_PATTERN:
            raise RequestError(
                f"a regular expression may have {LONGEST_PATTERN} characters, not {len(value)}"
            )
        return f"({expression} REGEXP ?)", [*bound, value]
    if operator in COMPARISONS:
        value = convert(value)
        # SQLite sorts every text after every number; only values of one kind are comparable here.
        kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
        sql = f"(typeof({expression}) IN {kinds} AND {expression} {COMPARISONS[operator]} ?)"
        return sql, [*bound, *bound, value]
    raise RequestError(f"the filter operator {operator} is not supported")


def _set_test(items: str, operator: str, value: Any) -> Compiled:
    """Tests of several values, as of tags: one holds where it holds for one of them, a negative for none."""
    negative = {"$ne": "$eq", "$nin": "$in", "$not": "$not"}
    if operator == "$not":
        inner = value if isinstance(value, dict) else {"$eq": value}
        return _negated(_join([_set_test(items, op, v) for op, v in inner.items()], " AND "))
    sql, values = _test("item.value", [], negative.get(operator, operator), value, _plain)
    found = f"EXISTS (SELECT 1 FROM {items} WHERE {sql})"
    return _negated((found, values)) if operator in negative else (found, values)


def order_by(order: str | None, kind: Kind = RUNS) -> Compiled:
    """ORDER BY terms for "+created_at" (the default), "-summary_metrics.loss" or several joined by commas."""
    terms, values = [], []
    for term in (order or "+created_at").split(","):
        term = term.strip()
        if not term:
            continue
        expression, bound = kind.expression(term.lstrip("+-"))
        direction = "DESC" if term.startswith("-") else "ASC"
        terms.append(f"{expression} IS NULL, {expression} {direction}")
        values += [*bound, *bound]
    ties = "DESC" if (order or "").startswith("-") else "ASC"
    return ", ".join([*terms, f"{kind.table}.id {ties}"]), values
