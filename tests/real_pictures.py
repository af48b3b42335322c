"""Real pictures of six classes, for tests: photographs cut out of their background, and a few drawings.

The pictures come from Debian's package tuxpaint-stamps-default: the stamps of Tux Paint, GPL-2 or any later
version. The package is fetched with apt-get and unpacked without being root; nothing of it is part of this
repository. It is 161 MB, nearly all of it narration. The pictures used here take 11 MB, and only they stay.

They are what pictures of users are like: PNG files of many sizes, most of them RGBA, some grey with
transparency or with a palette. A linear classifier on the features of a small network is right for most
of them, but not for all.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

DEBIAN_PACKAGE = "tuxpaint-stamps-default"
STAMPS = PurePosixPath("usr/share/tuxpaint/stamps")
# The package's folders that make a class each, of at least 30 pictures without the cartoons.
CLASSES = {
    "birds": STAMPS / "animals" / "birds",
    "food": STAMPS / "food",
    "household": STAMPS / "household",
    "mammals": STAMPS / "animals" / "mammals",
    "plants": STAMPS / "plants",
    "town": STAMPS / "town",
}


class PicturesNotFetchedError(Exception):
    """The package cannot be fetched or unpacked on this machine."""


def fetch(folder: Path) -> Path:
    """`folder` with one subfolder of real pictures per class, CLASS/NAME.png; fetched if it is absent.

    PicturesNotFetchedError if there is no apt-get, no network or no such package.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        work = Path(temporary).resolve()  # apt-get takes relative paths as relative to folders of its own
        try:
            _unpack_pictures(_download_package(work), work / "classes")
        except (OSError, tarfile.TarError, subprocess.TimeoutExpired) as error:
            raise PicturesNotFetchedError(f"{DEBIAN_PACKAGE}: {error}") from error
        try:
            (work / "classes").rename(folder)
        except OSError:
            # Another test process was faster: its pictures are the same ones, and whole.
            if not folder.exists():
                raise
    return folder


def _download_package(work: Path) -> Path:
    try:
        _call(work, "apt-get", "download", DEBIAN_PACKAGE)
    except PicturesNotFetchedError:
        # A fresh machine has no package lists, and only root may write them where they belong.
        (work / "lists" / "partial").mkdir(parents=True)
        own = ("-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}")
        _call(work, "apt-get", *own, "update")
        _call(work, "apt-get", *own, "download", DEBIAN_PACKAGE)
    return next(work.glob("*.deb"))


def _call(work: Path, *command: str) -> None:
    result = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=300)
    if result.returncode:
        raise PicturesNotFetchedError(f"{' '.join(command)}: {result.stderr.strip() or 'failed'}")


def _unpack_pictures(package: Path, classes: Path) -> None:
    """The pictures of the classes, byte for byte, out of the package's stream of files."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            target = _target(PurePosixPath(member.name))
            content = archive.extractfile(member) if target else None
            if target and content:
                (classes / target).parent.mkdir(parents=True, exist_ok=True)
                with (classes / target).open("xb") as file:
                    shutil.copyfileobj(content, file)
    if process.returncode:
        raise PicturesNotFetchedError(f"{package.name}: dpkg-deb cannot unpack it")
    missing = [label for label in CLASSES if not (classes / label).exists()]
    if missing:
        raise PicturesNotFetchedError(f"{package.name}: contains no pictures of {', '.join(missing)}")


def _target(member: PurePosixPath) -> PurePosixPath | None:
    """CLASS/NAME.png of a picture of one of the classes, None of a cartoon or another file.

    Subfolders become the first words of the name.
    """
    if member.suffix != ".png" or "cartoon" in member.parts:
        return None
    for label, source in CLASSES.items():
        if member.is_relative_to(source):
            return PurePosixPath(label, "-".join(member.relative_to(source).parts))
    return None
