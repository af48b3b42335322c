"""Fashion-MNIST: its four files, verified, from Debian's package or from torchvision's download."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torchvision
from torch import Tensor

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


def load(root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], list[str]]:
    """Images (N, 1, 28, 28) and labels (N,) of the training and of the test split, and the class names.

    Fetches the files into `root` if they are absent. InputError if they cannot be fetched or are damaged.
    """
    raw = root / "FashionMNIST" / "raw"
    if not all((raw / name).exists() for name in FASHION_MNIST_SHA256):
        _fetch_fashion_mnist(raw)
    try:
        for name in FASHION_MNIST_SHA256:
            if not _is_whole(raw / name):
                raise InputError(f"{raw / name}: damaged, delete it and run again to fetch it anew")
        train, test = (torchvision.datasets.FashionMNIST(root, train=part) for part in (True, False))
    except OSError as error:
        raise InputError(f"dataset: cannot read {error.filename}: {error.strerror}") from error
    class_names = [name.lower() for name in train.classes]
    return (train.data[:, None], train.targets), (test.data[:, None], test.targets), class_names


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
        raise InputError(f"dataset: cannot write {raw}: {error.strerror}") from error
    raise InputError("Fashion-MNIST cannot be fetched: " + "; ".join(refusals))


def _from_debian_folder(folder: Path, source: Path = DEBIAN_FOLDER) -> None:
    """Debian's package dataset-fashion-mnist, where it is installed."""
    for name in FASHION_MNIST_SHA256:
        with gzip.open(source / f"{name}.gz") as packed, (folder / name).open("wb") as file:
            shutil.copyfileobj(packed, file)


def _from_download(folder: Path) -> None:
    """torchvision's own download."""
    with impatient(), contextlib.redirect_stdout(io.StringIO()):
        torchvision.datasets.FashionMNIST(folder, download=True)
    for name in FASHION_MNIST_SHA256:
        (folder / "FashionMNIST" / "raw" / name).replace(folder / name)


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Give up on a server that does not answer; torchvision would wait for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


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
