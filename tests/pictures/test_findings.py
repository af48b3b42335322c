"""What is wrong with the files of a data set, from folders that have one thing wrong each."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wandb_tl.pictures import decoding, findings
from wandb_tl.pictures.colours import to_rgb
from wandb_tl.pictures.findings import Finding
from wandb_tl.pictures.framing import Framing, thumbnail
from wandb_tl.pictures.survey import Survey, survey


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes in two splits, three smooth pictures each."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("oak", "pine"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(3):
                small = Image.fromarray(rng.integers(0, 255, (5, 7, 3), dtype=np.uint8))
                picture = small.resize((120, 80 + number), Image.Resampling.BICUBIC)
                picture.save(tmp_path / split / label / f"{number}.png")
    return tmp_path


def look(folder: Path) -> tuple[Survey, dict[str, list[Finding]]]:
    result = survey(str(folder), 0.0, 0.2)
    pictures = [picture for part in result.different_splits.values() for picture in part]
    framing = Framing(64, "squash", 1.0, "bilinear")
    grey = [thumbnail(framing(to_rgb(decoding.open_picture(picture.file.path)))) for picture in pictures]
    return result, findings.find(result, np.stack(grey))


def rows(folder: Path) -> list[tuple[str, ...]]:
    _, by_kind = look(folder)
    return [tuple(finding.row.values()) for members in by_kind.values() for finding in members]


def test_nothing_is_wrong_with_good_files(folder: Path):
    assert look(folder)[1] == {}


def test_equal_files_are_told_apart_by_what_is_wrong_with_them(folder: Path):
    shutil.copy(folder / "train/oak/0.png", folder / "test/oak/leak.png")
    shutil.copy(folder / "train/oak/1.png", folder / "train/pine/wrong.png")
    shutil.copy(folder / "test/pine/2.png", folder / "test/pine/again.png")
    assert rows(folder) == [
        ("leak", "train/oak/0.png", "test/oak/leak.png", "oak", "train and test, labelled oak"),
        ("two labels", "train/oak/1.png", "train/pine/wrong.png", "oak", "train, labelled oak and pine"),
        ("repeated", "test/pine/2.png", "test/pine/again.png", "pine", "test, labelled pine"),
    ]


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("test/oak/smaller.jpg", "alike leak"),
        ("train/pine/smaller.jpg", "alike two labels"),
        ("train/oak/smaller.jpg", "alike"),
    ],
)
def test_a_picture_stored_again_looks_alike(folder: Path, target: str, kind: str):
    Image.open(folder / "train/oak/0.png").resize((90, 60)).save(folder / target, quality=80)
    [(found_kind, first, other, _, detail)] = rows(folder)
    assert found_kind == kind
    assert {first, other} == {"train/oak/0.png", target}
    assert "grey levels" in detail


def test_pictures_of_one_colour_and_unreadable_ones_are_listed(folder: Path):
    Image.new("RGB", (40, 30), "white").save(folder / "train/oak/white.png")
    (folder / "test/oak/empty.png").write_bytes(b"")
    assert rows(folder) == [
        ("unreadable", "test/oak/empty.png", "", "oak", "empty file"),
        ("blank", "train/oak/white.png", "", "oak", "almost a single colour"),
    ]


def test_text_has_all_equal_pairs_and_few_that_only_look_alike(folder: Path):
    for number in range(30):
        shutil.copy(folder / "train/oak/0.png", folder / f"train/oak/copy{number}.png")
    for quality in range(60, 90):
        Image.open(folder / "train/pine/0.png").save(
            folder / f"train/pine/again{quality}.jpg", quality=quality
        )
    _, by_kind = look(folder)
    text = findings.text(by_kind)
    assert "Repeated (30): equal pictures of one class and split" in text
    assert text.count("train/oak/copy") == 30
    alike = len(by_kind["alike"])
    assert alike == 31 * 30 // 2
    assert f"  and {alike - 20:,} more; --csv FILE lists all" in text


def test_csv_has_a_row_per_finding(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    (folder / "test/oak/a, b.png").write_bytes(b"")
    _, by_kind = look(folder)
    file = tmp_path_factory.mktemp("out") / "findings.csv"
    findings.write_csv(by_kind["unreadable"], file)
    with file.open(encoding="utf-8", newline="") as stream:
        assert list(csv.DictReader(stream)) == [finding.row for finding in by_kind["unreadable"]]


def test_sizes_name_the_extremes(folder: Path):
    Image.new("RGB", (30, 10), "red").save(folder / "train/oak/narrow.png")
    text = findings.sizes(look(folder)[0])
    assert "Shorter side: 10 px (train/oak/narrow.png) to 82 px (train/pine/2.png), median 81 px" in text
    assert "Most elongated: 30 x 10 px (train/oak/narrow.png)" in text


def test_sizes_count_every_class_that_the_paragraph_only_summarises(tmp_path: Path):
    for number in range(25):
        (tmp_path / f"class{number:02}").mkdir()
        for shade in range(2):
            colour = (10 * number, 100 * shade, 0)
            Image.new("RGB", (8, 8), colour).save(tmp_path / f"class{number:02}" / f"{shade}.png")
    text = findings.sizes(look(tmp_path)[0])
    assert "  Pictures by class (train + test):\n    class00 1 + 1\n    class01 1 + 1\n" in text
