"""Media that a run logged: by key and by step, as data that a page can show."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from wandb_tl.local.artifacts import versions
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.curves import axis
from wandb_tl.local.pages.values import Run, is_number, parsed, read_line
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.json_path import find
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.runs import history_keys

# Steps of one key that the slider reaches, and rows of a Table that are shown; the files have all.
STEPS = 60
ROWS = 100
# Lines of history that are looked through for media, from the end.
LINES = 500

# The client's types of media that are one file, and how a page shows it.
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
Files = dict[str, str]

CONFUSION = ("Actual", "Predicted", "nPredictions")


@dataclass
class Item:
    """One thing to show: a file at `url`, a `table`, a `confusion` matrix, or a histogram's `bars`."""

    kind: str
    url: str | None = None
    caption: str = ""
    table: Row | None = None
    confusion: Row | None = None
    bars: list[tuple[float, float, float]] | None = None


@dataclass
class Moment:
    """What one key showed at one step; `at` is the step on the key's own axis, `line` its place in history.

    Only a strip's last moment has its items from the start: the others are fetched when they are looked at.
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
        """All media of the run by key, as its history tells, each with its last STEPS moments."""
        known = (history_keys.keys_of(self.db, self.run.row) or {"keys": {}})["keys"]
        keys = [key for key, value in known.items() if any(is_media(c["type"]) for c in value["typeCounts"])]
        found: dict[str, list[tuple[Moment, Row]]] = {key: [] for key in keys}
        rows = self.db.all(
            "SELECT line, text FROM stream_line WHERE run_id = ? AND stream = ? AND instr(text, '\"_type\"')"
            " ORDER BY line DESC LIMIT ?",
            self.run.row["id"],
            HISTORY,
            LINES,
        )
        for row in rows:
            logged = read_line(row["text"])
            for key in keys:
                value = find(logged, key)
                if len(found[key]) < STEPS and isinstance(value, dict) and is_media(str(value.get("_type"))):
                    at = find(logged, axis(self.run.row, key))
                    moment = Moment(logged.get("_step") if at is None else at, row["line"])
                    found[key].append((moment, value))
        strips = []
        for key, moments in found.items():
            # The newest may still be on its way: the last one that is here is shown.
            for number, (moment, value) in enumerate(moments):
                moment.items = self.items(value)
                if moment.items:
                    shown = [moment for moment, _ in reversed(moments[number:])]
                    strips.append(Strip(key, axis(self.run.row, key), shown))
                    break
        return strips

    def at(self, key: str, line: int) -> list[Item]:
        """What a key showed in one line of the history."""
        query = "SELECT text FROM stream_line WHERE run_id = ? AND stream = ? AND line = ?"
        value = find(read_line(self.db.value(query, self.run.row["id"], HISTORY, line) or "{}"), key)
        return self.items(value) if isinstance(value, dict) else []

    def items(self, value: Row) -> list[Item]:
        """What a media value of history or summary shows; nothing where its files were not uploaded."""
        try:
            return self._items(value)
        except (LookupError, TypeError, ValueError, AttributeError):
            # Of another shape than the client gives it.
            return []

    def _items(self, value: Row) -> list[Item]:
        kind = value.get("_type")
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

    def _file(self, kind: str, name: Any, caption: Any = None, files: Files | None = None) -> Item | None:
        """A file of the run, or of `files`; None where it was not uploaded."""
        blob_id = (files or self.files).get(posixpath.normpath(name)) if isinstance(name, str) else None
        if blob_id is None:
            return None
        url = self.blobs.url("", "GET", blob_id)
        if kind == "html":
            # Only what the run itself logged is shown in a frame; in a Table it is a file to download.
            kind, url = ("html", "?" + urlencode({"html": name})) if files is None else ("file", url)
        return Item(kind, url=url, caption=str(caption or ""))

    def html(self, name: str) -> str:
        """What the run logged as wandb.Html. Raises RequestError (404) for a file that it did not."""
        blob_id = self.files.get(name) if name.startswith("media/html/") else None
        if blob_id is None:
            raise RequestError(f"There is no {name} in this run.", 404)
        # The client adds a style sheet of its makers' host, which is no business of a page here.
        return OUTSIDE_STYLE.sub("", self.blobs.read(blob_id).decode(errors="replace"))

    def read_table(self, value: Row) -> Item | None:
        """A Table: as a confusion matrix where its columns are those of wandb.plot, else its first rows."""
        blob_id, files = self._table_file(value)
        if blob_id is None:
            return None
        try:
            content = json.loads(self.blobs.read(blob_id))
            columns, data = [str(column) for column in content["columns"]], content["data"]
        except (OSError, ValueError, LookupError, TypeError):
            return Item("file", url=self.blobs.url("", "GET", blob_id), caption="unreadable table")
        if tuple(columns) == CONFUSION and all(is_number(row[2]) for row in data):
            return Item("confusion", confusion=confusion(data))
        rows = [[self._cell(cell, files) for cell in row] for row in data[:ROWS]]
        return Item("table", table={"columns": columns, "rows": rows, "count": len(data)})

    def _table_file(self, value: Row) -> tuple[str | None, Files]:
        """The blob of a Table and those of the files in it.

        The run's own file says "Image" where the one in the artifact, logged along with it, has the picture.
        """
        scheme, _, place = (value.get("artifact_path") or "").partition("://")
        client_id, _, path = place.partition("/")
        version = versions.by_client_id(self.db, client_id) if scheme == "wandb-client-artifact" else None
        entries = "SELECT path, blob_id FROM manifest_entry WHERE artifact_id = ? AND blob_id IS NOT NULL"
        rows = self.db.all(entries, version["id"]) if version else []
        files = {row["path"]: row["blob_id"] for row in rows}
        if path in files:
            return files[path], files
        return self.files.get(posixpath.normpath(str(value.get("path")))), self.files

    def _cell(self, value: Any, files: Files) -> Any:
        """A number or text as it is; media as an Item."""
        if isinstance(value, dict) and "_type" in value:
            kind = FILES.get(value["_type"], "file")
            return self._file(kind, value.get("path"), value.get("caption"), files) or ""
        return json.dumps(value) if isinstance(value, (dict, list)) else value

    def confusion(self) -> Item | None:
        """The run's confusion matrix: wandb.plot's, else an image that was logged under such a name."""
        summary = {
            key: value for key, value in parsed(self.run.row["summary"]).items() if isinstance(value, dict)
        }
        tables = [value for value in summary.values() if value.get("_type") == "table-file"]
        named = [value for key, value in summary.items() if "confusion" in key.lower()]
        found = [item for value in [*tables, *named] for item in self.items(value)]
        drawn = [item for item in found if item.kind == "confusion"]
        return next(iter([*drawn, *(item for item in found if item.kind == "image")]), None)


def is_media(kind: str) -> bool:
    """Whether a history key's type, as history_keys.keys_of tells it, is one that is shown here."""
    return kind in FILES or kind in LISTS or kind == "histogram"


def confusion(data: list[list[Any]]) -> Row:
    """{"classes", "rows": counts by actual class, "largest"} of [actual, predicted, count] triples."""
    classes = list(dict.fromkeys(str(name) for place in (0, 1) for name in (row[place] for row in data)))
    counts = {(str(actual), str(predicted)): count for actual, predicted, count in data}
    rows = [[counts.get((actual, predicted), 0) for predicted in classes] for actual in classes]
    return {"classes": classes, "rows": rows, "largest": max((max(row) for row in rows), default=0) or 1}


def _bars(value: Row) -> list[tuple[float, float, float]]:
    """(left, right, count) of each bin."""
    if "packedBins" in value:
        packed, count = value["packedBins"], len(value.get("values") or [])
        edges = [packed["min"] + i * packed["size"] for i in range(count + 1)]
    else:
        edges = value.get("bins") or []
    bars = zip(edges, edges[1:], value.get("values") or [], strict=False)
    return [bar for bar in bars if all(map(is_number, bar))]
