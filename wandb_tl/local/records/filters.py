"""Filters and orders of runs, sweeps, collections and versions: the client's Mongo-style JSON -> SQL.

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
from wandb_tl.local.records import patterns
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
# The levels of a filter. The stack of the parser of SQLite has 100 places, of which a level takes up to five.
DEEPEST = 20
TOO_DEEP = f"a filter can be nested {DEEPEST} levels deep"
# SQLite has 32,766 placeholders or more, and 2,000 terms of an order, of which a key takes two.
MOST_VALUES, MOST_TERMS = 10_000, 100

# A key in brackets, as in summary_metrics['a/b'] and config["x.y"].value.
BRACKETS = re.compile(r"""(\w+)\[(?:'([^']*)'|"([^"]*)")\](.*)""", re.DOTALL)
# The terms of an order: commas in brackets separate nothing.
TERM = re.compile(r"""(?:\['[^']*'\]|\["[^"]*"\]|[^,])+""")

COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}

# An SQL expression or condition, and the values of its placeholders.
Compiled = tuple[str, list[Any]]


@dataclass(frozen=True)
class Kind:
    """The keys that rows of a table can be filtered and ordered by.

    `columns` and `times` (Unix seconds; filters hold ISO 8601) map keys to SQL. `sets` maps keys with several
    values to a table expression whose column item.value has them. `other` compiles the remaining keys.
    """

    table: str
    plural: str
    columns: dict[str, str]
    times: dict[str, str]
    sets: dict[str, str]
    other: Callable[[str], Compiled | None] = lambda _key: None

    def expression(self, key: str) -> Compiled:
        """A key as an SQL expression, NULL where the row does not have it."""
        if match := BRACKETS.fullmatch(key):
            root, single, double, rest = match.groups()
            key = f"{root}.{single if single is not None else double}{rest}"
        if key in self.columns or key in self.times:
            return self.columns.get(key) or self.times[key], []
        compiled = self.other(key)
        if compiled is None:
            raise RequestError(f"{self.plural} cannot be filtered or ordered by {key}")
        return compiled


