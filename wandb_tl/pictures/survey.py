"""What a data set of pictures contains: its splits and classes, what is left out, and what looks wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from wandb_tl.errors import InputError, one_line
from wandb_tl.pictures import duplicates, folders, label_files, splitting
from wandb_tl.pictures.colours import GreyLevels, grey_levels
from wandb_tl.pictures.decoding import FORMATS_NOT_OPENED
from wandb_tl.pictures.facts import Facts, FactsIndex, Picture
from wandb_tl.pictures.listing import SPLITS, Listing

# Names that a message lists before it only counts the rest.
NAMES_SHOWN = 12
# Unreadable pictures that a message lists.
UNREADABLE_SHOWN = 50
# Classes whose pictures are counted one by one.
CLASSES_SHOWN = 20
# Formats that Pillow reads with the help of another package.
MORE_ENDINGS = {".heic", ".heif", ".hif"}


@dataclass(frozen=True)
class Survey:
    """The pictures of a data set by split, and what is said about them.

    splits: "train", "test" and, if there are validation pictures, "val". test_is_val: whether "test" has the
    pictures of "val", because there are no others. class_names: sorted. unreadable: pictures that cannot be
    read, with the reason in their facts. levels: how deep grey pictures are shown. warnings: what is probably
    wrong.
    """

    root: Path
    splits: dict[str, list[Picture]]
    class_names: list[str]
    unreadable: list[Picture]
    passed_over: dict[str, int]
    notes: list[str]
    levels: GreyLevels
    test_is_val: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def different_splits(self) -> dict[str, list[Picture]]:
        """The splits, without "test" if that repeats "val"."""
        return _different(self.splits, self.test_is_val)


def survey(
    data_dir: str,
    val_fraction: float,
    test_fraction: float,
    confined: bool = False,
    problems: Mapping[str, str] | None = None,
    fold: tuple[int, int] = splitting.NO_FOLD,
) -> Survey:
    """Look at a folder of pictures, or at a file that lists them.

    val_fraction, test_fraction: held out of the training pictures if the data set has no such split.
    confined: for a downloaded folder: if it has a label file instead of class folders, that is read, and may
    name no file outside of the folder. problems: why pictures cannot be decoded, by their digests, besides
    those that an earlier process has tried. fold: (K, N) to hold out the K-th of N parts for validation, in
    place of val_fraction. InputError if nothing can be trained on.
    """
    root = _root(data_dir)
    listing = _list(root, confined)
    index = FactsIndex(root)
    undecodable = {**index.problems(), **(problems or {})}
    entries = [
        replace(entry, problem=entry.problem or undecodable.get(entry.digest, ""))
        for entry in index.read([file.path for file in listing.files])
    ]
    pictures, passed_over = _without_other_files(listing, entries)
    readable = [picture for picture in pictures if not picture.facts.problem]
    if not readable:
        raise InputError(f"data_dir: {root} has no readable pictures{_first_problem(pictures)}")
    levels = grey_levels(picture.facts.grey for picture in readable if picture.facts.grey)
    splits, notes = split(readable, val_fraction, test_fraction, fold)
    test_is_val = splits["test"] is splits.get("val")
    return Survey(
        root=root,
        splits=splits,
        class_names=_class_names(splits, root),
        unreadable=[picture for picture in pictures if picture.facts.problem],
        passed_over=passed_over,
        notes=[*listing.notes, *notes],
        levels=levels,
        test_is_val=test_is_val,
        warnings=[*_warnings(listing, splits, test_is_val), *_flat_pictures(readable, levels)],
    )


def has_split(data_dir: str, name: str) -> bool:
    """Whether a data set of pictures has a split of this name. InputError if it cannot be listed.

    No picture is opened.
    """
    return any(file.split == name for file in _list(_root(data_dir), confined=False).files)


def split(
    pictures: list[Picture],
    val_fraction: float,
    test_fraction: float,
    fold: tuple[int, int] = splitting.NO_FOLD,
) -> tuple[dict[str, list[Picture]], list[str]]:
    """The pictures by split, and notes about the splits that were made here.

    Pictures without a split are for training, until some of them are held out. InputError without any,
    or if none can be held out.
    """
    splits = {name: [picture for picture in pictures if picture.file.split == name] for name in SPLITS}
    train = splits["train"] + [picture for picture in pictures if picture.file.split is None]
    if not train:
        raise InputError("data_dir: no picture is in the training split")
    parts, notes = splitting.divide(
        [picture.facts.digest for picture in train],
        [picture.label for picture in train],
        [name for name, members in splits.items() if members],
        val_fraction,
        test_fraction,
        fold,
    )
    splits |= {name: [train[index] for index in indices] for name, indices in parts.items()}
    if not splits["test"] and not splits["val"]:
        raise InputError(
            "data_dir: no class has two different pictures, so that none can be held out for testing"
        )
    if not splits["test"]:
        notes.append("There is no test split: test metrics are those of the validation pictures.")
        splits["test"] = splits["val"]
    return {name: members for name, members in splits.items() if members}, notes


def paragraph(survey: Survey) -> str:
    """What the data set contains, for a person to read before the training begins."""
    names = [name for name in SPLITS if name in survey.different_splits]
    everything = [picture for name in names for picture in survey.splits[name]]
    sizes = ", ".join(f"{len(survey.splits[name]):,} {name}" for name in names)
    lines = [
        f"{survey.root}: {len(everything):,} pictures of {len(survey.class_names)} classes ({sizes})",
        _classes(survey, names),
        _formats(everything),
        *survey.notes,
    ]
    if survey.passed_over:
        lines.append(
            "Left out: " + ", ".join(f"{why} ({count:,})" for why, count in survey.passed_over.items())
        )
    lines += [f"Warning: {warning}" for warning in survey.warnings]
    return "\n".join([lines[0], *(f"  {line}" for line in lines[1:])])


def unreadable_line(unreadable: Sequence[Picture]) -> str:
    """The pictures that cannot be read, by reason, on one line; of very many, the first ones."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for picture in unreadable[:UNREADABLE_SHOWN]:
        by_reason[picture.facts.problem].append(picture.name)
    parts = [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    if (more := len(unreadable) - UNREADABLE_SHOWN) > 0:
        parts.append(f"and {more:,} more, which inspect_data lists")
    pictures = "1 picture" if len(unreadable) == 1 else f"{len(unreadable):,} pictures"
    return f"{pictures} cannot be read ({'; '.join(parts)})"


def _root(data_dir: str) -> Path:
    try:
        root = Path(data_dir).expanduser()
        # Such as a name that is too long.
        root.exists()
    except (RuntimeError, OSError) as error:
        raise InputError(f"data_dir: cannot read {data_dir[:200]}: {one_line(error)}") from error
    return root


def _list(root: Path, confined: bool) -> Listing:
    if root.is_file():
        return label_files.list_label_file(root, confined)
    try:
        return folders.list_folder(root)
    except InputError as error:
        names = [file for file in root.glob("*") if file.suffix.lower() in folders.LABEL_FILE_SUFFIXES]
        if len(names) != 1:
            raise
        if confined:
            return label_files.list_label_file(names[0], confined)
        hint = "" if str(names[0]) in str(error) else f"; or pass {names[0]}, if it lists the pictures"
        raise InputError(f"{error}{hint}") from error


def _different(splits: dict[str, list[Picture]], test_is_val: bool) -> dict[str, list[Picture]]:
    return {name: members for name, members in splits.items() if not (name == "test" and test_is_val)}


def picture_endings() -> set[str]:
    """The endings of files that claim to be pictures, such as ".jpg"."""
    Image.init()
    return MORE_ENDINGS | {
        ending
        for ending, name in Image.EXTENSION.items()
        if name in Image.OPEN and name not in FORMATS_NOT_OPENED
    }


def majority_share(labels: Iterable[str]) -> tuple[str, float]:
    """The most frequent label, and its share of all labels, between 0 and 1."""
    counts = Counter(labels)
    ((label, count),) = counts.most_common(1)
    return label, count / counts.total()


def _without_other_files(listing: Listing, entries: list[Facts]) -> tuple[list[Picture], dict[str, int]]:
    """The pictures, readable or not, and the number of all files that are left out, by reason.

    Files that are no pictures and do not claim to be, such as notes or videos, are left out.
    """
    endings = picture_endings()
    pictures: list[Picture] = []
    others: Counter[str] = Counter()
    for file, entry in zip(listing.files, entries, strict=True):
        ending = file.path.suffix.lower()
        if entry.problem and entry.digest and not entry.format and ending not in endings:
            others[f"{ending} files" if ending else "files without ending"] += 1
        else:
            pictures.append(Picture(file, entry))
    passed_over = dict(listing.passed_over)
    for kind, count in sorted(others.items()):
        passed_over[f"{kind} that are not pictures"] = count
    return pictures, passed_over


def _class_names(splits: dict[str, list[Picture]], root: Path) -> list[str]:
    """The classes of the training pictures. InputError if there is one only, or others are tested."""
    trained = {picture.label for picture in splits["train"]}
    if len(trained) < 2:
        raise InputError(f"data_dir: {root} has training pictures of one class only; add a second class")
    for name in ("val", "test"):
        for label in sorted({picture.label for picture in splits.get(name, [])} - trained):
            other = next((known for known in trained if known.casefold() == label.casefold()), None)
            hint = f"rename it to {other}" if other else "add some, or remove the class"
            raise InputError(f"data_dir: class {label} is in {name}, but has no training pictures; {hint}")
    return sorted(trained)


def _warnings(listing: Listing, splits: dict[str, list[Picture]], test_is_val: bool) -> list[str]:
    warnings = [f"{name} is empty; add pictures to it, or delete it" for name in listing.empty_classes]
    tested = {picture.label for picture in splits["test"]}
    if missing := sorted({picture.label for picture in splits["train"]} - tested):
        warnings.append(f"no test pictures of {_shortened(missing)}; their accuracy is not measured")
    warnings += duplicates.warnings(duplicates.exact_copies(_different(splits, test_is_val)))
    label, share = majority_share(picture.label for picture in splits["test"])
    if share > max(0.5, 1.5 / len(tested)):
        warnings.append(
            f"{share:.1%} of the test pictures are {label}: a model that always answers {label} has this "
            "accuracy; compare f1_macro as well"
        )
    return warnings


def _flat_pictures(pictures: list[Picture], levels: GreyLevels) -> list[str]:
    """A warning about deep grey pictures that show as one grey, because other values reach further."""
    flat = []
    for picture in pictures:
        if (grey := picture.facts.grey) is None:
            continue
        black, white = levels.floating if grey.floating else levels.integer
        if 0 < (grey.largest - grey.smallest) * 255 / (white - black) < 1:
            flat.append(picture.name)
    if not flat:
        return []
    return [
        f"{_shortened(flat)}: one flat grey, because values in other pictures reach from {black:g} to "
        f"{white:g}; replace values that mean no data"
    ]


def _classes(survey: Survey, names: list[str]) -> str:
    """The number of pictures by class: each class, or the range if there are many."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        for picture in survey.splits[name]:
            counts[picture.label][name] += 1
    if len(counts) <= CLASSES_SHOWN:
        classes = ", ".join(
            f"{label} {' + '.join(f'{counts[label][name]:,}' for name in names)}"
            for label in survey.class_names
        )
        return f"Pictures by class ({' + '.join(names)}): {classes}"
    by_size = sorted(counts, key=lambda label: counts[label].total())
    fewest, most = by_size[0], by_size[-1]
    return (
        f"Pictures per class: {counts[fewest].total():,} ({fewest}) to {counts[most].total():,} ({most}), "
        f"median {counts[by_size[len(by_size) // 2]].total():,}"
    )


def _formats(pictures: list[Picture]) -> str:
    """The sizes and formats of the pictures."""
    smallest = min(pictures, key=lambda picture: picture.facts.width * picture.facts.height).facts
    largest = max(pictures, key=lambda picture: picture.facts.width * picture.facts.height).facts
    size = f"{smallest.width} x {smallest.height}"
    if (smallest.width, smallest.height) != (largest.width, largest.height):
        size += f" to {largest.width} x {largest.height}"
    formats = Counter(picture.facts.format for picture in pictures)
    return f"{size} pixels; " + ", ".join(f"{count:,} {name}" for name, count in formats.most_common())


def _first_problem(pictures: list[Picture]) -> str:
    return f": {unreadable_line(pictures)}" if pictures else ""


def _shortened(names: list[str]) -> str:
    """Names for a sentence: all of them, or the first few and the number of the rest."""
    text = ", ".join(names[:NAMES_SHOWN])
    return text if len(names) <= NAMES_SHOWN else f"{text} and {len(names) - NAMES_SHOWN:,} more"
