"""Images and labels as tensors: Fashion-MNIST, or a folder of images with one subfolder per class."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize
from tqdm import tqdm

from wandb_tl.cache_folder import cache_dir
from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError, one_line

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DOWNLOAD_TIMEOUT_SECONDS = 20

# sha256 of the four uncompressed IDX files; the compressed ones differ from mirror to mirror.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, C, H, W) with C of 1 or 3; labels: int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> Split:
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Dataset:
    """What a run trains on; `val` is None unless `val_fraction` holds images out."""

    train: Split
    val: Split | None
    test: Split
    class_names: list[str]


# All images of a dataset: the training split, the test split and the class names.
Images = tuple[Split, Split, list[str]]


class ImageCache:
    """The images that the latest run of a process has loaded, kept for its next run."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._images: Images | None = None

    def get(self, key: Hashable, load: Callable[[], Images]) -> Images:
        """The images of this key, loaded unless the latest call had the same key."""
        if self._images is None or key != self._key:
            self._images = None
            self._key, self._images = key, load()
        return self._images


def load(config: RunConfig, cache: ImageCache | None = None) -> Dataset:
    """Load the images that the config names. InputError if they are absent, damaged or too few.

    cache: the images of the process's latest run, used again if they have not changed.
    """
    cache = cache or ImageCache()
    if config.dataset == "folder":
        train, test, class_names = _load_folder(config.data_dir, config.image_size, cache)
    else:
        root = Path(config.data_dir or cache_dir())
        train, test, class_names = cache.get(root, lambda: _load_fashion_mnist(root))
    # One fixed shuffle for every seed: all runs of a sweep see the same images.
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    held_out = round(config.val_fraction * len(train))
    if config.val_fraction and not held_out:
        raise InputError(f"val_fraction: got {config.val_fraction}, which is none of {len(train)} images")
    kept = order[held_out:][: config.train_limit or None]
    if len(kept) < config.batch_size:
        raise InputError(f"batch_size: got {config.batch_size}, more than the training images ({len(kept)})")
    if config.test_limit:
        order_of_test = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
        test = test[order_of_test[: config.test_limit]]
    return Dataset(train[kept], train[order[:held_out]] if held_out else None, test, class_names)


