"""Everything that is wrong with the pictures of a data set, file by file."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wandb_tl.pictures import duplicates
from wandb_tl.pictures.facts import Picture
from wandb_tl.pictures.survey import CLASSES_SHOWN, Survey

# The kinds of findings, the worst first, each with what it means and what to do about it.
UNREADABLE = "unreadable"
LEAK, TWO_LABELS, REPEATED = "leak", "two labels", "repeated"
ALIKE_LEAK, ALIKE_TWO_LABELS, ALIKE = "alike leak", "alike two labels", "alike"
BLANK = "blank"
MEANINGS = {
    UNREADABLE: "cannot be read; replace or delete them, or train with on_bad_image=skip",
    LEAK: "equal pictures in two splits: the model has seen what it is tested on; delete one of each pair",
    TWO_LABELS: "equal pictures with two labels; delete the one whose label is wrong",
    REPEATED: "equal pictures of one class and split; one of each pair is enough",
    ALIKE_LEAK: "pictures of two splits that look alike: look at them, and keep both in one split",
    ALIKE_TWO_LABELS: "pictures of two classes that look alike: one label may be wrong",
    ALIKE: "pictures of one class and split that look alike; one of each pair may be enough",
    BLANK: "pictures of almost a single colour; delete them unless they are meant",
}
# Kinds that make a model's accuracy wrong, or stop its training.
SERIOUS = (UNREADABLE, LEAK, TWO_LABELS)
COLUMNS = ("kind", "file", "other_file", "label", "detail")
# Thumbnails whose grey levels differ less than this are of one colour.
BLANK_LEVELS = 3
# Pictures that look alike may make very many pairs: the text has so many of a kind, and the search ends at so
# many in all.
ALIKE_PRINTED = 20
MOST_ALIKE = 100_000
ALIKE_KINDS = (ALIKE_LEAK, ALIKE_TWO_LABELS, ALIKE)


@dataclass(frozen=True)
class Finding:
    """Something wrong with a picture, or with a pair of pictures.

    splits: of the picture and the other one; empty for a picture that is in none, because it is unreadable.
    """

    kind: str
    picture: Picture
    detail: str
    splits: tuple[str, ...] = ()
    other: Picture | None = None

    @property
    def row(self) -> dict[str, str]:
        """The finding as a row of a table, by COLUMNS."""
        other = self.other.name if self.other else ""
        values = (self.kind, self.picture.name, other, self.picture.label, self.detail)
        return dict(zip(COLUMNS, values, strict=True))


def find(survey: Survey, thumbnails: NDArray[np.uint8]) -> dict[str, list[Finding]]:
    """All findings by kind, in the order of MEANINGS.

    thumbnails: (N, 72), see framing.thumbnail, of the pictures of survey.different_splits, in their order.
    """
    splits = survey.different_splits
    split_of = {picture: split for split, pictures in splits.items() for picture in pictures}
    pictures = [picture for members in splits.values() for picture in members]
    copies = duplicates.exact_copies(splits)
    findings = [Finding(UNREADABLE, picture, picture.facts.problem) for picture in survey.unreadable]
    for kind, pairs in (
        (LEAK, copies.leaks),
        (TWO_LABELS, copies.two_labels),
        (REPEATED, copies.repeated),
    ):
        findings += [_pair(kind, first, other, split_of) for first, other in pairs]
    findings += _alike(pictures, thumbnails, split_of)
    for picture, thumbnail in zip(pictures, thumbnails, strict=True):
        if int(thumbnail.max()) - int(thumbnail.min()) < BLANK_LEVELS:
            findings.append(Finding(BLANK, picture, "almost a single colour", (split_of[picture],)))
    by_kind: dict[str, list[Finding]] = {kind: [] for kind in MEANINGS}
    for finding in findings:
        by_kind[finding.kind].append(finding)
    return {kind: members for kind, members in by_kind.items() if members}


def sizes(survey: Survey) -> str:
    """The number of pictures by class, if the survey's paragraph has only a range, and their sizes."""
    splits = survey.different_splits
    counts = Counter((picture.label, name) for name, members in splits.items() for picture in members)
    lines = []
    if len(survey.class_names) > CLASSES_SHOWN:
        lines.append(f"  Pictures by class ({' + '.join(splits)}):")
        for label in survey.class_names:
            lines.append(f"    {label} {' + '.join(f'{counts[label, name]:,}' for name in splits)}")
    pictures = [picture for members in splits.values() for picture in members]
    sides = sorted((min(picture.facts.width, picture.facts.height), picture.name) for picture in pictures)
    (smallest, small_name), (largest, large_name) = sides[0], sides[-1]
    lines.append(
        f"  Shorter side: {smallest} px ({small_name}) to {largest} px ({large_name}), "
        f"median {sides[len(sides) // 2][0]} px"
    )
    longest = max(pictures, key=_aspect)
    lines.append(f"  Most elongated: {longest.facts.width} x {longest.facts.height} px ({longest.name})")
    return "\n".join(lines)


