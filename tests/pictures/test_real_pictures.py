"""The real pictures that other tests use: enough of each class, each one readable, and of several kinds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from real_pictures import CLASSES, PicturesNotFetchedError, fetch


def test_each_class_has_at_least_thirty_pictures(real_pictures: Path):
    counts = Counter(file.parent.name for file in real_pictures.glob("*/*.png"))
    assert sorted(counts) == sorted(CLASSES)
    assert min(counts.values()) >= 30, counts


def test_folder_holds_nothing_but_classes_of_png_files(real_pictures: Path):
    others = [path for path in real_pictures.rglob("*") if path.is_file() and path.suffix != ".png"]
    assert not others
    assert all(folder.is_dir() for folder in real_pictures.iterdir())


def test_pillow_reads_each_picture(real_pictures: Path):
    modes, sizes = Counter(), set()
    for file in real_pictures.glob("*/*.png"):
        with Image.open(file) as image:
            image.load()
            modes[image.mode] += 1
            sizes.add(image.size)
    # What makes them worth testing with: transparency, grey and palettes, and hardly two of one size.
    assert modes["RGBA"] > 100
    assert modes["LA"]
    assert modes["P"]
    assert len(sizes) > 100


def test_pictures_fetched_before_are_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    (tmp_path / "pictures").mkdir()
    assert fetch(tmp_path / "pictures") == tmp_path / "pictures"


def test_machine_without_apt_says_so_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PicturesNotFetchedError, match="apt-get"):
        fetch(tmp_path / "pictures")
    assert not list(tmp_path.iterdir())
