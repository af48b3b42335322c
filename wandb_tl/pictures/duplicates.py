"""The same picture twice: files with equal content, and pictures that look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wandb_tl.pictures.facts import Picture

# Bits of 64 in which the difference hashes of two pictures that look alike may differ.
HASH_BITS = 3
# The mean difference of their thumbnails, in grey levels of 255.
THUMBNAIL_LEVELS = 6.0
# A thumbnail whose grey levels deviate less than this shows nothing by which pictures can be told apart.
PLAIN_LEVELS = 4.0
# Hashes that are compared with all others at a time.
CHUNK = 512


@dataclass(frozen=True)
class Copies:
    """Pairs of pictures with equal content, by what is wrong with them.

    leaks: of two splits. two_labels: of different classes. repeated: of one class
    and one split.
    """

    leaks: list[tuple[Picture, Picture]]
    two_labels: list[tuple[Picture, Picture]]
    repeated: list[tuple[Picture, Picture]]


def exact_copies(splits: Mapping[str, Sequence[Picture]]) -> Copies:
    """The pictures whose files are equal byte by byte, each paired with the first one of its content."""
    first: dict[str, tuple[str, Picture]] = {}
    copies = Copies([], [], [])
    for split, pictures in splits.items():
        for picture in pictures:
            if picture.facts.digest not in first:
                first[picture.facts.digest] = split, picture
                continue
            split_of_first, original = first[picture.facts.digest]
            if original.label != picture.label:
                copies.two_labels.append((original, picture))
            if split_of_first != split:
                copies.leaks.append((original, picture))
            elif original.label == picture.label:
                copies.repeated.append((original, picture))
    return copies


def warnings(copies: Copies) -> list[str]:
    """A sentence each for pictures in two splits, and for pictures of two classes."""
    sentences = []
    if copies.leaks:
        sentences.append(
            f"{_pairs(copies.leaks)} of equal pictures in two splits, such as {_example(copies.leaks)}: a "
            "model must not have seen what it is tested on; delete one of each"
        )
    if copies.two_labels:
        sentences.append(
            f"{_pairs(copies.two_labels)} of equal pictures in two classes, such as "
            f"{_example(copies.two_labels)}: delete the wrong one of each"
        )
    return sentences


def alike(thumbnails: NDArray[np.uint8], most: int | None = None) -> list[tuple[int, int]]:
    """Pairs of indices (i < j) of pictures that look alike, such as one picture stored at two sizes.

    thumbnails: (N, 72), see framing.thumbnail. Two pictures look alike if their difference hashes (whether a
    pixel is brighter than its left neighbour) differ in three bits at most, and their thumbnails hardly.
    most: how many pairs it returns at most. The frames of a video may have hundreds of millions.
    """
    grey = thumbnails.reshape(-1, 8, 9).astype(np.int16)
    bits = np.packbits((grey[:, :, 1:] > grey[:, :, :-1]).reshape(-1, 64), axis=1)
    hashes = np.ascontiguousarray(bits).view(np.uint64)[:, 0]
    candidates = np.flatnonzero(grey.reshape(-1, 72).std(axis=1) >= PLAIN_LEVELS)
    hashes, flat = hashes[candidates], grey.reshape(-1, 72)[candidates]
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(hashes), CHUNK):
        chunk = hashes[start : start + CHUNK]
        near = np.bitwise_count(chunk[:, None] ^ hashes[None, start:]) <= HASH_BITS
        rows, columns = np.nonzero(near)
        ahead = rows < columns
        rows, columns = rows[ahead] + start, columns[ahead] + start
        # In parts, because pictures of a plain kind may have very many pairs.
        for part in np.array_split(np.arange(len(rows)), len(rows) // 100_000 + 1):
            left, right = rows[part], columns[part]
            same = np.abs(flat[left] - flat[right]).mean(axis=1) <= THUMBNAIL_LEVELS
            pairs += zip(candidates[left[same]].tolist(), candidates[right[same]].tolist(), strict=True)
            if most is not None and len(pairs) >= most:
                return pairs[:most]
    return pairs


def _pairs(pairs: list[tuple[Picture, Picture]]) -> str:
    return "1 pair" if len(pairs) == 1 else f"{len(pairs):,} pairs"


def _example(pairs: list[tuple[Picture, Picture]]) -> str:
    original, copy = pairs[0]
    return f"{original.name} and {copy.name}"
