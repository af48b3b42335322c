"""What each file of a data set is: its digest, size, mode and format, remembered until the file changes."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wandb_tl.cache_folder import cache_dir
from wandb_tl.pictures import decoding
from wandb_tl.pictures.colours import DEEP_MODES, GreyExtremes, grey_extremes
from wandb_tl.pictures.decoding import UnreachablePictureError, UnreadablePictureError
from wandb_tl.pictures.listing import PictureFile
from wandb_tl.progress import tqdm

# Increased whenever the same file has other facts than before, so that older ones are not used.
FORMAT = 2
TABLES = """
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS undecodable (digest TEXT PRIMARY KEY, reason TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Facts:
    """What a file is.

    digest: SHA-256 of its content, "" if the file cannot be read at all. width, height: in pixels, as the
    file stores them. mode, format: Pillow's names, "" if no format was recognised. grey: the extremes of a
    grey picture of more than 8 bits. problem: why the file is not a readable picture; "" if it is one.
    """

    digest: str
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    grey: GreyExtremes | None = None
    problem: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture of a data set: its file, and what the file is."""

    file: PictureFile
    facts: Facts

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def label(self) -> str:
        return self.file.label


class FactsIndex:
    """The facts of the files of one data set, kept in the cache folder for later processes.

    A file whose size, times of change and place on the disk are as before is not opened again. Without a
    writable cache folder, every file is opened each time.
    """

    def __init__(self, root: Path) -> None:
        name = f"{FORMAT} {decoding.pillow_version()} {root.absolute()}"
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()
        self._file = cache_dir() / "pictures" / f"{digest[:32]}.sqlite"

    def read(self, files: Sequence[Path]) -> list[Facts]:
        """The facts of the files, in their order; files that are new or have changed are opened now."""
        earlier = {path: (stamp, facts) for path, stamp, facts in self._select("path, stamp, facts", "files")}
        stamps = {file: _stamp(file) for file in files}
        facts: dict[Path, Facts] = {}
        for file, stamp in stamps.items():
            if stamp and earlier.get(_key(file), ("", ""))[0] == stamp:
                facts[file] = _from_json(earlier[_key(file)][1])
        changed = [file for file in stamps if file not in facts]
        if changed:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                values = pool.map(_facts, changed)
                progress = tqdm(values, "reading files", len(changed), unit="file", leave=False)
                facts |= zip(changed, progress, strict=True)
        # Not those that could not be read: they may be readable the next time.
        rows = [
            (_key(file), stamps[file], json.dumps(asdict(facts[file])))
            for file in changed
            if facts[file].digest
        ]
        self._insert("files", rows)
        return [facts[file] for file in files]

    def problems(self) -> dict[str, str]:
        """Why pictures cannot be decoded, by their digests, as far as they have been tried."""
        return dict(self._select("digest, reason", "undecodable"))

    def add_problems(self, reasons: Mapping[str, str]) -> None:
        """Remember why pictures cannot be decoded, by their digests."""
        self._insert("undecodable", list(reasons.items()))

    def _select(self, columns: str, table: str) -> list[Any]:
        try:
            if self._file.exists():
                with closing(sqlite3.connect(self._file, timeout=60)) as database:
                    return database.execute(f"SELECT {columns} FROM {table}").fetchall()
        except sqlite3.Error:
            # Damaged, or not readable for this user: the files are opened again.
            with suppress(OSError):
                self._file.unlink()
        return []

    def _insert(self, table: str, rows: Iterable[tuple[str, ...]]) -> None:
        rows = list(rows)
        if not rows:
            return
        marks = ", ".join("?" * len(rows[0]))
        # Without the index, the next process opens every file again: no reason to fail.
        with suppress(OSError, sqlite3.Error):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._file, timeout=60)) as database, database:
                database.executescript(TABLES)
                database.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)


def _key(file: Path) -> str:
    # Names need not be UTF-8, and SQLite's text must be.
    return os.fsencode(file).hex() if not str(file).isprintable() else str(file)


def _stamp(file: Path) -> str:
    """What changes when a file changes; "" if it cannot be looked at. Unpacked archives share their times."""
    try:
        status = file.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _facts(file: Path) -> Facts:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            # Opening a pipe would wait for a writer.
            return Facts("", problem="not a regular file")
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        reason = "broken link" if file.is_symlink() and not file.exists() else error.strerror or "unreadable"
        return Facts("", problem=reason)
    try:
        header = decoding.read_header(file)
    except UnreachablePictureError as error:
        return Facts("", problem=str(error))
    except UnreadablePictureError as error:
        return Facts(digest, problem=str(error))
    size = (digest, header.width, header.height, header.mode, header.format)
    try:
        # The values of deep grey pictures decide together how each of them is shown.
        grey = grey_extremes(decoding.open_picture(file)) if header.mode in DEEP_MODES else None
    except UnreadablePictureError as error:
        return Facts(*size, problem=str(error))
    return Facts(*size, grey)


def _from_json(text: str) -> Facts:
    values = json.loads(text)
    grey = values.pop("grey")
    return Facts(**values, grey=grey and GreyExtremes(*grey))
