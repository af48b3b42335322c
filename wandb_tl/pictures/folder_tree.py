"""The files below a folder, without the litter that operating systems and tools leave there."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wandb_tl.errors import InputError
from wandb_tl.pictures.names import refusal

# Names in lower case, each with the words that count it.
LITTER = {
    "thumbs.db": "Thumbs.db",
    "ehthumbs.db": "ehthumbs.db",
    "ehthumbs_vista.db": "ehthumbs.db",
    "desktop.ini": "desktop.ini",
    "icon\r": "folder icons of macOS",
    "__macosx": "folders named __MACOSX",
    "@eadir": "folders named @eaDir",
    "#recycle": "recycle bins",
    "$recycle.bin": "recycle bins",
    "system volume information": "system folders",
    "lost+found": "system folders",
    "__pycache__": "folders named __pycache__",
}

# The device and the inode: equal for two paths of the same folder.
Identity = tuple[int, int]


@dataclass
class Folder:
    """A folder: the names of its files, and its folders by name, both sorted, without litter."""

    path: str
    files: list[str] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    def walk(self) -> Iterator[Folder]:
        """This folder and all folders below it."""
        # A loop: paths can be nested more deeply than Python calls.
        folders = [self]
        while folders:
            folder = folders.pop()
            yield folder
            folders.extend(folder.folders.values())

    def file_count(self) -> int:
        """The number of files in this folder and below it."""
        return sum(len(folder.files) for folder in self.walk())


@dataclass
class FolderTree:
    """All files below a root, and the number of files and folders that are left out, by reason."""

    root: Folder
    passed_over: Counter[str] = field(default_factory=Counter)


def read_tree(root: Path) -> FolderTree:
    """The folders and files below a root; links are followed. InputError if a folder cannot be listed."""
    try:
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise refusal(f"there is no folder {root}; check its spelling") from error
    except OSError as error:
        raise _unreadable(str(root), error) from error
    if not stat.S_ISDIR(mode):
        raise refusal(f"{root} is a file, takes a folder with one folder per class")
    tree = FolderTree(Folder(str(root)))
    # Each folder comes with the identities of the folders that it lies in: a link to one of them is a loop.
    folders = [(tree.root, _identities_from_top(root))]
    while folders:
        folder, ancestors = folders.pop()
        try:
            _read_folder(folder, tree.passed_over)
        except OSError as error:
            raise _unreadable(folder.path, error) from error
        for name, child in list(folder.folders.items()):
            identity = _identity(child.path)
            if identity and identity in ancestors:
                tree.passed_over["links to their own folder"] += 1
                del folder.folders[name]
            else:
                folders.append((child, ancestors | {identity}))
    return tree


def _unreadable(path: str, error: OSError) -> InputError:
    return refusal(f"cannot read the folder {path}: {error.strerror}; check its permissions, or remove it")


def _read_folder(folder: Folder, passed_over: Counter[str]) -> None:
    """Fill in the files and folders that lie directly in a folder."""
    with os.scandir(folder.path) as iterator:
        entries = sorted(iterator, key=lambda entry: entry.name)
    for entry in entries:
        is_folder = _is_folder(entry)
        if reason := _litter(entry.name, is_folder) or (_is_special(entry) and "pipes and devices"):
            passed_over[reason] += 1
        elif is_folder:
            folder.folders[entry.name] = Folder(entry.path)
        else:
            folder.files.append(entry.name)


def _litter(name: str, is_folder: bool) -> str | None:
    """The words that count a file or folder as litter; None if it is not litter."""
    if name.startswith("."):
        return "hidden folders" if is_folder else "hidden files"
    # Windows marks downloads with a stream of this name, which becomes a file when it is copied to Linux.
    if name.endswith(":Zone.Identifier"):
        return "Zone.Identifier files"
    return LITTER.get(name.lower())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself: listed as a file, which cannot be read later.
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """If an entry is a pipe, a socket or a device, which may block a reader. Broken links are not special."""
    try:
        if entry.is_file() or entry.is_dir():
            return False
        entry.stat()
    except OSError:
        return False
    return True


def _identity(path: str) -> Identity | None:
    try:
        status = Path(path).stat()
    except OSError:
        # It cannot be listed either, and is reported then.
        return None
    return (status.st_dev, status.st_ino)


def _identities_from_top(root: Path) -> frozenset[Identity | None]:
    path = root.resolve()
    return frozenset(_identity(str(folder)) for folder in (path, *path.parents))
