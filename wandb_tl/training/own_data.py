"""Images that Python code hands over instead of naming a data set.

A split of N images is one of these:
- a pair of images and labels. The images are a uint8 array or tensor (N, H, W), (N, H, W, C) or (N, C, H, W)
  with C of 1 or 3, or a list of pictures, see pictures/opening.py. The labels are N integers or strings;
- a torch Dataset with a length, whose items are pairs of a picture and a label;
- a data set of the Hugging Face package `datasets`, with one column of images and one of labels.

All images are one split, a pair (train, test), a triple (train, val, test), or a mapping with the names
"train", "val" and "test". Missing splits are held out of "train", as for a folder of pictures.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wandb_tl.errors import InputError, one_line
from wandb_tl.pictures.colours import to_rgb
from wandb_tl.pictures.decoding import UnreadablePictureError
from wandb_tl.pictures.names import split_named
from wandb_tl.pictures.opening import open_any
from wandb_tl.training import named_datasets
from wandb_tl.training.labelled_images import LabelledImages, of_arrays
from wandb_tl.training.pixels import Source

TAKES = (
    "takes (images, labels), a torch Dataset, a Hugging Face data set, or a pair (train, test) or triple "
    "(train, val, test) of them"
)
# Pictures that are read twice, to see whether they change. A random flip leaves half of them as they were.
READ_TWICE = 16
# Characters of the digest in the name of a data set.
DIGEST_LENGTH = 12


@dataclass(frozen=True)
class OwnData:
    """Images by split. name: the value of the hyperparameter `dataset`, which depends on their content."""

    name: str
    splits: dict[str, LabelledImages]
    class_names: list[str]


@dataclass(frozen=True)
class _Part:
    """A split before its labels are numbered. Images: an array (N, C, H, W), or `sources` to decode.

    class_names: of the labels 0, 1, …, if the data set says.
    """

    labels: list[int] | list[str]
    images: Tensor | None = None
    sources: Sequence[Source] = ()
    class_names: Sequence[str] = ()


def read(data: Any) -> OwnData:
    """The images of an argument `data`. InputError if it has none of the forms above."""
    parts = {name: _with_names(_part(name, part)) for name, part in _splits(data).items()}
    if "train" not in parts:
        raise InputError(f"data: has no split train, but {', '.join(parts)}")
    numbers, class_names = _numbered(parts)
    splits = {}
    for name, part in parts.items():
        labels = [numbers[label] for label in part.labels]
        if part.images is not None:
            splits[name] = of_arrays(part.images, torch.tensor(labels))
        else:
            digests = [source.digest for source in part.sources]
            splits[name] = LabelledImages(labels, digests, sources=part.sources)
    kinds = {"arrays" if part.images is not None else "pictures" for part in parts.values()}
    if len(kinds) > 1:
        raise InputError("data: some splits are arrays and others pictures; use one form for all of them")
    content = hashlib.sha256(repr(class_names).encode())
    for name, split in sorted(splits.items()):
        content.update(repr((name, list(split.labels), list(split.digests))).encode())
    return OwnData(f"{kinds.pop()}:{content.hexdigest()[:DIGEST_LENGTH]}", splits, class_names)


class OwnDataCache:
    """The pictures of a process's latest run, which the next run of the same sweep does not read again.

    Within a sweep they count as unchanged if the same object is handed over. Arrays are hashed each time.
    """

    def __init__(self) -> None:
        self._sweep, self._data = "", None
        self._own: OwnData | None = None

    def get(self, data: Any, sweep: str) -> OwnData:
        """The images of an argument `data`. sweep: the id of the run's sweep; "" without one.

        InputError as in `read`.
        """
        if self._own is None or not sweep or sweep != self._sweep or data is not self._data:
            self._own = None
            self._own = read(data)
            self._sweep, self._data = sweep, data if self._own.name.startswith("pictures:") else None
        return self._own


def _splits(data: Any) -> dict[str, Any]:
    """The splits of an argument by name, each in one of the forms of a split."""
    if isinstance(data, Mapping):
        named = {split_named(str(name)): part for name, part in data.items()}
        if None in named or len(named) < len(data):
            raise InputError(f"data: takes the splits train, val and test, got {', '.join(map(str, data))}")
        return {str(name): part for name, part in named.items()}
    if isinstance(data, tuple | list) and not _is_pair(data):
        if len(data) not in (2, 3):
            raise InputError(f"data: {TAKES}")
        return dict(zip(("train", "test") if len(data) == 2 else ("train", "val", "test"), data, strict=True))
    return {"train": data}


def _is_pair(data: Sequence[Any]) -> bool:
    """Whether this is a pair of images and labels, and not of splits: labels are numbers or strings."""
    if len(data) != 2:
        return False
    labels = data[1]
    if isinstance(labels, list | tuple):
        return bool(labels) and (isinstance(labels[0], str | int | float) or _is_number(labels[0]))
    return getattr(labels, "ndim", None) == 1


def _is_number(value: Any) -> bool:
    """Whether this is a number of numpy, or a tensor of one number."""
    return getattr(value, "ndim", None) == 0


def _part(name: str, data: Any) -> _Part:
    if isinstance(data, tuple | list) and _is_pair(data):
        part = _of_pair(name, *data)
    elif hasattr(data, "features") and hasattr(data, "cast_column"):
        part = _of_hugging_face(data)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str | type):
        part = _of_dataset(name, data)
    else:
        raise InputError(f"data: got {type(data).__name__} for {name}, {TAKES}")
    if not part.labels:
        raise InputError(f"data: {name} is empty")
    return part


def _of_pair(name: str, images: Any, labels: Any) -> _Part:
    values = [_plain_label(name, label) for label in labels]
    if len(images) != len(values):
        raise InputError(f"data: {name} has {len(images):,} images and {len(values):,} labels")
    if getattr(images, "ndim", 1) > 1:
        return _Part(values, images=_channels_first(name, images))
    pictures = list(images)
    return _Part(values, sources=_sources(name, len(values), pictures.__getitem__))


def _channels_first(name: str, images: Any) -> Tensor:
    """Images of an array as a uint8 tensor (N, C, H, W)."""
    try:
        values = torch.as_tensor(images)
    except (TypeError, ValueError) as error:
        raise InputError(f"data: {name} has images that are not numbers ({one_line(error)})") from error
    if values.dtype != torch.uint8:
        raise InputError(f"data: {name} has images of {values.dtype}, takes uint8 with values from 0 to 255")
    if values.ndim == 3:
        return values[:, None]
    if values.ndim == 4 and values.shape[3] in (1, 3):
        return values.permute(0, 3, 1, 2).contiguous()
    if values.ndim == 4 and values.shape[1] in (1, 3):
        return values
    shape = tuple(values.shape)
    raise InputError(f"data: {name} has images {shape}, takes (N, H, W), (N, H, W, C) or (N, C, H, W)")


def _of_hugging_face(data: Any) -> _Part:
    import datasets

    image, label = named_datasets.columns("data", data.features, datasets)
    kind = data.features[label]
    # Labels of -1 stand for images without a label.
    labelled = data.select([row for row, value in enumerate(data[label]) if value not in (None, -1)])
    names = list(kind.names) if isinstance(kind, datasets.ClassLabel) else ()
    sources = named_datasets.sources_of(labelled, image, datasets)
    return _Part(list(labelled[label]), sources=sources, class_names=names)


def _of_dataset(name: str, data: Any) -> _Part:
    count = len(data)
    if count and (not isinstance(data[0], tuple | list) or len(data[0]) != 2):
        raise InputError(f"data: the items of {name} are {type(data[0]).__name__}, takes (picture, label)")
    labels = [_plain_label(name, data[number][1]) for number in range(count)]
    # A Subset has the classes of the data set behind it.
    classes = getattr(data, "classes", None) or getattr(getattr(data, "dataset", None), "classes", None)
    sources = _sources(name, count, lambda number: data[number][0])
    return _Part(labels, sources=sources, class_names=[str(one) for one in classes or ()])


def _plain_label(name: str, label: Any) -> Any:
    value = label.item() if _is_number(label) else label
    if not isinstance(value, int | str):
        raise InputError(f"data: {name} has the label {value!r}, takes integers or strings")
    return value


def _sources(name: str, count: int, get: Callable[[int], Any]) -> list[Source]:
    """Pictures by number. InputError if one cannot be read, or is another one each time."""
    sources = []
    for number in range(count):
        try:
            digest = _digest(get, number)
            if number < READ_TWICE and _digest(get, number) != digest:
                raise InputError(
                    f"data: {name} gives another picture each time; leave random transforms out, and use "
                    "augment instead"
                )
        except UnreadablePictureError as error:
            raise InputError(f"data: picture {number} of {name}: {one_line(error)}") from error
        sources.append(Source(digest, partial(_rgb, get, number)))
    return sources


def _digest(get: Callable[[int], Any], number: int) -> str:
    """A digest of the picture as it is shown: a palette is part of it."""
    picture = _rgb(get, number)
    return hashlib.sha256(f"{picture.size} ".encode() + picture.tobytes()).hexdigest()


def _rgb(get: Callable[[int], Any], number: int) -> Image.Image:
    return to_rgb(_picture(get(number)))


def _picture(value: Any) -> Image.Image:
    """The picture of an item: of any form of pictures/opening.py, or a tensor."""
    return open_any(_array_of(value) if isinstance(value, Tensor) else value)


def _array_of(image: Tensor) -> np.ndarray[Any, Any]:
    """A tensor (C, H, W) or (H, W) as an array of grey or RGB values: uint8, or what ToTensor makes of it."""
    if image.is_floating_point():
        levels = image * 255
        if not torch.isclose(levels, levels.round(), atol=1e-3).all() or image.min() < 0 or image.max() > 1:
            raise UnreadablePictureError(
                "the tensor is normalised; leave Normalize out of its transforms, the model brings its own"
            )
        image = levels.round().to(torch.uint8)
    if image.ndim == 3 and image.shape[0] in (1, 3):
        image = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return image.numpy()


def _with_names(part: _Part) -> _Part:
    """The split with the names of its classes as labels, if it has some: splits may number them otherwise."""
    names = part.class_names
    if not names or not all(isinstance(label, int) and 0 <= label < len(names) for label in part.labels):
        return part
    return dataclasses.replace(part, labels=[names[int(label)] for label in part.labels])


def _numbered(parts: Mapping[str, _Part]) -> tuple[dict[int | str, int], list[str]]:
    """The class index of each label, and the names of the classes by index."""
    labels = {label for part in parts.values() for label in part.labels}
    if len({type(label) for label in labels}) > 1:
        raise InputError("data: some labels are integers and others strings; use one of them")
    # As the data sets list them, also those without images.
    listed = dict.fromkeys(name for part in parts.values() for name in part.class_names)
    ordered = list(listed) if labels <= set(listed) else sorted(labels)
    return {label: number for number, label in enumerate(ordered)}, [str(label) for label in ordered]
