"""The pictures to classify: files, all pictures of a folder, or pictures with known classes."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.pictures import decoding, folders, label_files, splitting
from wandb_tl.pictures.decoding import UnreadablePictureError
from wandb_tl.pictures.folder_tree import read_tree
from wandb_tl.pictures.listing import Listing
from wandb_tl.pictures.names import printable
from wandb_tl.pictures.survey import MORE_ENDINGS, survey

STDIN = "-"
LABEL_FILES = label_files.TABLE_SUFFIXES | label_files.JSON_SUFFIXES
# Names that a note lists before it only counts the rest.
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Target:
    """A picture to classify. name: what the output calls it. actual: its class; None if nobody says."""

    picture: Path | io.BytesIO
    name: str
    actual: str | None = None


@dataclass
class Targets:
    """Pictures to classify, and sentences about which ones they are."""

    pictures: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def collect(places: Sequence[str], config: RunConfig, class_names: Sequence[str]) -> Targets:
    """The pictures at these places: files, folders, label files, or "-" for stdin.

    config, class_names: those of the model. The classes of a folder or a label file count only if they are
    classes of the model. InputError if there are no pictures.
    """
    targets = Targets()
    for place in places:
        path = Path(place).expanduser()
        if place == STDIN:
            targets.pictures.append(Target(io.BytesIO(sys.stdin.buffer.read()), STDIN))
        elif path.is_dir() or path.suffix.lower() in LABEL_FILES:
            _add_many(targets, path, config, class_names)
        else:
            targets.pictures.append(Target(path, printable(place)))
    if not targets.pictures:
        raise InputError(f"{', '.join(places)}: there are no pictures")
    return targets


def _add_many(targets: Targets, path: Path, config: RunConfig, class_names: Sequence[str]) -> None:
    """Add the pictures of a folder or a label file, with their classes if the model has them."""
    listing = _listing(path)
    if listing is None:
        _add_unlabelled(targets, path)
        return
    others = sorted({file.label for file in listing.files} - set(class_names))
    if others:
        shown = ", ".join(others[:NAMES_SHOWN]) + (", …" if len(others) > NAMES_SHOWN else "")
        targets.notes.append(f"{path}: no accuracy, because these are not classes of the model: {shown}")
        if path.is_dir():
            _add_unlabelled(targets, path)
        else:
            targets.pictures += [Target(file.path, file.name) for file in listing.files]
        return
    is_own = config.dataset == "folder" and _same(path, config.data_dir)
    splits = {file.split for file in listing.files}
    if is_own or ("train" in splits and splits & {"val", "test"}):
        _add_test_split(targets, path, config, is_own)
    else:
        _add_labelled(targets, path, listing)


def _listing(path: Path) -> Listing | None:
    """The pictures with their classes; None for a folder without them."""
    if path.is_dir():
        try:
            return folders.list_folder(path)
        except InputError:
            return None
    try:
        return label_files.list_label_file(path)
    except InputError as error:
        raise InputError(str(error).removeprefix("data_dir: ")) from error


def _add_test_split(targets: Targets, path: Path, config: RunConfig, is_own: bool) -> None:
    """Add the test pictures of a data set, those that the run evaluates if it is the run's own."""
    try:
        result = survey(str(path), config.val_fraction, config.test_fraction)
    except InputError as error:
        raise InputError(str(error).removeprefix("data_dir: ")) from error
    tested, total = result.splits["test"], sum(map(len, result.different_splits.values()))
    if is_own:
        digests = [picture.facts.digest for picture in tested]
        labels = [picture.label for picture in tested]
        indices = splitting.limit(digests, labels, config.test_limit, "test_limit")
        tested = [tested[index] for index in sorted(indices)]
    split = "validation" if result.test_is_val else "test"
    whose = f"{split} pictures of the run's own data" if is_own else f"{split} pictures of {path}"
    targets.notes.append(f"The {len(tested):,} {whose} are classified, of {total:,} pictures.")
    # After the readable ones, so that each batch is as in the evaluation of the run.
    unreadable = [picture for picture in result.unreadable if picture.file.split == "test"]
    targets.pictures += [Target(one.file.path, one.name, one.label) for one in tested + unreadable]


def _add_labelled(targets: Targets, path: Path, listing: Listing) -> None:
    """Add the test pictures if the listing names some, else all."""
    files = [file for file in listing.files if file.split == "test"] or listing.files
    kept = [file for file in files if not path.is_dir() or _is_picture(file.path)]
    _note_passed_over(targets, path, listing.passed_over, len(files) - len(kept))
    targets.pictures += [Target(file.path, file.name, file.label) for file in kept]
    which = "test pictures" if len(files) < len(listing.files) else "pictures"
    targets.notes.append(
        f"{path}: all {len(kept):,} {which} are classified. If the model was trained on some of them, the "
        "accuracy is too high."
    )


def _add_unlabelled(targets: Targets, path: Path) -> None:
    """Add all pictures in a folder and below it."""
    tree = read_tree(path)
    files = [Path(folder.path, name) for folder in tree.root.walk() for name in folder.files]
    kept = sorted(file for file in files if _is_picture(file))
    _note_passed_over(targets, path, tree.passed_over, len(files) - len(kept))
    targets.pictures += [Target(file, printable(file.relative_to(path).as_posix())) for file in kept]


def _is_picture(file: Path) -> bool:
    """Whether a file is a picture, or claims to be one by its name."""
    Image.init()
    if file.suffix.lower() in MORE_ENDINGS | set(Image.EXTENSION):
        return True
    try:
        decoding.read_header(file)
    except UnreadablePictureError:
        return False
    return True


def _note_passed_over(targets: Targets, path: Path, reasons: dict[str, int], others: int) -> None:
    counts = Counter(reasons) + Counter({"files that are not pictures": others})
    if counts:
        listed = ", ".join(f"{why} ({count:,})" for why, count in counts.items())
        targets.notes.append(f"{path}: left out: {listed}")


def _same(path: Path, data_dir: str) -> bool:
    try:
        return path.samefile(Path(data_dir).expanduser())
    except OSError:
        return False
