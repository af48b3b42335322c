"""The answer of a sweep: what its runs say, as a client has computed it. Checked on arrival, kept as JSON."""

from __future__ import annotations

import json
from typing import Any, NotRequired, TypedDict

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.names import project_named
from wandb_tl.local.records.rows import AnswerRow, SweepRow
from wandb_tl.local.records.transaction import Transaction

# The size of the largest answer, as JSON.
BYTES = 256 * 2**10
# Characters of a sentence, a command or a caption; of a title or a label; of a table's cell.
LONG, SHORT, CELL = 8000, 200, 1000
# Items of the lists.
SENTENCES, COMMANDS, TABLES, COLUMNS, ROWS = 50, 10, 10, 60, 200
# The largest number of runs.
RUNS = 10**9


class Command(TypedDict):
    """A command line to copy, and what it is for."""

    label: str
    line: str


class Table(TypedDict):
    """A table of strings; each row has a cell per column."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: NotRequired[str]


class Answer(TypedDict):
    """What the runs of a sweep say.

    sentences: the first one is the most important. `code` is their only markup. runs: how many runs it was
    computed from. finished: how many runs of the sweep had finished by then, with those that it leaves out.
    """

    sentences: list[str]
    commands: list[Command]
    tables: list[Table]
    runs: int
    finished: int


def attach(db: Transaction, entity: str, project_name: str, sweep_name: str, value: Any) -> None:
    """Keep the answer of a sweep; it replaces an earlier one.

    Raises RequestError for a value that is not a valid answer (400), or if there is no such sweep (404).
    """
    content = json.dumps(check(value))
    project = project_named(db, entity, project_name)
    query = "SELECT * FROM sweep WHERE project_id = ? AND name = ?"
    sweep = project and db.one(query, project["id"], sweep_name, row=SweepRow)
    if not sweep:
        raise RequestError(f"there is no sweep {entity}/{project_name}/{sweep_name}", 404)
    db.run("INSERT OR REPLACE INTO answer VALUES (?, ?, ?)", sweep["id"], content, db.now)


def of_sweep(db: Transaction, sweep: SweepRow) -> tuple[Answer, float] | None:
    """The answer of a sweep and when it came (Unix seconds); None if it has none."""
    row = db.one("SELECT * FROM answer WHERE sweep_id = ?", sweep["id"], row=AnswerRow)
    return None if row is None else (json.loads(row["content"]), row["created_at"])


def check(value: Any) -> Answer:
    """The value as an answer. Raises RequestError (400) in one line if it is not a valid one."""
    fields = _object(value, "the answer", set(Answer.__annotations__))
    numbers = {name: fields[name] for name in ("runs", "finished")}
    for name, number in numbers.items():
        if type(number) is not int or not 0 <= number <= RUNS:
            raise RequestError(f"{name} is not a whole number from 0 to {RUNS:,}", 400)
    return {
        "sentences": [
            _string(one, f"sentences[{i}]", LONG)
            for i, one in enumerate(_list(fields["sentences"], "sentences", 1, SENTENCES))
        ],
        "commands": [
            _command(one, f"commands[{i}]")
            for i, one in enumerate(_list(fields["commands"], "commands", 0, COMMANDS))
        ],
        "tables": [
            _table(one, f"tables[{i}]") for i, one in enumerate(_list(fields["tables"], "tables", 0, TABLES))
        ],
        "runs": numbers["runs"],
        "finished": numbers["finished"],
    }


def _command(value: Any, place: str) -> Command:
    fields = _object(value, place, set(Command.__annotations__))
    return {
        "label": _string(fields["label"], f"{place}.label", SHORT),
        "line": _string(fields["line"], f"{place}.line", LONG),
    }


def _table(value: Any, place: str) -> Table:
    fields = _object(value, place, {"title", "columns", "rows"}, {"caption"})
    columns = [
        _string(one, f"{place}.columns[{i}]", SHORT, least=0)
        for i, one in enumerate(_list(fields["columns"], f"{place}.columns", 1, COLUMNS))
    ]
    rows = [
        [
            _string(cell, f"{place}.rows[{i}][{j}]", CELL, least=0)
            for j, cell in enumerate(_list(row, f"{place}.rows[{i}]", len(columns), len(columns)))
        ]
        for i, row in enumerate(_list(fields["rows"], f"{place}.rows", 0, ROWS))
    ]
    table: Table = {
        "title": _string(fields["title"], f"{place}.title", SHORT),
        "columns": columns,
        "rows": rows,
    }
    if "caption" in fields:
        table["caption"] = _string(fields["caption"], f"{place}.caption", LONG)
    return table


def _object(value: Any, place: str, keys: set[str], optional: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{place} is not a JSON object", 400)
    if missing := sorted(keys - set(value)):
        raise RequestError(f"{place} has no {missing[0]}", 400)
    if unknown := sorted(set(value) - keys - (optional or set())):
        raise RequestError(f"{place} has a key that is not known: {unknown[0][:SHORT]!r}", 400)
    return value


def _list(value: Any, place: str, least: int, most: int) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        number = f"{least}" if least == most else f"{least} to {most}"
        raise RequestError(f"{place} is not a list of {number} items", 400)
    return value


def _string(value: Any, place: str, most: int, least: int = 1) -> str:
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise RequestError(f"{place} is not a string of {least} to {most:,} characters", 400)
    try:
        value.encode()
    except UnicodeEncodeError:
        # Half of a pair of surrogates: JSON can escape it, but no page can show it.
        raise RequestError(f"{place} is not valid Unicode", 400) from None
    return value