def where(filters: str | None, kind: Kind | None = None) -> Compiled:
    """The SQL condition on a table (`run` by default) and its values for a filter in JSON.

    Raises RequestError for an invalid filter.
    """
    try:
        parsed = json.loads(filters) if filters else {}
    except ValueError:
        raise RequestError(f"the filter is not valid JSON: {filters}") from None
    except RecursionError:
        raise RequestError(TOO_DEEP) from None
    if _is_deeper(parsed, DEEPEST):
        raise RequestError(TOO_DEEP)
    condition, values = _condition(parsed or {}, kind or RUNS)
    if len(values) > MOST_VALUES:
        raise RequestError(f"a filter can compare with {MOST_VALUES:,} values, not {len(values):,}; try $in")
    return condition, values


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether JSON has more levels of objects and lists than this."""
    if not isinstance(value, (dict, list)):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in items)


def _condition(filters: Any, kind: Kind) -> Compiled:
    if not isinstance(filters, dict):
        raise RequestError(f"a filter is an object of key: condition, not {json.dumps(filters)}")
    parts = []
    for key, operand in filters.items():
        if key in ("$and", "$or", "$nor"):
            if not isinstance(operand, list):
                raise RequestError(f"{key} takes a list of filters")
            joined = _join([_condition(item, kind) for item in operand], " AND " if key == "$and" else " OR ")
            parts.append(_negated(joined) if key == "$nor" else joined)
        elif key == "$not":
            parts.append(_negated(_condition(operand, kind)))
        elif key.startswith("$"):
            raise RequestError(f"the filter operator {key} is not supported")
        else:
            parts.append(_key(key, operand, kind))
    return _join(parts, " AND ")


def _join(parts: list[Compiled], glue: str) -> Compiled:
    if not parts:
        return "1", []
    return _tree([sql for sql, _ in parts], glue), [value for _, values in parts for value in values]


def _tree(conditions: list[str], glue: str) -> str:
    """The conditions joined as a balanced tree: SQLite limits the depth of an expression, also of a chain."""
    if len(conditions) == 1:
        return f"({conditions[0]})"
    half = len(conditions) // 2
    return f"({_tree(conditions[:half], glue)}{glue}{_tree(conditions[half:], glue)})"


def _negated(part: Compiled) -> Compiled:
    # A comparison with a missing value is NULL in SQL and false in Mongo; its negation is true.
    return f"({part[0]} IS NOT TRUE)", part[1]


def _key(key: str, operand: Any, kind: Kind) -> Compiled:
    has_operators = isinstance(operand, dict) and any(name.startswith("$") for name in operand)
    tests = operand if has_operators else {"$eq": operand}
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
        # Clients write config.lr, config.lr.value and config.nested.depth; the values lie one level deeper,
        # under "value".
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
        return _plain(value)
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError:
        raise RequestError(f"{value} is not a valid ISO 8601 time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _listed(items: list[Any]) -> str:
    """The items except null as JSON that SQLite can parse: it supports neither NaN nor Infinity."""
    words = {math.inf: "9e999", -math.inf: "-9e999"}
    comparable = (item for item in items if item is not None and item == item)
    return f"[{', '.join(words.get(item) or json.dumps(item) for item in comparable)}]"


def _test(expression: str, bound: list[Any], operator: str, value: Any, convert: Any) -> Compiled:
    if operator in ("$in", "$nin"):
        if not isinstance(value, list):
            raise RequestError(f"{operator} takes a list")
        items = [convert(item) for item in value]
        member = f"{expression} IN (SELECT value FROM json_each(?))", [*bound, _listed(items)]
        if None in items:
            member = _join([member, (f"{expression} IS NULL", bound)], " OR ")
        return _negated(member) if operator == "$nin" else member
    if operator == "$all":
        return _all(expression, bound, value)
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
        return f"({expression} REGEXP ?)", [*bound, patterns.check(value)]
    if operator == "$contains":
        if not isinstance(value, str):
            raise RequestError("$contains takes a string")
        return f"(instr({expression}, ?) > 0)", [*bound, value]
    if operator in COMPARISONS:
        value = convert(value)
        # SQLite sorts every string after every number; here only values of one type are comparable.
        kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
        sql = f"(typeof({expression}) IN {kinds} AND {expression} {COMPARISONS[operator]} ?)"
        return sql, [*bound, *bound, value]
    raise RequestError(f"the filter operator {operator} is not supported")


def _all(expression: str, bound: list[Any], value: Any) -> Compiled:
    """Whether a value that is a list has all of these; one that is none has only itself."""
    if not isinstance(value, list):
        raise RequestError("$all takes a list")
    items = f"json_each(CASE WHEN json_valid({expression}) THEN {expression} ELSE '[]' END)"
    # Of text that is not a list, json_each gives the text itself.
    has = f"({expression} IS ? OR EXISTS (SELECT 1 FROM {items} AS item WHERE item.value IS ?))"
    tests = [(has, [*bound, item, *bound, *bound, item]) for item in map(_plain, value)]
    return _join(tests, " AND ") if tests else ("0", [])


def _set_test(items: str, operator: str, value: Any) -> Compiled:
    """A test of a key with several values, such as tags: one value must pass; with a negation, none may."""
    negative = {"$ne": "$eq", "$nin": "$in", "$not": "$not"}
    if operator == "$not":
        inner = value if isinstance(value, dict) else {"$eq": value}
        return _negated(_join([_set_test(items, op, v) for op, v in inner.items()], " AND "))
    if operator == "$all":
        if not isinstance(value, list):
            raise RequestError("$all takes a list")
        each = [_set_test(items, "$eq", one) for one in value]
        return _join(each, " AND ") if each else ("0", [])
    sql, values = _test("item.value", [], negative.get(operator, operator), value, _plain)
    exists = f"EXISTS (SELECT 1 FROM {items} WHERE {sql})"
    return _negated((exists, values)) if operator in negative else (exists, values)


def order_by(order: str | None, kind: Kind = RUNS) -> Compiled:
    """ORDER BY terms for "+created_at" (the default), "-summary_metrics.loss" or several joined by commas."""
    terms, values = [], []
    keys = TERM.findall(order or "+created_at")
    if len(keys) > MOST_TERMS:
        raise RequestError(f"an order can have {MOST_TERMS} keys, not {len(keys):,}")
    for term in keys:
        term = term.strip()
        if not term:
            continue
        expression, bound = kind.expression(term.lstrip("+-"))
        direction = "DESC" if term.startswith("-") else "ASC"
        terms.append(f"{expression} IS NULL, {expression} {direction}")
        values += [*bound, *bound]
    ties = "DESC" if (order or "").startswith("-") else "ASC"
    return ", ".join([*terms, f"{kind.table}.id {ties}"]), values
