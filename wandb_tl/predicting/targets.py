"""The pictures to classify: files, all pictures of a folder, or pictures with known classes."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wandb_tl.errors import InputError, printable
from wandb_tl.pictures import decoding, folders, label_files, splitting
from wandb_tl.pictures.decoding import UnreadablePictureError
from wandb_tl.pictures.folder_tree import read_tree
from wandb_tl.pictures.listing import Listing
from wandb_tl.pictures.survey import picture_endings, survey
from wandb_tl.training.model_description import ModelDescription, names_digest

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


def collect(places: Sequence[str], model: ModelDescription) -> Targets:
    """The pictures at these places: files, folders, label files, or "-" for stdin.

    The classes of a folder or a label file count only if they are classes of the model. InputError if there
    are no pictures.
    """
    targets = Targets()
    for place in places:
        path = Path(place).expanduser()
        if place == STDIN:
            targets.pictures.append(Target(io.BytesIO(sys.stdin.buffer.read()), STDIN))
        elif path.is_dir() or path.suffix.lower() in LABEL_FILES:
            _add_many(targets, path, model)
        else:
            targets.pictures.append(Target(path, printable(place)))
    if not targets.pictures:
        raise InputError(f"{', '.join(places)}: there are no pictures")
    return targets


def _add_many(targets: Targets, path: Path, model: ModelDescription) -> None:
    """Add the pictures of a folder or a label file, with their classes if the model has them."""
    listing = _listing(path)
    if listing is None:
        _add_unlabelled(targets, path)
        return
    labels = {file.label for file in listing.files}
    if others := sorted(labels - set(model.class_names)):
        shown = ", ".join(others[:NAMES_SHOWN]) + (", …" if len(others) > NAMES_SHOWN else "")
        targets.notes.append(f"{path}: no accuracy, because these are not classes of the model: {shown}")
        if path.is_dir():
            _add_unlabelled(targets, path)
        else:
            targets.pictures += [Target(file.path, file.name) for file in listing.files]
    elif own := _own_test_pictures(path, model) if labels == set(model.class_names) else None:
        targets.pictures += own
        targets.notes.append(f"{path}: the {len(own):,} test pictures of the run are classified.")
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


def _own_test_pictures(path: Path, model: ModelDescription) -> list[Target] | None:
    """The pictures that the run has evaluated, if this is the data set that it was trained on, else None.

    The data set may have moved: the names of the pictures below it decide.
    """
    config = model.config
    try:
        result = survey(str(path), config.val_fraction, config.test_fraction, fold=config.fold_of)
        tested = result.splits["test"]
        digests = [picture.facts.digest for picture in tested]
        labels = [picture.label for picture in tested]
        indices = splitting.limit(digests, labels, config.test_limit, "test_limit")
    except InputError:
        # It cannot be trained on.
        return None
    limited = [tested[index] for index in sorted(indices)]
    if names_digest(picture.name for picture in limited) != model.test_pictures:
        return None
    return [Target(picture.file.path, picture.name, picture.label) for picture in limited]


def _add_labelled(targets: Targets, path: Path, listing: Listing) -> None:
    """Add the test pictures if the listing names some, else the validation pictures, else all."""
    for split in ("test", "val", None):
        files = [file for file in listing.files if split in (file.split, None)]
        if files:
            break
    kept = [file for file in files if not path.is_dir() or _is_picture(file.path)]
    _note_passed_over(targets, path, listing.passed_over, len(files) - len(kept))
    targets.pictures += [Target(file.path, file.name, file.label) for file in kept]
    if split:
        targets.notes.append(f"{path}: its {len(kept):,} {split} pictures are classified.")
    else:
        targets.notes.append(
            f"{path}: all {len(kept):,} pictures are classified. If the model was trained on some of them, "
            "the accuracy is too high."
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
    if file.suffix.lower() in picture_endings():
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
