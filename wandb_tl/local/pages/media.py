"""The media that a run logged, by key and by step, as data that a page can show."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field
from typing import Any, TypedDict
from urllib.parse import urlencode

from wandb_tl.local.artifacts import versions
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.curves import axis
from wandb_tl.local.pages.values import Run, is_number, parsed, read_line
from wandb_tl.local.records.database import Transaction
from wandb_tl.local.records.json_path import JsonObject, find
from wandb_tl.local.records.rows import ManifestEntryRow, StreamLineRow
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.runs import history_keys

# The steps of one key that the slider reaches, and the rows of a Table on a page; the files have all.
STEPS = 60
ROWS = 100
# The lines of history that are searched for media, from the end.
LINES = 500

# The client's types of media that are one file, and how a page shows them.
FILES = {
    "image-file": "image",
    "audio-file": "audio",
    "video-file": "video",
    "html-file": "html",
    "table-file": "table",
    "object3D-file": "file",
    "molecule-file": "file",
    "bokeh-file": "file",
}
LISTS = {"images/separated": "image", "audio": "audio", "videos": "video", "html": "html"}
OUTSIDE_STYLE = re.compile(r'<link rel="stylesheet" type="text/css" href="https?://[^"]*/normalize.css" />')

# Names of files -> ids of their blobs.
FileIds = dict[str, str]

# The columns of the Table behind wandb.plot.confusion_matrix.
CONFUSION = ("Actual", "Predicted", "nPredictions")

# The left and the right edge of a histogram's bin, and its count.
Bar = tuple[float, float, float]


class LoggedTable(TypedDict):
    """The first rows of a Table and the count of all. Cells are numbers, strings or Items."""

    columns: list[str]
    rows: list[list[Any]]
    count: int


class Confusion(TypedDict):
    """Counts by actual class (row) and predicted class (column), and the largest count."""

    classes: list[str]
    rows: list[list[int]]
    largest: int


@dataclass
class Item:
    """A media item: a file at `url`, a `table`, a `confusion` matrix, or a histogram's `bars`."""

    kind: str
    url: str | None = None
    caption: str = ""
    table: LoggedTable | None = None
    confusion: Confusion | None = None
    bars: list[Bar] | None = None


@dataclass
class Moment:
    """The media of one key at one step: `at` on the key's own axis, in line `line` of the history.

    Only a strip's last moment has its items from the start: a page fetches the others when they are viewed.
    """

    at: Any
    line: int
    items: list[Item] = field(default_factory=list)


@dataclass
class Strip:
    """A key's moments, oldest first."""

    key: str
    axis: str
    moments: list[Moment]


