"""The images of a run as tensors: a data set by name, or pictures of the user; split, limited and checked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from wandb_tl.cache_folder import cache_dir, cache_limit
from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.pictures import duplicates
from wandb_tl.pictures.colours import GreyLevels
from wandb_tl.pictures.decoding import UnreachablePictureError
from wandb_tl.pictures.facts import FactsIndex
from wandb_tl.pictures.framing import Framing
from wandb_tl.pictures.survey import Survey, majority_share, paragraph, survey, unreadable_line
from wandb_tl.training import digests, models, named_datasets, pixels
from wandb_tl.training.labelled_images import LabelledImages, with_missing_splits, within_limits
from wandb_tl.training.own_data import OwnData
from wandb_tl.training.tensor_store import TensorStore

T = TypeVar("T")

# Pictures whose pairs are compared in about two seconds.
MOST_COMPARED = 30_000
# Pairs after which the comparison ends: frames of a video have millions.
MOST_PAIRS = 100_000


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, C, H, W) with C of 1 or 3, maybe mapped from a file; labels: int64 (N,).

    names: what tables call each image, such as its path; its number if empty. key: of the images' content, if
    it is known. thumbnails: uint8 (N, 72) of pictures, see framing.thumbnail.
    """

    images: Tensor
    labels: Tensor
    names: Sequence[str] = ()
    key: str = ""
    thumbnails: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> Split:
        names = [self.names[number] for number in index.tolist()] if self.names else ()
        return Split(self.images[index], self.labels[index], names)

    @cached_property
    def images_digest(self) -> str:
        """A digest of all images, in their order."""
        return self.key or digests.tensors_digest({"images": self.images})


@dataclass(frozen=True)
class Dataset:
    """What a run trains on.

    val: None unless the data set has validation images, or `val_fraction` or `fold` holds some out. test: the
    images of `val` if `test_is_val`. levels: how deep grey pictures are shown. skipped: number of unreadable
    pictures.
    """

    train: Split
    val: Split | None
    test: Split
    class_names: list[str]
    test_is_val: bool = False
    levels: GreyLevels = field(default_factory=GreyLevels)
    skipped: int = 0

    @property
    def majority(self) -> tuple[str, float]:
        """The most frequent class of the test images, and its share of them, between 0 and 1."""
        return majority_share(self.class_names[label] for label in self.test.labels.tolist())


def pairs_across_splits(data: Dataset) -> int:
    """The number of pairs of pictures that look alike, one for training and one for evaluation.

    0 for data sets that are too large to compare all pairs within seconds.
    """
    evaluated = [data.test] if data.val is None or data.test_is_val else [data.val, data.test]
    splits = [data.train, *evaluated]
    thumbnails = [split.thumbnails.numpy() for split in splits if split.thumbnails is not None]
    if not thumbnails or sum(map(len, splits)) > MOST_COMPARED:
        return 0
    pairs = duplicates.alike(np.concatenate(thumbnails), MOST_PAIRS)
    return sum(left < len(data.train) <= right for left, right in pairs)


class ImageCache:
    """The data set of a process's latest run, kept for its next run.

    store: where decoded pictures are kept for all processes; by default, the one of the cache folder.
    """

    def __init__(self, store: TensorStore | None = None) -> None:
        self._store = store
        self._key: Hashable = None
        self._data: Dataset | None = None

    @cached_property
    def store(self) -> TensorStore:
        return self._store or TensorStore(cache_dir() / "tensors", cache_limit())

    def get(self, key: Hashable, load: Callable[[], Dataset]) -> Dataset:
        """The data set of this key, loaded unless the latest call had the same key."""
        if self._data is None or key != self._key:
            # Two data sets at a time might not fit into memory.
            self._data = None
            self._key, self._data = key, load()
        return self._data


def load(
    config: RunConfig,
    cache: ImageCache | None = None,
    folder: Path | None = None,
    say: Callable[[str], None] = print,
    own: OwnData | None = None,
) -> Dataset:
    """Load the images that the config names. InputError if they are absent, damaged or too few.

    cache: the images of the process's latest run, used again if they have not changed. folder: where the
    pictures are, if data_dir names an artifact that has been downloaded. say: prints what the data set
    contains. own: the images, if Python code has handed them over.
    """
    cache = cache or ImageCache()
    if config.is_own_data and own is None:
        raise InputError(f"dataset: {config.dataset} is not in a file; wandb_tl.fit(data=…) trains on it")
    if config.dataset == "folder":
        data = _load_pictures(config, cache, folder, say)
    else:
        data = _load_named(config, cache, say, own)
    if len(data.train) < config.batch_size and not config.is_probe:
        raise InputError(
            f"batch_size: got {config.batch_size}, more than the training images ({len(data.train)}); "
            f"use batch_size={1 << (len(data.train).bit_length() - 1)}"
        )
    return data


