"""Boxes and masks over an image: their classes, colours and places."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict

from wandb_tl.local.pages.values import Run, client_records, color, is_number
from wandb_tl.local.records.json_path import JsonObject

# The boxes that are drawn over an image.
BOXES = 300
# What the client puts between a media key and the name of a group of boxes or masks.
DELIMITER = "_wandb_delimeter_"


class ImageClass(TypedDict):
    """A class of boxes or pixels. group: the name under which the run logged them, such as predictions."""

    id: int
    group: str
    name: str
    color: str


class Box(TypedDict):
    """A box in shares of the image's width and height, and the text of its label."""

    group: str
    class_id: int
    color: str
    x: float
    y: float
    width: float
    height: float
    text: str


class Mask(TypedDict):
    """An image whose grey values are ids of classes."""

    group: str
    url: str


@dataclass
class Layers:
    """What is drawn over an image. classes: those that can be hidden, in the order of their groups."""

    classes: list[ImageClass] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    masks: list[Mask] = field(default_factory=list)


class Files(Protocol):
    """The files that belong to an image, and the run that logged the image itself, None in a Table."""

    run: Run | None

    def read(self, name: Any) -> JsonObject:
        """The object in a JSON file; empty if there is none."""

    def address(self, name: Any) -> str | None:
        """Where a page finds a file; None if it was not uploaded."""


def layers_of(files: Files, value: JsonObject, key: str) -> Layers | None:
    """The boxes and masks of a wandb.Image; None if it has none that can be drawn."""
    layers = Layers()
    classes = value.get("classes")
    own = files.read(classes.get("path")).get("class_set") if isinstance(classes, dict) else None
    shared = {entry["id"]: str(entry["name"]) for entry in own or []}
    for group, boxes in (value.get("boxes") or {}).items():
        content = files.read(boxes.get("path")) if "path" in boxes else boxes
        names = shared | _by_number(content.get("class_labels"))
        own_boxes = [
            box
            for data in (content.get("box_data") or [])[:BOXES]
            if (box := _box(group, data, names, value.get("width"), value.get("height")))
        ]
        layers.boxes += own_boxes
        numbers = dict.fromkeys(box["class_id"] for box in own_boxes)
        layers.classes += [_image_class(group, number, names) for number in numbers]
    for group, mask in (value.get("masks") or {}).items():
        if url := files.address(mask.get("path")):
            layers.masks.append({"group": group, "url": url})
            names = shared | _logged_labels(files, "mask/class_labels", key, group)
            layers.classes += [_image_class(group, number, names) for number in sorted(names)]
    return layers if layers.boxes or layers.masks else None


def _logged_labels(files: Files, kind: str, key: str, group: str) -> dict[int, str]:
    """The names of classes that the client keeps in the run's config."""
    records = client_records(files.run.row, kind, dict) if files.run else {}
    entry = records.get(f"{key}{DELIMITER}{group}")
    return _by_number(entry.get("value")) if isinstance(entry, dict) else {}


def _by_number(labels: Any) -> dict[int, str]:
    """{id: name}; JSON has the ids as strings."""
    return {int(number): str(name) for number, name in labels.items()} if isinstance(labels, dict) else {}


def _image_class(group: str, number: int, names: dict[int, str]) -> ImageClass:
    return {
        "id": number,
        "group": group,
        "name": names.get(number, f"class {number}"),
        "color": color(number % 40),
    }


def _box(group: str, data: JsonObject, names: dict[int, str], width: Any, height: Any) -> Box | None:
    position = data.get("position") or {}
    if "middle" in position:
        (x, y), wide, high = position["middle"], position["width"], position["height"]
        left, top = x - wide / 2, y - high / 2
    else:
        left, top = position["minX"], position["minY"]
        wide, high = position["maxX"] - left, position["maxY"] - top
    if data.get("domain") == "pixel":
        if not (is_number(width) and is_number(height) and width > 0 and height > 0):
            return None
        left, wide, top, high = left / width, wide / width, top / height, high / height
    number = int(data.get("class_id", 0))
    scores = data.get("scores") or {}
    words = [names.get(number, f"class {number}")]
    words += [str(data["box_caption"])] if data.get("box_caption") else []
    words += [f"{name} {score:.3g}" for name, score in scores.items() if is_number(score)]
    return {
        "group": group,
        "class_id": number,
        "color": color(number % 40),
        "x": left,
        "y": top,
        "width": max(wide, 0),
        "height": max(high, 0),
        "text": f"{group}: {', '.join(words)}",
    }