class Preprocess:
    """uint8 images (N, C, H, W) -> normalised float32 (N, 3, size, size), channels last, on a device.

    mean and std: one number per channel, for values between 0 and 1, as in a timm model's data config.
    """

    def __init__(
        self, size: int, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
    ) -> None:
        self.size = size
        self.device = device
        self.scale = (1 / (255 * torch.tensor(std, device=device))).view(-1, 1, 1)
        self.shift = (torch.tensor(mean, device=device) / torch.tensor(std, device=device)).view(-1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        pixels = images.to(self.device).float()
        height, width = images.shape[-2:]
        if (height, width) != (self.size, self.size):
            pixels = F.interpolate(
                pixels, (self.size, self.size), mode="bilinear", antialias=self.size < max(height, width)
            )
        # A grey image (C = 1) broadcasts to the three channels here.
        return (pixels * self.scale - self.shift).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, how: str) -> Tensor:
    """Flip each of the uint8 images (N, C, H, W) at random; "flip_crop" also shifts it by up to an eighth."""
    if how == "none":
        return images
    device, (count, channels, height, width) = images.device, images.shape
    flips = torch.rand(count, device=device) < 0.5
    images = torch.where(flips.view(-1, 1, 1, 1), images.flip(-1), images)
    if how == "flip":
        return images
    border = max(1, height // 8)
    padded = F.pad(images, (border,) * 4)
    offsets = torch.randint(2 * border + 1, (2, count, 1), device=device)
    rows = offsets[0] + torch.arange(height, device=device)
    columns = offsets[1] + torch.arange(width, device=device)
    every = torch.arange(count, device=device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=device).view(1, -1, 1, 1)
    return padded[every, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _load_fashion_mnist(root: Path) -> Images:
    raw = root / "FashionMNIST" / "raw"
    if not all((raw / name).exists() for name in FASHION_MNIST_SHA256):
        _fetch_fashion_mnist(raw)
    try:
        for name in FASHION_MNIST_SHA256:
            if not _is_whole(raw / name):
                raise InputError(f"{raw / name}: damaged, delete it and run again to fetch it anew")
        train, test = (torchvision.datasets.FashionMNIST(root, train=part) for part in (True, False))
    except OSError as error:
        raise InputError(f"data_dir: cannot read {error.filename}: {error.strerror}") from error
    class_names = [name.lower() for name in train.classes]
    return Split(train.data[:, None], train.targets), Split(test.data[:, None], test.targets), class_names


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == FASHION_MNIST_SHA256[path.name]


def _fetch_fashion_mnist(raw: Path) -> None:
    """Put the four IDX files into `raw`, each whole or not at all, from the first source that has them."""
    refusals = []
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=raw) as temporary:
            for source in (_from_debian_folder, _from_download, _from_debian_package):
                folder = Path(temporary, source.__name__)
                folder.mkdir()
                try:
                    source(folder)
                    damaged = [name for name in FASHION_MNIST_SHA256 if not _is_whole(folder / name)]
                except Exception as error:
                    # A network, a mirror or a package can fail in any way: the next source may do better.
                    refusals.append(one_line(error))
                    continue
                if damaged:
                    refusals.append(f"{damaged[0]} arrived damaged")
                    continue
                for name in FASHION_MNIST_SHA256:
                    # Agents of one machine may fetch at the same moment: the last rename wins, all are whole.
                    (folder / name).replace(raw / name)
                return
    except OSError as error:
        raise InputError(f"data_dir: cannot write {raw}: {error.strerror}") from error
    raise InputError("Fashion-MNIST cannot be fetched: " + "; ".join(refusals))


def _from_debian_folder(folder: Path, source: Path = DEBIAN_FOLDER) -> None:
    """Debian's package dataset-fashion-mnist, where it is installed."""
    for name in FASHION_MNIST_SHA256:
        with gzip.open(source / f"{name}.gz") as packed, (folder / name).open("wb") as file:
            shutil.copyfileobj(packed, file)


def _from_download(folder: Path) -> None:
    """torchvision's own download."""
    before = socket.getdefaulttimeout()
    # torchvision sets none, and would wait for minutes where packets are dropped.
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            torchvision.datasets.FashionMNIST(folder, download=True)
    finally:
        socket.setdefaulttimeout(before)
    for name in FASHION_MNIST_SHA256:
        (folder / "FashionMNIST" / "raw" / name).replace(folder / name)


def _from_debian_package(folder: Path) -> None:
    """The same Debian package, fetched and unpacked without being root, where there is apt."""

    def call(*command: str) -> None:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        if result.returncode:
            raise RuntimeError(f"{command[0]}: {result.stderr.strip() or 'failed'}")

    try:
        call("apt-get", "download", DEBIAN_PACKAGE)
    except RuntimeError:
        # A fresh machine has no package lists, and only root may write them where they belong.
        (folder / "lists" / "partial").mkdir(parents=True)
        own = ("-o", f"Dir::State::Lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}")
        call("apt-get", *own, "update")
        call("apt-get", *own, "download", DEBIAN_PACKAGE)
    call("dpkg-deb", "-x", next(folder.glob("*.deb")).name, ".")
    _from_debian_folder(folder, folder / DEBIAN_FOLDER.relative_to("/"))


def _load_folder(data_dir: str, size: int, cache: ImageCache) -> Images:
    """The images of a folder, resized and cropped to (N, 3, size, size)."""
    train, test = _image_folders(data_dir)

    def load() -> Images:
        return _read(train, size, "train images"), _read(test, size, "test images"), train.classes

    # Files that have changed are read again.
    return cache.get((train.root, size, _last_changes(train), _last_changes(test)), load)


def _image_folders(data_dir: str) -> tuple[ImageFolder, ImageFolder]:
    """The files of the training and of the test images, with their classes."""
    root = Path(data_dir)
    if not data_dir or not (root / "train").is_dir():
        raise InputError(f"data_dir: got {data_dir!r}, takes a folder with train/CLASS/* and test/CLASS/*")
    if not (root / "test").is_dir():
        raise InputError(f"data_dir: there is no folder {root / 'test'}")
    try:
        train, test = (ImageFolder(str(root / part)) for part in ("train", "test"))
    except OSError as error:
        raise InputError(f"data_dir: {str(error).splitlines()[0]}") from error
    if mismatched := sorted(set(train.classes) ^ set(test.classes)):
        raise InputError(
            f"data_dir: class {mismatched[0]!r} is not in both {root / 'train'} and {root / 'test'}"
        )
    if len(train.classes) < 2:
        raise InputError(f"data_dir: {root / 'train'} has one class; classification needs at least two")
    return train, test


def _last_changes(folder: ImageFolder) -> tuple[tuple[str, int], ...]:
    """The files of a folder and when each was last changed, in nanoseconds."""
    files = [Path(path) for path, _ in folder.samples]
    # A file that is missing, such as a broken link, is reported when it is read.
    return tuple((str(file), file.stat().st_mtime_ns if file.exists() else 0) for file in files)


def _read(folder: ImageFolder, size: int, title: str) -> Split:
    """The images (N, 3, size, size) of a folder, the shorter side resized and the longer one cropped."""

    def decode(path: str) -> Tensor:
        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: not a readable image") from error
        pixels: Tensor = pil_to_tensor(center_crop(resize(upright, [size]), [size]))
        return pixels

    paths, labels = zip(*folder.samples, strict=True)
    images = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(decode, paths)
        for number, image in enumerate(tqdm(decoded, title, len(paths), disable=None)):
            images[number] = image
    return Split(images, torch.tensor(labels))
