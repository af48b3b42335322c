"""The media that a run logged, by key and by step, as data that a page can show."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import confusion, logged_tables
from wandb_tl.local.pages.confusion import Examples
from wandb_tl.local.pages.curves import axis, declared_metrics
from wandb_tl.local.pages.logged_tables import LargeTableError, LoggedTable, TableError
from wandb_tl.local.pages.media_items import TABLES, Item, ItemReader, Preview, is_media, safely
from wandb_tl.local.pages.table_rows import is_media_cell
from wandb_tl.local.pages.values import Run, is_number, parsed, read_line
from wandb_tl.local.pages.view import PageRequest
from wandb_tl.local.records.json_path import JsonObject, find, finite
from wandb_tl.local.records.rows import StreamLineRow
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.runs import history_keys

# The steps of one key that the slider reaches, and the rows of a Table on a run's page.
STEPS = 60
PREVIEW_ROWS, PREVIEW_COLUMNS = 10, 50
# The keys of media on a page, and the bytes of Tables that are read for it: others have a link.
KEYS, TABLE_BYTES = 300, 8_000_000
# The items of one value, such as a list of images.
ITEMS = 200
# The lines of history that are searched for media, from the end.
LINES = 500
# The line of media that stand only in the summary.
SUMMARY = -1

OUTSIDE_STYLE = re.compile(r'<link rel="stylesheet" type="text/css" href="https?://[^"]*/normalize.css" />')

# The order of media on all pages, by what a key contains: what answers most questions comes first. Keys with
# none of these come before "", those after it are last.
ORDER = (
    "confusion",
    "class_report",
    "examples",
    "predictions",
    "grad_cam",
    "reliability",
    "curves",
    "",
    "feature_map",
)
# The number of a declared metric's option that hides it.
HIDDEN = 2


@dataclass
class Moment:
    """The media of one key at one step: `at` on the key's own axis, in line `line` of the history.

    step: the client's own count. position: its place on the slider of the page. Only a strip's last moment
    has its items from the start: a page fetches the others when they are viewed.
    """

    at: Any
    step: float
    line: int
    position: float = 0.0
    items: list[Item] = field(default_factory=list)


@dataclass
class Strip:
    """A key's moments, oldest first."""

    key: str
    axis: str
    moments: list[Moment]


@dataclass
class Slider:
    """The positions of the slider of all media: values of their common axis, otherwise steps."""

    axis: str
    positions: list[float]


