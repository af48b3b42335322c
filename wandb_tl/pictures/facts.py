"""What each file of a data set is: its digest, size, mode and format, remembered until the file changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wandb_tl.cache_folder import cache_dir
from wandb_tl.pictures import decoding
from wandb_tl.pictures.colours import DEEP_MODES, GreyExtremes, grey_extremes
from wandb_tl.pictures.decoding import UnreachablePictureError, UnreadablePictureError
from wandb_tl.pictures.listing import PictureFile

# Increased whenever the same file has other facts than before, so that older ones are not used.
FORMAT = 1
# The size of a file that could not be read.
UNKNOWN_SIZE = -1


@dataclass(frozen=True)
class Facts:
    """What a file is.

    digest: SHA-256 of its content, "" if the file cannot be read at all. width, height: in pixels, as the
    file stores them. mode, format: Pillow's names. grey: the extremes of a grey picture of more than 8 bits.
    problem: why the file is not a readable picture; "" if it is one.
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
    """The facts of the files of one data set, kept in a file of the cache folder.

    A file whose size and time of last change are as before is not opened again.
    """

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:32]
        self._file = cache_dir() / "pictures" / f"{name}.json"
        self._root = str(root.absolute())
        # By path: size in bytes, time of the last change in nanoseconds, facts.
        self._entries: dict[str, tuple[int, int, Facts]] = {}
        # Reasons by digest: pictures whose pixels could not be decoded.
        self._undecodable: dict[str, str] = {}
        self._load()

    def read(self, files: Sequence[Path]) -> list[Facts]:
        """The facts of the files, in their order; files that are new or have changed are opened now."""
        stamps = [_stamp(file) for file in files]
        changed = [
            (file, stamp)
            for file, stamp in zip(files, stamps, strict=True)
            if stamp[0] == UNKNOWN_SIZE or self._entries.get(str(file), (0, 0))[:2] != stamp
        ]
        if changed:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                facts = pool.map(_facts, (file for file, _ in changed))
                progress = tqdm(facts, "reading files", len(changed), unit="file", leave=False, disable=None)
                for (file, (size, time)), entry in zip(changed, progress, strict=True):
                    # A file that could not be read this time may be readable the next time.
                    self._entries[str(file)] = size if entry.digest else UNKNOWN_SIZE, time, entry
            self._save()
        return [self._with_problem(self._entries[str(file)][2]) for file in files]

    def add_problems(self, reasons: Mapping[str, str]) -> None:
        """Remember why pictures cannot be decoded, by their digests."""
        if not reasons.items() <= self._undecodable.items():
            self._undecodable.update(reasons)
            self._save()

    def _with_problem(self, facts: Facts) -> Facts:
        return replace(facts, problem=facts.problem or self._undecodable.get(facts.digest, ""))

    def _load(self) -> None:
        """Read the file, if there is one of this format; a damaged one is ignored and written anew."""
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            if content["format"] == FORMAT and content["pillow"] == decoding.pillow_version():
                self._undecodable = dict(content["undecodable"])
                self._entries = {
                    path: (size, time, _from_json(facts))
                    for path, (size, time, facts) in content["files"].items()
                }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._entries, self._undecodable = {}, {}

    def _save(self) -> None:
        content = {
            "format": FORMAT,
            "pillow": decoding.pillow_version(),
            "root": self._root,
            "undecodable": self._undecodable,
            "files": {
                path: (size, time, asdict(facts)) for path, (size, time, facts) in self._entries.items()
            },
        }
        temporary = self._file.with_suffix(f".{os.getpid()}")
        # Without the index, the next run opens every file again: no reason to fail.
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(content), encoding="utf-8")
            temporary.replace(self._file)


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        # Such as a broken link.
        return UNKNOWN_SIZE, 0
    return status.st_size, status.st_mtime_ns


def _facts(file: Path) -> Facts:
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        reason = "broken link" if file.is_symlink() and not file.exists() else error.strerror or "unreadable"
        return Facts("", problem=reason)
    try:
        header = decoding.read_header(file)
        # The values of deep grey pictures decide together how each of them is shown.
        grey = grey_extremes(decoding.open_picture(file)) if header.mode in DEEP_MODES else None
    except UnreachablePictureError as error:
        return Facts("", problem=str(error))
    except UnreadablePictureError as error:
        return Facts(digest, problem=str(error))
    return Facts(digest, header.width, header.height, header.mode, header.format, grey)


def _from_json(values: dict[str, Any]) -> Facts:
    grey = values.pop("grey")
    return Facts(**values, grey=grey and GreyExtremes(*grey))
