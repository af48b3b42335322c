"""The table of runs as a CSV file: all runs that match, in the order and the columns of the page."""

from __future__ import annotations

import csv
import datetime
import io
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.runs_table import Table
from wandb_tl.local.pages.values import Run
from wandb_tl.local.pages.view import Download

# A spreadsheet reads a cell that begins with one of these as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def download(table: Table, name: str) -> Download:
    """The file of a table. name: what the file is called, without its ending.

    Raises RequestError for a filter that cannot be used: the file would have runs that nobody asked for.
    """
    if table.problem:
        raise RequestError(f"This filter cannot be used: {table.problem}.", 400)
    metrics = [key for key in table.columns.keys if table.baseline and key.startswith("summary.")]
    keys = table.columns.keys[1:]
    file = io.StringIO()
    writer = csv.writer(file)
    header = ["id", "name", *map(_title, keys), *(f"{_title(key)} minus the baseline" for key in metrics)]
    writer.writerow(map(cell, header))
    for run in table.runs:
        values = [run.id, run.name, *(_value(run, key) for key in keys)]
        writer.writerow(map(cell, [*values, *(table.difference(run, key) for key in metrics)]))
    return Download(f"{name}.csv", file.getvalue(), "text/csv")


def cell(value: Any) -> Any:
    """A value as spreadsheets read it. A string that would be a formula gets an apostrophe before it."""
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _title(key: str) -> str:
    """The key as it is written above its column."""
    part, _, name = key.partition(".")
    return name if name and part in ("config", "summary") else key


def _value(run: Run, key: str) -> Any:
    if key == "created":
        return datetime.datetime.fromtimestamp(run.created).astimezone().isoformat(timespec="seconds")
    return round(run.seconds, 3) if key == "duration" else run.value(key)
