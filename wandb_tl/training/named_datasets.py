"""Data sets by name: those of torchvision, and those of the Hugging Face hub."""

from __future__ import annotations

import contextlib
import hashlib
import io
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from filelock import FileLock
from PIL import Image
from torch import Tensor

from wandb_tl.config import ARRAY_DATASETS
from wandb_tl.errors import InputError, one_line
from wandb_tl.pictures import decoding
from wandb_tl.pictures.colours import to_rgb
from wandb_tl.pictures.names import split_named
from wandb_tl.training import fashion_mnist
from wandb_tl.training.labelled_images import LabelledImages, of_arrays
from wandb_tl.training.pixels import Source

# torchvision's classes, each with the names of its own splits by ours.
TRAIN_AND_TEST = {"train": {"train": True}, "test": {"train": False}}
TORCHVISION: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "mnist": ("MNIST", TRAIN_AND_TEST),
    "kmnist": ("KMNIST", TRAIN_AND_TEST),
    "cifar10": ("CIFAR10", TRAIN_AND_TEST),
    "cifar100": ("CIFAR100", TRAIN_AND_TEST),
    "flowers102": ("Flowers102", {name: {"split": name} for name in ("train", "val", "test")}),
    "food101": ("Food101", {name: {"split": name} for name in ("train", "test")}),
    "oxford_iiit_pet": ("OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}),
}
# The images of a data set by split, and the names of its classes.
Named = tuple[dict[str, LabelledImages], list[str]]


def load(name: str, root: Path) -> Named:
    """The images of a data set. root: folder of the downloads. InputError if it cannot be downloaded."""
    if name == "fashion_mnist":
        train, test, class_names = fashion_mnist.load(root)
        return {"train": of_arrays(*train), "test": of_arrays(*test)}, class_names
    if name.startswith("hf:"):
        return _from_hub(name.removeprefix("hf:"))
    return _from_torchvision(name, root)


def _from_torchvision(name: str, root: Path) -> Named:
    class_name, arguments = TORCHVISION[name]
    build = getattr(torchvision.datasets, class_name)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Agents may need it at the same moment, and torchvision would unpack one over the other.
        with (
            FileLock(root / f"{name}.lock"),
            fashion_mnist.impatient(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            parts = {split: build(str(root), download=True, **chosen) for split, chosen in arguments.items()}
    except Exception as error:
        # A network, a mirror or an archive can fail in any way.
        raise InputError(f"dataset: {name} cannot be downloaded: {one_line(error)[:300]}") from error
    class_names = [str(label) for label in parts["train"].classes]
    if name in ARRAY_DATASETS:
        return {split: of_arrays(*_arrays(part)) for split, part in parts.items()}, class_names
    return {split: _pictures(f"{name} {split}", part) for split, part in parts.items()}, class_names


def _arrays(part: Any) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels of a data set that torchvision holds in memory."""
    images = torch.as_tensor(part.data)
    images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    return images, torch.as_tensor(part.targets)


def _pictures(title: str, part: Any) -> LabelledImages:
    """The pictures of a data set that torchvision reads from files, whose content it has verified."""
    labels = [int(label) for label in part._labels]

    def open_number(number: int) -> Image.Image:
        picture: Image.Image = part[number][0]
        return picture

    sources = [Source(f"{title} {number}", partial(open_number, number)) for number in range(len(labels))]
    return LabelledImages(labels, [source.digest for source in sources], sources=sources)


def _from_hub(name: str) -> Named:
    """A data set of the Hugging Face hub, or a folder that its package `datasets` reads."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise InputError(
            f"dataset: hf:{name} needs the package datasets (uv run --with datasets, or pip install datasets)"
        ) from error
    try:
        parts = datasets.load_dataset(name)
    except Exception as error:
        raise InputError(f"dataset: hf:{name} cannot be loaded: {one_line(error)[:300]}") from error
    splits = {split: part for theirs, part in parts.items() if (split := split_named(theirs))}
    if "train" not in splits:
        raise InputError(f"dataset: hf:{name} has no split named train, but {', '.join(parts)}")
    image, label = columns(f"dataset: hf:{name}", splits["train"].features, datasets)
    kind = splits["train"].features[label]
    if isinstance(kind, datasets.ClassLabel):
        values, names = list(range(len(kind.names))), list(kind.names)
    else:
        values = sorted(set(splits["train"][label]))
        names = [str(value) for value in values]
    numbers = {value: number for number, value in enumerate(values)}
    return {split: _of_hub(part, image, label, numbers, datasets) for split, part in splits.items()}, names


def columns(name: str, features: Any, datasets: Any) -> tuple[str, str]:
    """The names of the columns of images and labels. InputError if there is not one of each.

    name: of the data set, in the message. datasets: the package.
    """
    images = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    labels = labels or [column for column in ("label", "labels", "class") if column in features]
    if len(images) != 1 or not labels:
        raise InputError(f"{name} has no image and class label; its columns are {', '.join(features)}")
    return images[0], labels[0]


def _of_hub(part: Any, image: str, label: str, numbers: dict[Any, int], datasets: Any) -> LabelledImages:
    """The images of a split. numbers: class indices by label; images with other labels are left out."""
    # Competitions publish test images without labels, as -1.
    part = part.select([row for row, value in enumerate(part[label]) if value in numbers])
    labels = [numbers[value] for value in part[label]]
    sources = sources_of(part, image, datasets)
    return LabelledImages(labels, [source.digest for source in sources], sources=sources)


def sources_of(part: Any, image: str, datasets: Any) -> list[Source]:
    """The pictures of a split of a Hugging Face data set. image: the name of their column."""
    part = part.cast_column(image, datasets.Image(decode=False))

    def content(number: int) -> bytes:
        cell = part[number][image]
        data: bytes = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        return data

    def open_number(number: int) -> Image.Image:
        return to_rgb(decoding.open_picture(io.BytesIO(content(number))))

    digests = [hashlib.sha256(content(number)).hexdigest() for number in range(len(part))]
    return [Source(digest, partial(open_number, number)) for number, digest in enumerate(digests)]