class Media:
    """Reads the media of one run's history and summary."""

    def __init__(self, request: PageRequest, run: Run) -> None:
        self.request, self.db, self.blobs, self.run = request, request.db, request.blobs, run
        self.files = {
            row["name"]: row["blob_id"]
            for row in self.db.all(
                "SELECT file.name, blob_id FROM file JOIN blob ON blob.id = file.blob_id"
                " WHERE run_id = ? AND uploaded_at IS NOT NULL",
                run.row["id"],
            )
        }
        self.reader = ItemReader(request, self.files, run)
        self._examples: Examples | str | None = "not read"
        self._tables: dict[str, LoggedTable | None] = {}
        self._bytes_left = TABLE_BYTES

    def strips(self) -> list[Strip]:
        """All media of the run by key in their order, each key with its last STEPS moments."""
        logged = self._logged(self.logged_keys())
        strips = [strip for key in logged if (strip := self._strip(key, logged[key]))]
        # A confusion matrix is one under any key.
        return sorted(
            strips, key=lambda strip: (strip.moments[-1].items[0].kind != "confusion", *rank(strip.key))
        )

    def strip(self, key: str) -> Strip | None:
        """The moments of one key; None if the run has none of it."""
        return self._strip(key, self._logged([key])[key]) if key in self.logged_keys() else None

    def _strip(self, key: str, logged: list[tuple[Moment, JsonObject]]) -> Strip | None:
        # The newest may not be uploaded yet: the strip ends with the last moment that is.
        for number, (moment, value) in enumerate(logged):
            moment.items = self.items(value, key)
            if moment.items:
                return Strip(
                    key, axis(self.run.row, key), [moment for moment, _ in reversed(logged[number:])]
                )
        return None

    def logged_keys(self) -> list[str]:
        """The keys of media in the history and the summary, without those that are declared hidden."""
        statistics = history_keys.keys_of(self.db, self.run.row)
        keys = [
            key
            for key, value in (statistics["keys"] if statistics else {}).items()
            if any(is_media(count["type"]) for count in value["typeCounts"])
        ]
        keys += [key for key, value in self._summary().items() if is_media(str(value.get("_type")))]
        hidden = {entry.get("1") for entry in declared_metrics(self.run.row) if HIDDEN in entry.get("6", [])}
        return sorted((key for key in dict.fromkeys(keys) if key not in hidden), key=rank)[:KEYS]

    def _summary(self) -> dict[str, JsonObject]:
        return {
            key: value for key, value in parsed(self.run.row["summary"]).items() if isinstance(value, dict)
        }

    def _logged(self, keys: list[str]) -> dict[str, list[tuple[Moment, JsonObject]]]:
        """The moments of each key, without items, and the values; newest first."""
        logged: dict[str, list[tuple[Moment, JsonObject]]] = {key: [] for key in keys}
        rows = self.db.all(
            "SELECT * FROM stream_line WHERE run_id = ? AND stream = ? AND instr(text, '\"_type\"')"
            " ORDER BY line DESC LIMIT ?",
            self.run.row["id"],
            HISTORY,
            LINES,
            row=StreamLineRow,
        )
        for row in rows:
            line = read_line(row["text"])
            for key, moments in logged.items():
                value = find(line, key)
                if len(moments) < STEPS and isinstance(value, dict) and is_media(str(value.get("_type"))):
                    moments.append((self._moment(line, key, row["line"]), value))
        summary = self._summary()
        for key, moments in logged.items():
            value = summary.get(key)
            if not moments and value is not None:
                moments.append((Moment("summary", 0.0, SUMMARY), value))
        return logged

    def _moment(self, line: JsonObject, key: str, number: int) -> Moment:
        at, step = find(line, axis(self.run.row, key)), line.get("_step")
        whole = finite(step)
        whole = float(number) if whole is None else whole
        return Moment(step if at is None else at, whole, number)

    def at(self, key: str, line: int) -> list[Item]:
        """The media of a key in one line of the history, or in the summary if the line is SUMMARY."""
        value = self.value(key, line)
        return self.items(value, key) if value else []

    def value(self, key: str, line: int) -> JsonObject | None:
        """The media value of a key in a line of the history or in the summary; None without one."""
        if line == SUMMARY:
            return self._summary().get(key)
        query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND line = ?"
        value = find(read_line(self.db.value(query, self.run.row["id"], HISTORY, line) or "{}"), key)
        return value if isinstance(value, dict) else None

    def items(self, value: JsonObject, key: str) -> list[Item]:
        """The items of a media value; none if its files were not uploaded."""
        if value.get("_type") in TABLES:
            return safely(lambda: self._table_items(value, key))
        return safely(lambda: self.reader.items(value, key))[:ITEMS]

    def table(self, value: JsonObject) -> LoggedTable | None:
        """The Table of a media value; None if it was not uploaded. Raises TableError."""
        return logged_tables.of_value(self.db, self.blobs, self.files, value)

    def _on_page(self, value: JsonObject) -> LoggedTable | None:
        """The Table beside others on one page. Raises LargeTableError once these have TABLE_BYTES."""
        place = f"{value.get('path')} {value.get('artifact_path')}"
        if place not in self._tables:
            table = logged_tables.of_value(self.db, self.blobs, self.files, value, self._bytes_left)
            self._bytes_left -= table.size if table else 0
            self._tables[place] = table
        return self._tables[place]

    def _table_items(self, value: JsonObject, key: str) -> list[Item]:
        """A Table: a confusion matrix if its columns are those of one, else its first rows."""
        url = self.table_url(key)
        try:
            table = self._on_page(value)
        except LargeTableError:
            return [Item("table", url, table=Preview([], [], 0, url))]
        except TableError as error:
            return [Item("file", self.request.file(error.blob_id), str(error), f"{key}.table.json")]
        if table is None:
            return []
        if confusion.is_confusion(table.columns, table.rows):
            matrix = confusion.confusion(table.rows, self.examples())
            return [Item("confusion", url, confusion=matrix)]
        reader = self.reader_of(table)
        rows = [[reader.cell(cell) for cell in row[:PREVIEW_COLUMNS]] for row in table.rows[:PREVIEW_ROWS]]
        return [
            Item("table", url, table=Preview(table.columns[:PREVIEW_COLUMNS], rows, len(table.rows), url))
        ]

    def reader_of(self, table: LoggedTable) -> ItemReader:
        """Reads the cells of a Table."""
        return ItemReader(self.request, table.files)

    def table_url(self, key: str) -> str:
        """The address of the page of a Table."""
        project = self.request.project()
        page = self.request.path(project["entity"], project["name"], "runs", self.run.id)
        return f"{page}?{urlencode({'table': key})}"

    def examples(self) -> Examples | None:
        """The Table of the run that has an image, an actual and a predicted class in each row, if any."""
        if isinstance(self._examples, str):
            self._examples = next(filter(None, map(self._examples_in, self.logged_keys())), None)
        return self._examples

    def _examples_in(self, key: str) -> Examples | None:
        value = self._summary().get(key)
        if value is None or value.get("_type") not in TABLES:
            return None
        try:
            table = self._on_page(value)
        except (TableError, LookupError, TypeError, ValueError, AttributeError):
            return None
        names = {name.lower(): name for name in reversed(table.columns)} if table else {}
        if table is None or not table.rows or not any(map(is_media_cell, table.rows[0])):
            return None
        if "actual" not in names or "predicted" not in names:
            return None
        places = [table.columns.index(names[name]) for name in ("actual", "predicted")]
        images = Counter((str(row[places[0]]), str(row[places[1]])) for row in table.rows)
        return Examples(self.table_url(key), names["actual"], names["predicted"], images)

    def html(self, name: str) -> str:
        """A file that the run logged as wandb.Html. Raises RequestError (404) for any other file."""
        blob_id = self.files.get(name) if name.startswith("media/html/") else None
        if blob_id is None:
            raise RequestError(f"There is no {name} in this run.", 404)
        # The client links a style sheet on wandb.ai, which the frame may not load.
        return OUTSIDE_STYLE.sub("", self.blobs.read(blob_id).decode(errors="replace"))

    def confusion(self) -> Item | None:
        """The run's confusion matrix: a Table of counts, else an image whose key contains "confusion"."""
        summary = {key: value for key, value in self._summary().items() if is_media(str(value.get("_type")))}
        tables = [(key, value) for key, value in summary.items() if value.get("_type") in TABLES]
        named = [(key, value) for key, value in summary.items() if "confusion" in key.lower()]
        items = [item for key, value in [*tables, *named] for item in self.items(value, key)]
        matrices = [item for item in items if item.kind == "confusion"]
        images = [item for item in items if item.kind == "image"]
        return next(iter([*matrices, *images]), None)


def rank(key: str) -> tuple[int, str]:
    """What media are sorted by, the same in every run."""
    name = key.lower()
    place = next((i for i, word in enumerate(ORDER) if word and word in name), ORDER.index(""))
    return place, key


def slider_of(strips: list[Strip]) -> Slider:
    """The slider that moves all strips of a page, and the positions of their moments on it."""
    moments = [moment for strip in strips for moment in strip.moments if moment.line != SUMMARY]
    axes = {strip.axis for strip in strips if strip.moments[-1].line != SUMMARY}
    is_common = len(axes) == 1 and all(is_number(moment.at) for moment in moments)
    name = next(iter(axes)) if is_common else "_step"
    for moment in moments:
        moment.position = float(moment.at) if is_common else moment.step
    return Slider(name.lstrip("_"), sorted({moment.position for moment in moments}))
