"""The pictures of a data set as its folder or its label file lists them, before any of them is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The splits of a data set, in the order in which people name them.
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class PictureFile:
    """A file that should be a picture.

    path: where to read it. name: its path below the data set's root, with forward slashes; tables show it.
    label: the name of its class. split: "train", "val" or "test"; None if the data set does not say.
    """

    path: Path
    name: str
    label: str
    split: str | None


@dataclass(frozen=True)
class Listing:
    """The files of a data set.

    files: sorted by name. passed_over: the number of files and folders that are left out, by reason.
    notes: sentences about the layout that a person wants to read. empty_classes: class folders without files.
    """

    root: Path
    files: list[PictureFile]
    passed_over: dict[str, int]
    notes: list[str]
    empty_classes: list[str]
