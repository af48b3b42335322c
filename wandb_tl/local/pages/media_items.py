"""Media items: what a page shows of one image, sound, video, chart, histogram or file that was logged."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.confusion import Confusion
from wandb_tl.local.pages.image_layers import Layers, layers_of
from wandb_tl.local.pages.values import Run, is_number
from wandb_tl.local.pages.view import PageRequest
from wandb_tl.local.records.json_path import JsonObject, json_object

# The client's types of media that are one file, and how a page shows them.
FILES = {
    "image-file": "image",
    "audio-file": "audio",
    "video-file": "video",
    "html-file": "html",
    "plotly-file": "plotly",
    "object3D-file": "file",
    "molecule-file": "file",
    "bokeh-file": "file",
    "graph-file": "file",
}
TABLES = ("table-file", "incremental-table-file")
# The client's types of lists of media: how a page shows them, where the list is, and the folder of its files.
LISTS = {
    "images/separated": ("image", "images", "media/images"),
    "audio": ("audio", "audio", "media/audio"),
    "videos": ("video", "videos", "media/videos"),
    "html": ("html", "html", "media/html"),
    "object3D": ("file", "objects", "media/object3D"),
    "molecule": ("file", "molecules", "media/molecule"),
    "plotly": ("plotly", "plotly", "media/plotly"),
    "bokeh": ("file", "bokeh", "media/bokeh"),
}
# What a file is called that a page does not show, by its ending.
NOT_SHOWN = {
    ".pts.json": "3-D points",
    ".obj": "3-D object",
    ".gltf": "3-D object",
    ".glb": "3-D object",
    ".stl": "3-D object",
    ".babylon": "3-D object",
    ".pdb": "molecule",
    ".mol": "molecule",
    ".sdf": "molecule",
    ".bokeh.json": "Bokeh chart",
    ".graph.json": "graph",
}

# Of a histogram; the client makes 512 at most.
BARS = 1024

# Names of files -> ids of their blobs.
FileIds = Mapping[str, str]

# The left and the right edge of a histogram's bin, and its count.
Bar = tuple[float, float, float]


@dataclass
class Preview:
    """The first rows of a Table, the count of all, and the address of the page that has all."""

    columns: list[str]
    rows: list[list[Any]]
    count: int
    url: str


@dataclass
class Item:
    """A media item: a file at `url`, a Table, a confusion matrix, or a histogram's `bars`.

    kind: image, audio, video, html, plotly, file, table, confusion, bars, or words (`caption` alone).
    """

    kind: str
    url: str = ""
    caption: str = ""
    # Of its file.
    name: str = ""
    table: Preview | None = None
    confusion: Confusion | None = None
    bars: list[Bar] = field(default_factory=list)
    layers: Layers | None = None


def is_media(kind: str) -> bool:
    """Whether a type in the statistics of history_keys.keys_of is media that a page can show."""
    return kind in FILES or kind in LISTS or kind in TABLES or kind == "histogram"


class ItemReader:
    """Makes items of media values. files: of the run, or of the artifact, that the values belong to.

    run: the run that logged the values themselves; None for the cells of a Table. Only what a run logs itself
    as HTML is shown in a frame; in a Table it is a file to download.
    """

    def __init__(self, request: PageRequest, files: FileIds, run: Run | None = None) -> None:
        self.request, self.files, self.run = request, files, run

    def items(self, value: JsonObject, key: str = "") -> list[Item]:
        """The items of a value in history or summary; none if its files were not uploaded."""
        kind = str(value.get("_type"))
        if kind == "histogram":
            return [Item("bars", bars=_bars(value))]
        if kind not in LISTS:
            item = self.item(FILES.get(kind, "file"), value.get("path"), value, key)
            return [item] if item else []
        element_kind, place, folder = LISTS[kind]
        elements = value.get(place) or []
        names = [element.get("path") for element in elements] or value.get("filenames") or []
        captions = value.get("captions") or [element.get("caption") for element in elements]
        items = []
        for number, name in enumerate(names):
            if isinstance(name, str) and posixpath.normpath(name) not in self.files:
                name = f"{folder}/{name}"
            parts = {
                "caption": _at(captions, number),
                "boxes": _at(value.get("all_boxes"), number),
                "masks": _at(value.get("all_masks"), number),
            }
            if item := self.item(element_kind, name, {**value, **parts}, key):
                items.append(item)
        return items

    def item(self, kind: str, name: Any, value: JsonObject, key: str = "") -> Item | None:
        """One file as an item; None if it was not uploaded."""
        blob_id = self.files.get(posixpath.normpath(name)) if isinstance(name, str) else None
        if blob_id is None:
            return None
        url, ending = self.request.file(blob_id), name.lower()
        caption = str(value.get("caption") or "")
        if kind == "video" and ending.endswith(".gif"):
            # A video element does not play it.
            kind = "image"
        elif kind == "html":
            kind, url = ("html", "?" + urlencode({"html": name})) if self.run else ("file", url)
        if kind == "file":
            word = next((word for end, word in NOT_SHOWN.items() if ending.endswith(end)), "")
            caption = ", ".join(filter(None, (caption, word)))
        layers = layers_of(self, value, key) if kind == "image" else None
        return Item(kind, url, caption, posixpath.basename(name), layers=layers)

    def cell(self, value: Any) -> Any:
        """A Table's cell: numbers and strings as they are, media as an Item."""
        if isinstance(value, dict) and "_type" in value:
            items = safely(lambda: self.items(value))
            return items[0] if items else str(value["_type"])
        return json.dumps(value) if isinstance(value, (dict, list)) else value

    def read(self, name: Any) -> JsonObject:
        """A small JSON file that belongs to a media file, such as its boxes; empty if there is none."""
        blob_id = self.files.get(posixpath.normpath(name)) if isinstance(name, str) else None
        if blob_id is None or self.request.blobs.path(blob_id).stat().st_size > 4_000_000:
            return {}
        return json_object(self.request.blobs.read(blob_id).decode(errors="replace")) or {}

    def address(self, name: Any) -> str | None:
        """The address of a file; None if it was not uploaded."""
        blob_id = self.files.get(posixpath.normpath(name)) if isinstance(name, str) else None
        return None if blob_id is None else self.request.file(blob_id)


def safely(items: Any) -> list[Item]:
    """What a function returns; nothing if a client gave the value another structure than wandb does."""
    try:
        return list(items())
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, RequestError):
        return []


def _at(values: Any, number: int) -> Any:
    return values[number] if isinstance(values, list) and number < len(values) else None


def _bars(value: JsonObject) -> list[Bar]:
    """The bars of a wandb.Histogram."""
    if "packedBins" in value:
        packed, count = value["packedBins"], min(len(value.get("values") or []), BARS)
        edges = [packed["min"] + i * packed["size"] for i in range(count + 1)]
    else:
        edges = value.get("bins") or []
    bars = zip(edges, edges[1:], value.get("values") or [], strict=False)
    return [bar for bar in islice(bars, BARS) if all(map(is_number, bar))]
