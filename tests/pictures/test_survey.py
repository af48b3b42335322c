import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wandb_tl.errors import InputError
from wandb_tl.pictures.survey import Survey, paragraph, survey, unreadable_line


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path_factory.mktemp("cache")))


def make(folder: Path, *classes: str, count: int = 6) -> Path:
    """A folder with pictures in these class folders, all different."""
    rng = np.random.default_rng(zlib.crc32(" ".join(classes).encode()))
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 255, (20, 30 + number, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def look(folder: Path, val_fraction: float = 0.0, test_fraction: float = 0.3) -> Survey:
    return survey(str(folder), val_fraction, test_fraction)


def sizes(result: Survey) -> dict[str, int]:
    return {name: len(pictures) for name, pictures in result.splits.items()}


def test_the_paragraph_says_what_is_there_and_what_is_left_out(tmp_path):
    make(tmp_path, "train/oak", "train/pine", "test/oak", "test/pine")
    (tmp_path / "train" / "oak" / "notes.txt").write_text("left on Tuesday")
    (tmp_path / "train" / "oak" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "train" / "ash").mkdir()
    result = look(tmp_path)
    assert sizes(result) == {"train": 12, "test": 12}
    assert paragraph(result).splitlines() == [
        f"{tmp_path}: 24 pictures of 2 classes (12 train, 12 test)",
        "  Pictures by class (train + test): oak 6 + 6, pine 6 + 6",
        "  30 x 20 to 35 x 20 pixels; 24 PNG",
        "  Left out: hidden files (1), .txt files that are not pictures (1)",
        "  Warning: train/ash is empty; add pictures to it, or delete it",
    ]


def test_of_many_classes_the_smallest_and_the_largest_are_named(tmp_path):
    make(tmp_path, *(f"class{number}" for number in range(25)), count=2)
    Image.new("RGB", (9, 9)).save(tmp_path / "class7" / "one more.png")
    assert "Pictures per class: 2 (class0) to 3 (class7), median 2" in paragraph(look(tmp_path))


def test_pictures_are_recognised_by_content_and_not_by_name(tmp_path):
    make(tmp_path, "oak", "pine", count=3)
    picture = Image.new("RGB", (9, 9), "red")
    picture.save(tmp_path / "oak" / "a.jfif", "JPEG")
    picture.save(tmp_path / "oak" / "b", "GIF")
    picture.save(tmp_path / "pine" / "c.txt", "WEBP")
    (tmp_path / "pine" / "d.jpg").write_text("<html>")
    result = look(tmp_path)
    names = {picture.name for pictures in result.splits.values() for picture in pictures}
    assert {"oak/a.jfif", "oak/b", "pine/c.txt"} < names and len(names) == 9
    assert unreadable_line(result.unreadable) == (
        "1 picture cannot be read (pine/d.jpg: not a picture (begins with '<html>'))"
    )


def test_equal_pictures_in_two_splits_or_under_two_labels_are_told(tmp_path):
    make(tmp_path, "train/oak", "train/pine", "test/oak", "test/pine")
    copy = (tmp_path / "train" / "oak" / "0.png").read_bytes()
    (tmp_path / "test" / "oak" / "copy.png").write_bytes(copy)
    (tmp_path / "train" / "pine" / "same.png").write_bytes(copy)
    leak, two_labels = look(tmp_path).warnings
    names = "train/oak/0.png and test/oak/copy.png"
    assert leak.startswith(f"1 pair of equal pictures in two splits, such as {names}")
    names = "train/oak/0.png and train/pine/same.png"
    assert two_labels.startswith(f"1 pair of equal pictures in two classes, such as {names}")


def test_classes_that_are_not_in_every_split(tmp_path):
    make(tmp_path, "train/oak", "train/pine", "test/oak")
    assert look(tmp_path).warnings[0] == "no test pictures of pine; their accuracy is not measured"
    make(tmp_path, "test/Pine")
    with pytest.raises(
        InputError, match="class Pine is in test, but has no training pictures; rename it to pine"
    ):
        look(tmp_path)


def test_a_class_that_most_test_pictures_have_is_told(tmp_path):
    make(tmp_path, "train/ill", "train/well", "test/well", count=19)
    make(tmp_path, "test/ill", count=1)
    assert (
        "95.0% of the test pictures are well: a model that always answers well" in look(tmp_path).warnings[0]
    )


def test_deep_grey_pictures_keep_their_brightness(tmp_path):
    make(tmp_path, "dark", "light", count=0)
    for number in range(3):
        for label, value in (("dark", 300), ("light", 4000)):
            array = np.full((9, 9), value + number, np.uint16)
            Image.fromarray(array).save(tmp_path / label / f"{number}.png")
    assert look(tmp_path).levels.integer == (0, 4095)


def test_splits_of_a_label_file(tmp_path):
    make(tmp_path, "a", "b")
    rows = [f"a/{number}.png,first,{'test' if number < 2 else 'train'}" for number in range(6)]
    rows += [f"b/{number}.png,second,{'test' if number < 2 else 'train'}" for number in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    result = look(tmp_path / "labels.csv")
    assert sizes(result) == {"train": 8, "test": 4} and result.class_names == ["first", "second"]


def test_validation_pictures_are_made_if_there_are_none(tmp_path):
    make(tmp_path, "train/oak", "train/pine", "test/oak", "test/pine", count=12)
    result = look(tmp_path, val_fraction=0.3)
    assert sizes(result)["train"] + sizes(result)["val"] == 24 and sizes(result)["test"] == 24
    (tmp_path / "test").rename(tmp_path / "val")
    result = look(tmp_path, val_fraction=0.3)
    assert result.test_is_val and sizes(result) == {"train": 24, "val": 24, "test": 24}
    assert "val_fraction has no effect: there is a validation split." in result.notes


def test_folds_of_real_pictures_are_disjoint_and_cover_each_class_once(real_pictures):
    whole = survey(str(real_pictures), 0.0, 0.2)
    results = [survey(str(real_pictures), 0.0, 0.2, fold=(number, 4)) for number in (1, 2, 3, 4)]
    trained = {picture.name for picture in whole.splits["train"]}
    held_out = [picture.name for result in results for picture in result.splits["val"]]
    assert len(held_out) == len(set(held_out)) and set(held_out) == trained
    sizes = Counter(picture.label for picture in whole.splits["train"])
    for result in results:
        names = {split: {picture.name for picture in members} for split, members in result.splits.items()}
        assert names["test"] == {picture.name for picture in whole.splits["test"]}
        assert names["train"] == trained - names["val"]
        for label, count in Counter(picture.label for picture in result.splits["val"]).items():
            # Equal pictures, which share a part, would make it larger.
            assert abs(count - sizes[label] / 4) < 2, label
        assert "  There is no val split: part " in paragraph(result)


def test_folds_need_a_data_set_without_a_validation_split(tmp_path):
    make(tmp_path, "train/oak", "train/pine", "val/oak", "val/pine")
    with pytest.raises(InputError, match="fold: there is a validation split, which is used; leave fold out"):
        survey(str(tmp_path), 0.0, 0.2, fold=(1, 3))


def test_a_folder_without_a_readable_picture_is_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"no readable pictures: 2 pictures cannot be read \(a/x.jpg, b/x.jpg: empty"
    ):
        look(tmp_path)


def test_a_value_that_makes_other_pictures_flat_is_told(tmp_path):
    make(tmp_path, "dark", "light", count=0)
    rng = np.random.default_rng(0)
    for number in range(3):
        for label in ("dark", "light"):
            Image.fromarray(rng.random((9, 9), np.float32)).save(tmp_path / label / f"{number}.tif")
    assert look(tmp_path).warnings == []
    spoiled = rng.random((9, 9), np.float32)
    spoiled[0, 0] = -9999
    Image.fromarray(spoiled).save(tmp_path / "dark" / "0.tif")
    (warning,) = look(tmp_path).warnings
    assert (
        "dark/1.tif" in warning
        and "dark/0.tif" not in warning
        and "replace values that mean no data" in warning
    )


def test_classes_of_one_picture_each_are_refused(tmp_path):
    make(tmp_path, "oak", "pine", count=1)
    with pytest.raises(InputError, match="data_dir: no class has two different pictures"):
        look(tmp_path)


def test_a_damaged_picture_without_an_ending_is_not_left_out_as_something_else(tmp_path):
    make(tmp_path, "oak", "pine")
    file = tmp_path / "oak" / "0.png"
    file.rename(file.with_suffix(""))
    grey = tmp_path / "oak" / "grey"
    Image.fromarray(np.full((99, 99), 700, np.uint16)).save(grey, "PNG")
    grey.write_bytes(grey.read_bytes()[:-60])
    result = look(tmp_path)
    assert [picture.name for picture in result.unreadable] == ["oak/grey"]
    assert "oak/0" in {picture.name for pictures in result.splits.values() for picture in pictures}


def test_a_label_file_of_an_artifact_is_read_and_stays_in_its_folder(tmp_path):
    make(tmp_path / "artifact", "images", count=8)
    rows = [f"images/{number}.png,{'odd' if number % 2 else 'even'}" for number in range(8)]
    labels = tmp_path / "artifact" / "labels.csv"
    labels.write_text("\n".join(["path,label", *rows]))
    result = survey(str(tmp_path / "artifact"), 0, 0.3, confined=True)
    assert result.class_names == ["even", "odd"]
    make(tmp_path, "secrets")
    labels.write_text("\n".join(["path,label", *rows, "../secrets/0.png,odd"]))
    with pytest.raises(InputError, match="leads out of the folder"):
        survey(str(tmp_path / "artifact"), 0, 0.3, confined=True)


@pytest.mark.parametrize("data_dir", ["~nobody-of-this-name/pictures", "x" * 5000])
def test_a_path_that_cannot_be_is_refused(data_dir):
    with pytest.raises(InputError, match="data_dir: "):
        survey(data_dir, 0, 0.2)


def test_names_cannot_write_to_the_terminal(tmp_path):
    make(tmp_path, "oak\n  Warning: none\x1b[31m", "pine")
    text = paragraph(look(tmp_path))
    assert "\x1b" not in text and "Warning: none" in text and len(text.splitlines()) == 4
