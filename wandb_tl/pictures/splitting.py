"""Splits and limits: stratified by class, and decided by the content of each image alone.

An image is held out if the hash of its content, read as a number between 0 and 1, is below the fraction. So
copies stay on one side, and images that are added, removed or renamed move no others, with two exceptions: in
a small class an added image may take the place of a held-out one, and a class whose held-out share would be
far from the fraction has another threshold. Folds are equal parts of each class instead: an added image moves
at most one image across each of their borders.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence

from wandb_tl.errors import InputError

# The value of a fold (K, N) that stands for none.
NO_FOLD = (0, 0)
# Held-out images of a class, below which their number is exact.
SMALL = 6
# How far the held-out share of a larger class may be from the fraction, relative to it. A smaller tolerance
# would change the threshold, and so the side of several images, with fewer added images.
TOLERANCE = 0.25
# Thresholds that are tried in this order, relative to the fraction.
FACTORS = (1, 0.9, 1.1, 0.8, 1.25, 0.7, 1.4, 0.6, 1.6, 0.5, 2, 0.4, 2.5, 0.25, 4)


def divide(
    digests: Sequence[str],
    labels: Sequence[Hashable],
    present: Collection[str],
    val_fraction: float,
    test_fraction: float,
    fold: tuple[int, int] = NO_FOLD,
) -> tuple[dict[str, list[int]], list[str]]:
    """Divide the training images of a data set that lacks a split.

    present: the splits that it has. Test images are held out if it has neither "test" nor "val". fold: (K, N)
    to hold out the K-th of N equal parts for validation, in place of val_fraction. Returns the indices of the
    images by split, and a sentence about each split that is new. InputError if the fold cannot be held out.
    """
    if fold != NO_FOLD and "val" in present:
        # All folds would be the same run.
        raise InputError("fold: there is a validation split, which is used; leave fold out")
    parts, notes = {"train": list(range(len(digests)))}, []
    wanted = {}
    if not {"test", "val"} & set(present):
        wanted["test"] = test_fraction
    if val_fraction and "val" in present:
        notes.append("val_fraction has no effect: there is a validation split.")
    elif val_fraction:
        wanted["val"] = val_fraction
    for name, fraction in wanted.items():
        train = parts["train"]
        held_out = hold_out(
            [digests[index] for index in train], [labels[index] for index in train], fraction, name
        )
        parts[name] = [index for index, out in zip(train, held_out, strict=True) if out]
        parts["train"] = [index for index, out in zip(train, held_out, strict=True) if not out]
        notes.append(
            f"There is no {name} split: about {fraction:.0%} of each class, chosen by content, are held out "
            f"({len(parts[name]):,} images)."
        )
    if fold != NO_FOLD:
        notes += _hold_out_fold(parts, digests, labels, fold)
    return parts, notes


def _hold_out_fold(
    parts: dict[str, list[int]], digests: Sequence[str], labels: Sequence[Hashable], fold: tuple[int, int]
) -> list[str]:
    """Move the images of a fold from "train" to "val"; returns what there is to say about it."""
    number, count = fold
    train = parts["train"]
    digests, labels = [digests[index] for index in train], [labels[index] for index in train]
    numbers = folds(digests, labels, count)
    parts["val"] = [index for index, other in zip(train, numbers, strict=True) if other == number]
    parts["train"] = [index for index, other in zip(train, numbers, strict=True) if other != number]
    if not parts["val"]:
        raise InputError(
            f"fold: part {number} of {count} is empty, because the classes have fewer different images; use "
            "fewer parts"
        )
    notes = [
        f"There is no val split: part {number} of {count} of each class, chosen by content, is held out "
        f"({len(parts['val']):,} images)."
    ]
    contents = [{digests[place] for place in places} for places in _positions(labels).values()]
    if small := sum(len(different) < count for different in contents):
        classes = "1 class has" if small == 1 else f"{small:,} classes have"
        notes.append(f"{classes} fewer than {count} different images, and is missing in some parts.")
    return notes


def hold_out(digests: Sequence[str], labels: Sequence[Hashable], fraction: float, purpose: str) -> list[bool]:
    """Which images are held out: about the fraction of each class.

    digests: of the images' content. purpose: "test" or "val"; each has hashes of its own. At least one image
    of each class is held out, and at least one is not, if the class has two different images. In a class
    whose hashes happen to be far from uniform, the threshold is another one, which more images may change.
    """
    ranks = [_rank(digest, purpose) for digest in digests]
    held_out = [False] * len(ranks)
    for members in _positions(labels).values():
        threshold = _threshold([ranks[index] for index in members], fraction)
        for index in members:
            held_out[index] = ranks[index] < threshold
    # The classes of one image have different thresholds, but its copies stay together.
    for copies in _positions(digests).values():
        for index in copies:
            held_out[index] = held_out[copies[0]]
    return held_out


def folds(digests: Sequence[str], labels: Sequence[Hashable], count: int) -> list[int]:
    """The number of each image's part, from 1 to `count`; 0 for the only image of a class, which is in none.

    Each class is divided into parts whose sizes differ by one image at most, if all its images are different.
    Copies are in one part. The larger parts are other ones in each class, so that no part has most of them.
    """
    ranks = {digest: _rank(digest, "fold") for digest in digests}
    numbers = [0] * len(digests)
    for label, members in _positions(labels).items():
        different = sorted({digests[index] for index in members}, key=ranks.__getitem__)
        if len(different) < 2:
            continue
        # Parts are arcs of a circle of the images, which begins elsewhere in each class.
        begin = _rank(str(label), "fold")
        places = {digest: place / len(different) for place, digest in enumerate(different)}
        for index in members:
            numbers[index] = 1 + int((places[digests[index]] + begin) * count) % count
    # Copies with another label as well.
    for copies in _positions(digests).values():
        for index in copies:
            numbers[index] = numbers[copies[0]]
    return numbers


def limit(digests: Sequence[str], labels: Sequence[Hashable], count: int, name: str) -> list[int]:
    """Indices of `count` images, as many of each class as its share of all images; in random order.

    count: 0 for all images. name: of the hyperparameter. InputError if there are more classes than images.
    """
    ranks = [_rank(digest, "order") for digest in digests]
    order = sorted(range(len(digests)), key=lambda index: (ranks[index], index))
    if not count or count >= len(order):
        return order
    members = _positions([labels[index] for index in order])
    if count < len(members):
        raise InputError(
            f"{name}: got {count}, takes 0 (all images) or at least one per class ({len(members)})"
        )
    quotas = _quotas({label: len(indices) for label, indices in members.items()}, count)
    kept = sorted(place for label, places in members.items() for place in places[: quotas[label]])
    return [order[place] for place in kept]


def _threshold(ranks: list[float], fraction: float) -> float:
    """The rank below which images of a class are held out: the fraction, unless chance is unkind."""
    different = sorted(set(ranks))
    if not fraction or len(different) < 2:
        # A class of one image keeps it for training.
        return 0.0
    wanted = fraction * len(ranks)
    if wanted < SMALL:
        # Exactly the number that is nearest to the fraction; an added image may take the place of another.
        count = min(max(1, round(wanted)), len(different) - 1)
        return (different[count - 1] + different[count]) / 2

    def miss(factor: float) -> float:
        return abs(sum(rank < factor * fraction for rank in ranks) - wanted)

    fits = (factor for factor in FACTORS if miss(factor) <= TOLERANCE * wanted)
    factor = next(fits, None) or min(FACTORS, key=miss)
    return min(factor * fraction, different[-1])


def _quotas(sizes: dict[Hashable, int], count: int) -> dict[Hashable, int]:
    """`count` shared in proportion to the sizes, at least one each; the largest remainders are rounded up."""
    total = sum(sizes.values())
    exact = {label: count * size / total for label, size in sizes.items()}
    quotas = {label: max(1, int(share)) for label, share in exact.items()}
    by_remainder = sorted(exact, key=lambda label: exact[label] - quotas[label], reverse=True)
    while sum(quotas.values()) != count:
        step = 1 if sum(quotas.values()) < count else -1
        for label in by_remainder if step > 0 else reversed(by_remainder):
            if 1 <= quotas[label] + step <= sizes[label]:
                quotas[label] += step
                if sum(quotas.values()) == count:
                    break
    return quotas


def _rank(digest: str, purpose: str) -> float:
    """A number in [0, 1) that depends on both strings, uniform over digests."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {digest}".encode()).digest()[:8]) / 2**64


def _positions(values: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """The indices of each value, in the order of its first one."""
    positions = defaultdict(list)
    for index, value in enumerate(values):
        positions[value].append(index)
    return positions