def text(by_kind: Mapping[str, Sequence[Finding]]) -> str:
    """Findings for a terminal, kind by kind. Of the pairs that only look alike, the most similar ones."""
    paragraphs = []
    for kind, findings in by_kind.items():
        lines = [f"{kind.capitalize()} ({len(findings):,}): {MEANINGS[kind]}"]
        shown = findings[:ALIKE_PRINTED] if kind in ALIKE_KINDS else findings
        for finding in shown:
            names = (
                f"{finding.picture.name} | {finding.other.name}" if finding.other else finding.picture.name
            )
            lines.append(f"  {' '.join(names.split())}: {finding.detail}")
        if len(shown) < len(findings):
            lines.append(f"  and {len(findings) - len(shown):,} more; --csv FILE lists all")
        paragraphs.append("\n".join(lines))
    if sum(len(findings) for kind, findings in by_kind.items() if kind in ALIKE_KINDS) == MOST_ALIKE:
        paragraphs.append(f"More than {MOST_ALIKE:,} pairs look alike; the others are left out.")
    return "\n\n".join(paragraphs)


def pairs_to_look_at(by_kind: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """One finding per pair of pictures, first those that only look alike: a person has to judge them."""
    order = (ALIKE_LEAK, ALIKE_TWO_LABELS, LEAK, TWO_LABELS, ALIKE, REPEATED)
    pairs: dict[tuple[str, str], Finding] = {}
    for kind in order:
        for finding in by_kind.get(kind, ()):
            if finding.other:
                pairs.setdefault((finding.picture.name, finding.other.name), finding)
    return list(pairs.values())


def write_csv(findings: Sequence[Finding], file: Path) -> None:
    """Write one row per finding. OSError if the file cannot be written."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(finding.row for finding in findings)


def _alike(
    pictures: Sequence[Picture], thumbnails: NDArray[np.uint8], split_of: Mapping[Picture, str]
) -> list[Finding]:
    """Pairs that look alike and are not equal, the most similar ones first."""
    # Of equal pictures, the first one stands for all.
    numbers = {picture.facts.digest: number for number, picture in reversed(list(enumerate(pictures)))}
    different = sorted(numbers.values())
    levels = thumbnails[different].astype(np.int16)
    pairs = []
    for left, right in duplicates.alike(thumbnails[different], MOST_ALIKE):
        first, other = pictures[different[left]], pictures[different[right]]
        difference = float(np.abs(levels[left] - levels[right]).mean())
        if split_of[first] != split_of[other]:
            kind = ALIKE_LEAK
        elif first.label != other.label:
            kind = ALIKE_TWO_LABELS
        else:
            kind = ALIKE
        detail = f"; differ by {difference:.1f} of 255 grey levels"
        pairs.append((difference, left, right, _pair(kind, first, other, split_of, detail)))
    return [finding for *_, finding in sorted(pairs, key=lambda pair: pair[:3])]


def _pair(
    kind: str, first: Picture, other: Picture, split_of: Mapping[Picture, str], more: str = ""
) -> Finding:
    """A finding whose detail names the splits and labels: "train and test, labelled cat and dog"."""
    splits = split_of[first], split_of[other]
    detail = f"{_both(*splits)}, labelled {_both(first.label, other.label)}{more}"
    return Finding(kind, first, detail, splits, other)


def _both(first: str, other: str) -> str:
    return first if first == other else f"{first} and {other}"


def _aspect(picture: Picture) -> float:
    """The longer side of a picture as a multiple of the shorter one."""
    sides = picture.facts.width, picture.facts.height
    return max(sides) / min(sides)
