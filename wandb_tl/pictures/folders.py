"""A folder of pictures as it lies on disk: its splits, its classes and their files.

Two layouts are read: one folder per split with one folder per class in each (or the other way round), and one
folder per class. No file is opened: whether it is a picture is decided later, by its content.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from wandb_tl.errors import printable
from wandb_tl.pictures.folder_tree import Folder, read_tree
from wandb_tl.pictures.listing import SPLITS, Listing, PictureFile
from wandb_tl.pictures.names import class_name, refusal, split_named

# Files that probably list the pictures beside them; a .json file may hold anything.
LABEL_FILE_SUFFIXES = {".csv", ".tsv", ".jsonl", ".ndjson"}
# Folders that a note names before it only counts the rest.
FOLDERS_SHOWN = 5

# The folders of each class, by split and by name of the class.
Classes = dict[str | None, dict[str, list[Folder]]]


@dataclass
class _Layout:
    """Where the splits or the classes of a data set lie, and what to say about it.

    top: the folder that holds them. stray_files: the number of files beside class folders.
    """

    top: Folder
    notes: list[str] = field(default_factory=list)
    stray_files: int = 0

    def name(self, path: str) -> str:
        """A path below the top, with forward slashes."""
        return printable(path.removeprefix(self.top.path).lstrip(os.sep).replace(os.sep, "/"))


def list_folder(root: Path) -> Listing:
    """List the files of a folder with their classes and splits.

    The root of the listing is the folder that holds the splits or the classes, which may lie below `root`.
    InputError if the folder cannot be read, or does not have at least two classes.
    """
    tree = read_tree(root)
    layout = _Layout(tree.root)
    _descend(layout)
    classes = _classes_of_splits(layout) or _splits_of_classes(layout) or _plain_classes(layout)
    _check_classes(classes, layout)
    if layout.stray_files:
        tree.passed_over["files outside the class folders"] += layout.stray_files
    return Listing(
        root=Path(layout.top.path),
        files=_files(classes, layout),
        passed_over=dict(tree.passed_over),
        notes=layout.notes,
        empty_classes=[
            layout.name(folders[0].path)
            for by_name in classes.values()
            for folders in by_name.values()
            if not _count(folders)
        ],
    )


def _descend(layout: _Layout) -> None:
    """Go down while a folder contains little but one other folder, as unpacked archives do."""
    root = layout.top
    while len(layout.top.folders) == 1:
        ((name, child),) = layout.top.folders.items()
        is_split = split_named(name) and "train" not in _split_words(child).values()
        if is_split or not child.folders or len(layout.top.files) > child.file_count():
            break
        layout.stray_files += len(layout.top.files)
        layout.top = child
    if layout.top is not root:
        layout.notes.append(f"The data set lies in {printable(layout.top.path)}.")


def _classes_of_splits(layout: _Layout) -> Classes | None:
    """The classes of a layout such as train/CLASS, test/CLASS; None if the folder has another layout."""
    top = layout.top
    words = _split_words(top)
    if not _has_splits(top, words):
        return None
    folders = {split: [name for name in top.folders if words.get(name) == split] for split in SPLITS}
    for split, names in folders.items():
        if len(names) > 1:
            listed = " and ".join(f"{name}/" for name in names)
            raise refusal(f"{listed} in {top.path} mean the same split, {split}; merge or rename them")
    classes: Classes = {}
    for split, names in folders.items():
        for name in names:
            folder = _unwrapped(top.folders[name], split)
            if split != "train" and _has_no_labels(folder, classes["train"]):
                count = folder.file_count()
                layout.notes.append(
                    f"{printable(name)}/ is left out: its files ({count:,}) lie in no class folder."
                )
                continue
            classes[split] = _by_class(folder)
            layout.stray_files += len(folder.files)
    layout.stray_files += len(top.files)
    _note_names(layout, words)
    return classes


def _note_names(layout: _Layout, words: dict[str, str]) -> None:
    """Note the folders beside the splits, and the splits with unusual names."""
    folders = layout.top.folders
    others = [name for name in folders if name not in words]
    if others:
        counts = [
            f"{printable(name)}/ ({_plural(folders[name].file_count(), 'file')})"
            for name in others[:FOLDERS_SHOWN]
        ]
        more = f" and {len(others) - FOLDERS_SHOWN:,} more" if len(others) > FOLDERS_SHOWN else ""
        layout.notes.append(f"Folders beside the splits are left out: {', '.join(counts)}{more}.")
    renamed = [f"{printable(name)}/ as {split}" for name, split in words.items() if not split_named(name)]
    if renamed:
        layout.notes.append(f"Folders are read as splits by their names: {', '.join(renamed)}.")


def _splits_of_classes(layout: _Layout) -> Classes | None:
    """The classes of a layout such as CLASS/train, CLASS/test; None if the folder has another layout."""
    classes: Classes = {split: {} for split in SPLITS}
    for name, folder in layout.top.folders.items():
        if folder.files:
            return None
        if not folder.folders:
            classes["train"].setdefault(class_name(name), []).append(folder)
        for word, child in folder.folders.items():
            split = split_named(word)
            if not split:
                return None
            classes[split].setdefault(class_name(name), []).append(child)
    if not any(_count(folders) for folders in classes["train"].values()):
        return None
    layout.stray_files += len(layout.top.files)
    layout.notes.append("Each class folder holds its own splits.")
    return {split: by_name for split, by_name in classes.items() if by_name}


def _plain_classes(layout: _Layout) -> Classes:
    """The classes of a folder with one folder per class. InputError if most files lie outside of them."""
    top = layout.top
    files = len(top.files)
    if not top.folders or files > top.file_count() - files:
        hint = (
            f"sort its {_plural(files, 'file')} into one folder per class" if files else "add one per class"
        )
        lists = [name for name in top.files if Path(name).suffix.lower() in LABEL_FILE_SUFFIXES]
        if len(lists) == 1:
            hint += f", or pass {Path(top.path, lists[0])} if it has columns of path and label"
        elif files:
            hint += ", or pass a .csv file with columns path and label"
        problem = (
            "most files lie outside of its class folders" if top.folders else "there are no class folders"
        )
        raise refusal(f"{problem} in {top.path}; {hint}")
    for name in _split_words(top):
        layout.notes.append(f"{printable(name)}/ is read as a class, not as a split.")
    layout.stray_files += files
    return {None: _by_class(top)}


def _split_words(folder: Folder) -> dict[str, str]:
    """The split that each folder in a folder means, for those that mean one.

    Names such as seg_train or training_set count if no folder is named train, and most names are like this.
    """
    exact = {name: split for name in folder.folders if (split := split_named(name))}
    if "train" in exact.values():
        return exact
    by_part = {}
    for name in folder.folders:
        splits = {split for part in re.split(r"[\W_]+", name) if (split := split_named(part))}
        if len(splits) == 1:
            by_part[name] = splits.pop()
    is_rule = {"train"} < set(by_part.values()) and 2 * len(by_part) >= len(folder.folders)
    return by_part if is_rule else exact


def _has_splits(top: Folder, words: dict[str, str]) -> bool:
    """If the folders that are named as splits are splits, and not classes of these names.

    InputError for a split layout that lacks class folders to train on.
    """
    training = [name for name, split in words.items() if split == "train"]
    evaluation = [name for name in words if name not in training]
    classes = [name for name in top.folders if name not in words]
    for name in training:
        folder = top.folders[name]
        # Most files of a split lie in class folders; a class "train" has its pictures directly in it.
        if folder.folders and (evaluation or len(folder.files) <= folder.file_count() - len(folder.files)):
            return True
    if training and (evaluation or not classes):
        raise refusal(
            f"{Path(top.path, training[0])} has no class folders; sort its files into one folder per class, "
            f"or pass a .csv file with columns path and label{_label_file_hint(top, training)}"
        )
    for name in evaluation:
        # Classes may be named valid and invalid, or test; their folders do not repeat the other classes.
        repeated = {class_name(child) for child in top.folders[name].folders} & set(map(class_name, classes))
        if repeated or not classes:
            raise refusal(
                f"{top.path} has {name}/ but no train/; put the class folders for training into train/"
            )
    return False


def _label_file_hint(top: Folder, training: list[str]) -> str:
    """Names the only file in a folder or in its training split that may hold the labels."""
    folders = [top, *(top.folders[name] for name in training)]
    files = [Path(folder.path, name) for folder in folders for name in folder.files]
    lists = [file for file in files if file.suffix.lower() in LABEL_FILE_SUFFIXES]
    return f" (is {lists[0]} one?)" if len(lists) == 1 else ""


def _unwrapped(folder: Folder, split: str) -> Folder:
    """The folder of a split, or the only folder in it if that has the same name, as in train/train/CLASS."""
    while len(folder.folders) == 1:
        ((name, child),) = folder.folders.items()
        same = split_named(name) == split or name.lower() == Path(folder.path).name.lower()
        if not same or not child.folders:
            break
        folder = child
    return folder


def _has_no_labels(folder: Folder, training: dict[str, list[Folder]]) -> bool:
    """If a split for evaluation has no class folders, or one that is no class but holds unlabelled files."""
    names = {class_name(name).casefold() for name in folder.folders}
    return not names or (len(names) == 1 and not names & {name.casefold() for name in training})


def _by_class(parent: Folder) -> dict[str, list[Folder]]:
    """The class folders in a folder, by name of the class; names in NFC and in NFD are one class."""
    classes: dict[str, list[Folder]] = {}
    for name, folder in parent.folders.items():
        classes.setdefault(class_name(name), []).append(folder)
    return classes


def _check_classes(classes: Classes, layout: _Layout) -> None:
    """InputError unless two classes for training have files."""
    split = "train" if "train" in classes else None
    names = [name for name, folders in classes[split].items() if _count(folders)]
    where = f"the training split of {layout.top.path}" if split else layout.top.path
    if not names:
        raise refusal(f"the class folders in {where} have no files; add pictures to them")
    if len(names) == 1:
        raise refusal(f"{where} has only one class with files, {names[0]}; add the folder of a second class")


def _files(classes: Classes, layout: _Layout) -> list[PictureFile]:
    """The files of all classes, sorted by name."""
    files = []
    nested = 0
    for split, by_name in classes.items():
        for label, class_folders in by_name.items():
            nested += _count(class_folders) - sum(len(folder.files) for folder in class_folders)
            for folder in (folder for class_folder in class_folders for folder in class_folder.walk()):
                parent = layout.name(folder.path)
                files += [
                    PictureFile(Path(folder.path, file), f"{parent}/{printable(file)}", label, split)
                    for file in folder.files
                ]
    if nested:
        layout.notes.append(f"Files in folders below a class folder belong to that class ({nested:,}).")
    return sorted(files, key=lambda file: file.name)


def _count(folders: list[Folder]) -> int:
    return sum(folder.file_count() for folder in folders)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
