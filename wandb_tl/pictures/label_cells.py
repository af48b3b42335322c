"""The cells of a label file: paths, labels and splits as rows spell them."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from pathlib import Path

from wandb_tl.errors import printable
from wandb_tl.pictures.names import class_name, refusal, split_named


class PathCells:
    """Reads the cells that hold a path, relative to a folder or absolute.

    confined: refuse paths and links that lead out of the folder.
    """

    def __init__(self, folder: Path, confined: bool) -> None:
        self.folder = folder
        self.confined = confined
        self._prefix = _plain(folder).rstrip(os.sep) + os.sep
        self._real_folder = folder.resolve()
        # Folders by path, each with whether it lies in the folder once all links are followed.
        self._inside: dict[str, bool] = {}

    def read(self, cell: object, where: str) -> tuple[Path, str]:
        """The path of a cell, and its name: below the folder if it lies there, or else as written.

        where: names the row in a refusal. InputError for a cell without a path, or with one that is refused.
        """
        text = str(cell).strip() if isinstance(cell, str | int) else ""
        if not text:
            raise refusal(f"{where} has no path; add it, or delete the row")
        if "://" in text or "\0" in text:
            raise refusal(f"{where} has {text[:80]!r} for a path; takes files of this machine")
        spellings = [(self.folder / spelling, spelling) for spelling in _spellings(text)]
        # Checked first as it is written: to look at a path of another machine is a request to that machine.
        if self.confined and not all(_plain(path).startswith(self._prefix) for path, _ in spellings):
            raise refusal(f"{where} leads out of the folder {self.folder}: {text[:80]!r}")
        try:
            path, text = spellings[0] if len(spellings) == 1 else _first_that_exists(spellings)
            if self.confined and not self._stays_inside(path):
                raise refusal(f"{where} leads out of the folder {self.folder} by a link: {text[:80]!r}")
        except OSError as error:
            raise refusal(f"{where} has a path that cannot be read: {error.strerror}") from error
        plain = _plain(path)
        name = plain.removeprefix(self._prefix) if plain.startswith(self._prefix) else text
        return path, printable(name.replace(os.sep, "/"))

    def _stays_inside(self, path: Path) -> bool:
        if path.is_symlink() or path.name == "..":
            return path.resolve().is_relative_to(self._real_folder)
        parent = str(path).removesuffix(path.name)
        if parent not in self._inside:
            self._inside[parent] = path.parent.resolve().is_relative_to(self._real_folder)
        return self._inside[parent]


def label_of(cell: object, where: str) -> str:
    """The class of a cell, in NFC. Whole numbers have no decimals: 3.0 is "3". InputError without one."""
    if isinstance(cell, list | dict):
        raise refusal(f"{where} has a list for a label; takes one label per picture")
    if isinstance(cell, bool):
        cell = str(cell).lower()
    text = "" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else str(cell).strip()
    if not text:
        raise refusal(f"{where} has no label; add it, or delete the row")
    # Programs write whole numbers like this as soon as one row of the column has no number.
    whole = re.fullmatch(r"(-?\d+)\.0+", text)
    return class_name(whole[1] if whole else text)


def split_of(cell: object, where: str) -> str:
    """The split of a cell: "train", "val" or "test". InputError if it names none."""
    text = "" if cell is None else str(cell).strip()
    split = split_named(text)
    if not split:
        raise refusal(f"{where} has {text[:80]!r} for a split; takes train, val or test")
    return split


def _plain(path: Path) -> str:
    """The absolute path without "." and ".."; touches no file."""
    return os.path.normpath(path.absolute())


def _first_that_exists(spellings: list[tuple[Path, str]]) -> tuple[Path, str]:
    """The first existing file, or else the likeliest spelling on this system."""
    return next((spelling for spelling in spellings if spelling[0].exists()), spellings[1])


def _spellings(text: str) -> list[str]:
    """A path as written and, from the second on, as other systems would write it, the likeliest first."""
    spellings = [text]
    if os.sep == "/" and "\\" in text:
        text = text.replace("\\", "/")
        spellings.append(text)
    if not text.isascii():
        spellings += [text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)]
    return spellings