class Media:
    """Reads the media of one run's history and summary."""

    def __init__(self, db: Transaction, blobs: Blobs, run: Run) -> None:
        self.db, self.blobs, self.run = db, blobs, run
        self.files = {
            row["name"]: row["blob_id"]
            for row in db.all(
                "SELECT file.name, blob_id FROM file JOIN blob ON blob.id = file.blob_id"
                " WHERE run_id = ? AND uploaded_at IS NOT NULL",
                run.row["id"],
            )
        }

    def strips(self) -> list[Strip]:
        """All media in the run's history by key, each key with its last STEPS moments."""
        strips = []
        for key, logged in self._logged().items():
            # The newest may not be uploaded yet: the strip ends with the last moment that is.
            for number, (moment, value) in enumerate(logged):
                moment.items = self.items(value)
                if moment.items:
                    moments = [moment for moment, _ in reversed(logged[number:])]
                    strips.append(Strip(key, axis(self.run.row, key), moments))
                    break
        return strips

    def _logged(self) -> dict[str, list[tuple[Moment, JsonObject]]]:
        """The moments of each key of media, without items, and the values in history; newest first."""
        statistics = history_keys.keys_of(self.db, self.run.row)
        logged: dict[str, list[tuple[Moment, JsonObject]]] = {
            key: []
            for key, value in (statistics["keys"] if statistics else {}).items()
            if any(is_media(count["type"]) for count in value["typeCounts"])
        }
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
                    at = find(line, axis(self.run.row, key))
                    moments.append((Moment(line.get("_step") if at is None else at, row["line"]), value))
        return logged

    def at(self, key: str, line: int) -> list[Item]:
        """The media of a key in one line of the history."""
        query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND line = ?"
        value = find(read_line(self.db.value(query, self.run.row["id"], HISTORY, line) or "{}"), key)
        return self.items(value) if isinstance(value, dict) else []

    def items(self, value: JsonObject) -> list[Item]:
        """The items of a media value in history or summary; none if its files were not uploaded."""
        try:
            return self._items(value)
        except (LookupError, TypeError, ValueError, AttributeError):
            # The value has another structure than the client gives it.
            return []

    def _items(self, value: JsonObject) -> list[Item]:
        kind = str(value.get("_type"))
        if kind == "histogram":
            return [Item("bars", bars=_bars(value))]
        if kind in LISTS:
            names = value.get("filenames") or [item.get("path") for item in value.get(kind) or []]
            captions = value.get("captions") or []
            pairs = ((name, captions[i] if i < len(captions) else "") for i, name in enumerate(names))
            return [item for name, caption in pairs if (item := self._file(LISTS[kind], name, caption))]
        if kind == "table-file":
            item = self.read_table(value)
        else:
            item = self._file(FILES.get(kind, "file"), value.get("path"), value.get("caption"))
        return [item] if item else []

    def _file(self, kind: str, name: Any, caption: Any = None, files: FileIds | None = None) -> Item | None:
        """A file of the run, or of `files`; None if it was not uploaded."""
        blob_id = (files or self.files).get(posixpath.normpath(name)) if isinstance(name, str) else None
        if blob_id is None:
            return None
        url = self.blobs.addresses.url("", "GET", blob_id)
        if kind == "html":
            # A frame shows only HTML that the run itself logged; in a Table it is a file to download.
            kind, url = ("html", "?" + urlencode({"html": name})) if files is None else ("file", url)
        return Item(kind, url=url, caption=str(caption or ""))

    def html(self, name: str) -> str:
        """A file that the run logged as wandb.Html. Raises RequestError (404) for any other file."""
        blob_id = self.files.get(name) if name.startswith("media/html/") else None
        if blob_id is None:
            raise RequestError(f"There is no {name} in this run.", 404)
        # The client links a style sheet on wandb.ai, which the frame may not load.
        return OUTSIDE_STYLE.sub("", self.blobs.read(blob_id).decode(errors="replace"))

    def read_table(self, value: JsonObject) -> Item | None:
        """A Table: as a confusion matrix if its columns are those of wandb.plot, else its first rows."""
        blob_id, files = self._table_file(value)
        if blob_id is None:
            return None
        try:
            content = json.loads(self.blobs.read(blob_id))
            columns, data = [str(column) for column in content["columns"]], content["data"]
        except (OSError, ValueError, LookupError, TypeError):
            return Item("file", url=self.blobs.addresses.url("", "GET", blob_id), caption="unreadable table")
        if tuple(columns) == CONFUSION and all(is_number(row[2]) for row in data):
            return Item("confusion", confusion=confusion(data))
        rows = [[self._cell(cell, files) for cell in row] for row in data[:ROWS]]
        return Item("table", table={"columns": columns, "rows": rows, "count": len(data)})

    def _table_file(self, value: JsonObject) -> tuple[str | None, FileIds]:
        """The blob of a Table and those of the files in it.

        The file in the artifact, logged along with the Table, has pictures; the run's own file has the word
        "Image" in their place.
        """
        scheme, _, place = (value.get("artifact_path") or "").partition("://")
        client_id, _, path = place.partition("/")
        version = versions.by_client_id(self.db, client_id) if scheme == "wandb-client-artifact" else None
        entries = "SELECT * FROM manifest_entry WHERE artifact_id = ? AND blob_id IS NOT NULL"
        rows = self.db.all(entries, version["id"], row=ManifestEntryRow) if version else []
        files = {row["path"]: row["blob_id"] for row in rows if row["blob_id"]}
        if path in files:
            return files[path], files
        return self.files.get(posixpath.normpath(str(value.get("path")))), self.files

    def _cell(self, value: Any, files: FileIds) -> Any:
        """A number or string as it is; media as an Item."""
        if isinstance(value, dict) and "_type" in value:
            kind = FILES.get(value["_type"], "file")
            return self._file(kind, value.get("path"), value.get("caption"), files) or ""
        return json.dumps(value) if isinstance(value, (dict, list)) else value

    def confusion(self) -> Item | None:
        """The run's confusion matrix: wandb.plot's, else an image whose key contains "confusion"."""
        summary = {
            key: value for key, value in parsed(self.run.row["summary"]).items() if isinstance(value, dict)
        }
        tables = [value for value in summary.values() if value.get("_type") == "table-file"]
        named = [value for key, value in summary.items() if "confusion" in key.lower()]
        items = [item for value in [*tables, *named] for item in self.items(value)]
        matrices = [item for item in items if item.kind == "confusion"]
        images = [item for item in items if item.kind == "image"]
        return next(iter([*matrices, *images]), None)


def is_media(kind: str) -> bool:
    """Whether a type in the statistics of history_keys.keys_of is media that a page can show."""
    return kind in FILES or kind in LISTS or kind == "histogram"


def confusion(data: list[list[Any]]) -> Confusion:
    """The matrix of [actual, predicted, count] triples."""
    classes = list(dict.fromkeys(str(name) for place in (0, 1) for name in (row[place] for row in data)))
    counts = {(str(actual), str(predicted)): count for actual, predicted, count in data}
    rows = [[counts.get((actual, predicted), 0) for predicted in classes] for actual in classes]
    return {"classes": classes, "rows": rows, "largest": max((max(row) for row in rows), default=0) or 1}


def _bars(value: JsonObject) -> list[Bar]:
    """The bars of a wandb.Histogram."""
    if "packedBins" in value:
        packed, count = value["packedBins"], len(value.get("values") or [])
        edges = [packed["min"] + i * packed["size"] for i in range(count + 1)]
    else:
        edges = value.get("bins") or []
    bars = zip(edges, edges[1:], value.get("values") or [], strict=False)
    return [bar for bar in bars if all(map(is_number, bar))]