def _load_named(
    config: RunConfig, cache: ImageCache, say: Callable[[str], None], own: OwnData | None
) -> Dataset:
    """A data set that is downloaded by name, or one of Python code."""
    framing = models.framing(config)

    def load() -> Dataset:
        if own is not None:
            images, class_names = dict(own.splits), own.class_names
        else:
            images, class_names = named_datasets.load(config.dataset, cache_dir())
        images, notes = with_missing_splits(config, images)
        for note in notes:
            say(note)
        test_is_val = "test" not in images
        if test_is_val:
            images["test"] = images["val"]
        splits, problems = _tensors(within_limits(config, images), framing, cache.store)
        if problems:
            raise InputError(
                f"dataset: {len(problems)} pictures of {config.dataset} are damaged "
                f"({next(iter(problems.values()))})"
            )
        return Dataset(splits["train"], splits.get("val"), splits["test"], class_names, test_is_val)

    held_out = (config.val_fraction, config.fold_of, config.test_fraction)
    limits = (config.train_limit, config.test_limit)
    return cache.get((config.dataset, framing, *held_out, *limits), load)


def _load_pictures(
    config: RunConfig, cache: ImageCache, folder: Path | None, say: Callable[[str], None]
) -> Dataset:
    """The pictures of a folder, described for the user and decoded."""
    framing = models.framing(config)
    result = _survey(config, folder, {})
    say(paragraph(result))
    limits = (config.train_limit, config.test_limit)
    content = tuple((split, tuple(pictures)) for split, pictures in result.splits.items())

    def load() -> Dataset:
        def decode(current: Survey) -> tuple[dict[str, Split], dict[str, str]]:
            return _decode(config, current, framing, cache.store)

        final, splits = survey_decodable(config, folder, decode, result)
        if final.unreadable and config.on_bad_image == "fail":
            raise InputError(
                f"{unreadable_line(final.unreadable)}; replace or delete such files, or use "
                "on_bad_image=skip to train without them"
            )
        return Dataset(
            train=splits["train"],
            val=splits.get("val"),
            test=splits["test"],
            class_names=final.class_names,
            test_is_val=final.test_is_val,
            levels=final.levels,
            skipped=len(final.unreadable),
        )

    return cache.get((content, framing, limits, result.levels, config.on_bad_image), load)


def survey_decodable(
    config: RunConfig,
    folder: Path | None,
    decode: Callable[[Survey], tuple[T, Mapping[str, str]]],
    result: Survey | None = None,
) -> tuple[Survey, T]:
    """The survey of a data set, and what `decode` makes of it once all pictures in it can be decoded.

    decode: returns why pictures cannot be decoded, by their digests. The next survey counts them as
    unreadable. result: the first survey, if there is one. InputError if a file cannot be read at the moment.
    """
    problems: dict[str, str] = {}
    while True:
        result = result or _survey(config, folder, problems)
        try:
            decoded, more = decode(result)
        except UnreachablePictureError as error:
            raise InputError(f"data_dir: a picture {error}; run again when it can be read") from error
        if not more:
            return result, decoded
        problems |= more
        FactsIndex(result.root).add_problems(more)
        result = None


def _survey(config: RunConfig, folder: Path | None, problems: Mapping[str, str]) -> Survey:
    place = str(folder or config.data_dir)
    fractions = (config.val_fraction, config.test_fraction)
    return survey(place, *fractions, folder is not None, problems, config.fold_of)


def _decode(
    config: RunConfig, result: Survey, framing: Framing, store: TensorStore
) -> tuple[dict[str, Split], dict[str, str]]:
    """The splits that a run uses, and why pictures of them cannot be decoded, by their digests."""
    numbers = {name: number for number, name in enumerate(result.class_names)}
    images = {
        split: LabelledImages(
            labels=[numbers[picture.label] for picture in pictures],
            digests=[picture.facts.digest for picture in pictures],
            sources=[pixels.source_of(picture, result.levels) for picture in pictures],
            names=[picture.name for picture in pictures],
        )
        for split, pictures in result.splits.items()
    }
    return _tensors(within_limits(config, images), framing, store)


def _tensors(
    images: Mapping[str, LabelledImages], framing: Framing, store: TensorStore
) -> tuple[dict[str, Split], dict[str, str]]:
    """The splits as tensors, and why pictures of them cannot be decoded, by their digests."""
    splits: dict[str, Split] = {}
    problems: dict[str, str] = {}
    for name, part in images.items():
        labels = torch.tensor(part.labels)
        if part.images is not None:
            splits[name] = Split(part.images, labels, part.names, digests.key({"images": list(part.digests)}))
            continue
        decoded = pixels.load(part.sources, framing, store, f"decoding {name} pictures")
        splits[name] = Split(decoded.images, labels, part.names, decoded.key, decoded.thumbnails)
        problems |= pixels.problems(part.sources, decoded)
    return splits, problems
