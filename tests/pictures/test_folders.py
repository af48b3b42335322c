import os
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from wandb_tl.errors import InputError
from wandb_tl.pictures.folders import list_folder
from wandb_tl.pictures.listing import Listing

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="names and links of POSIX systems")


def make(root: Path, *names: str) -> Path:
    """Files at the given places; a name that ends in / is an empty folder."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    return root


def names(listing: Listing) -> list[str]:
    return [file.name for file in listing.files]


def groups(listing: Listing) -> set[tuple[str | None, str]]:
    return {(file.split, file.label) for file in listing.files}


def message(root: Path) -> str:
    with pytest.raises(InputError) as error:
        list_folder(root)
    text = str(error.value)
    assert text.startswith("data_dir: ")
    assert "\n" not in text
    return text


def test_one_folder_per_class(tmp_path):
    root = make(tmp_path, "pine/2.png", "oak/1.jfif", "oak/photo")
    listing = list_folder(root)
    assert names(listing) == ["oak/1.jfif", "oak/photo", "pine/2.png"]
    assert groups(listing) == {(None, "oak"), (None, "pine")}
    assert [file.path for file in listing.files] == [root / name for name in names(listing)]
    assert (listing.root, listing.passed_over, listing.notes, listing.empty_classes) == (root, {}, [], [])


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("test", "test"),
        ("Testing", "test"),
        ("VAL", "val"),
        ("valid", "val"),
        ("Validation", "val"),
        ("dev", "val"),
    ],
)
@pytest.mark.parametrize("training", ["train", "Training"])
def test_names_of_splits(tmp_path, training, folder, split):
    root = make(
        tmp_path, *(f"{part}/{label}/1.png" for part in (training, folder) for label in ("oak", "pine"))
    )
    listing = list_folder(root)
    assert groups(listing) == {(part, label) for part in ("train", split) for label in ("oak", "pine")}
    assert f"{folder}/oak/1.png" in names(listing)


def test_training_split_alone(tmp_path):
    listing = list_folder(make(tmp_path, "train/oak/1.png", "train/pine/1.png"))
    assert groups(listing) == {("train", "oak"), ("train", "pine")}


def test_litter_is_passed_over_and_counted(tmp_path):
    root = make(
        tmp_path,
        *(
            "oak/1.png",
            "pine/1.png",
            ".git/config/x",
            ".DS_Store",
            "oak/._1.png",
            "oak/.ipynb_checkpoints/1.png",
        ),
        *("oak/Thumbs.db", "pine/thumbs.DB", "pine/desktop.ini", "__MACOSX/oak/1.png", "oak/@eaDir/1.png"),
        *("$RECYCLE.BIN/1.png", "System Volume Information/"),
    )
    listing = list_folder(root)
    assert names(listing) == ["oak/1.png", "pine/1.png"]
    assert listing.empty_classes == []
    assert listing.passed_over == {
        "hidden files": 2,
        "hidden folders": 2,
        "Thumbs.db": 2,
        "desktop.ini": 1,
        "folders named __MACOSX": 1,
        "folders named @eaDir": 1,
        "recycle bins": 1,
        "system folders": 1,
    }


@needs_posix
def test_litter_from_macos_and_windows_on_other_systems(tmp_path):
    root = make(tmp_path, "oak/1.png", "pine/1.png", "oak/Icon\r", "oak/1.png:Zone.Identifier")
    listing = list_folder(root)
    assert names(listing) == ["oak/1.png", "pine/1.png"]
    assert listing.passed_over == {"folder icons of macOS": 1, "Zone.Identifier files": 1}


def test_nested_files_belong_to_their_class(tmp_path):
    listing = list_folder(make(tmp_path, "oak/1.png", "oak/day/2.png", "oak/day/a/b/3.png", "pine/1.png"))
    assert Counter(file.label for file in listing.files) == {"oak": 3, "pine": 1}
    assert listing.notes == ["Files in folders below a class folder belong to that class (2)."]


def test_descends_into_an_unpacked_archive(tmp_path):
    root = make(
        tmp_path, "pictures/pictures/oak/1.png", "pictures/pictures/pine/1.png", "pictures.zip", "__MACOSX/a"
    )
    listing = list_folder(root)
    assert listing.root == root / "pictures" / "pictures"
    assert names(listing) == ["oak/1.png", "pine/1.png"]
    assert listing.notes == [f"The data set lies in {root / 'pictures' / 'pictures'}."]
    assert listing.passed_over == {"folders named __MACOSX": 1, "files outside the class folders": 1}


def test_descends_to_splits(tmp_path):
    listing = list_folder(make(tmp_path, "dev/train/oak/1.png", "dev/train/pine/1.png", "dev/test/oak/1.png"))
    assert groups(listing) == {("train", "oak"), ("train", "pine"), ("test", "oak")}


def test_splits_inside_folders_of_the_same_name(tmp_path):
    root = make(
        tmp_path,
        *("seg_train/seg_train/sea/1.png", "seg_train/seg_train/ice/1.png"),
        *("seg_test/seg_test/sea/1.png", "seg_test/seg_test/ice/1.png", "seg_pred/seg_pred/1.png"),
    )
    listing = list_folder(root)
    assert groups(listing) == {(split, label) for split in ("train", "test") for label in ("sea", "ice")}
    assert "seg_test/ as test, seg_train/ as train" in "".join(listing.notes)
    assert "seg_pred/ (1 file)" in "".join(listing.notes)


def test_an_only_class_with_a_folder_in_it_is_not_a_wrapper(tmp_path):
    root = make(tmp_path, "train/oak/1.png", "train/pine/1.png", "test/oak/day/1.png")
    assert groups(list_folder(root)) == {("train", "oak"), ("train", "pine"), ("test", "oak")}


def test_classes_named_as_splits(tmp_path):
    listing = list_folder(make(tmp_path, "train/1.png", "bus/1.png", "car/1.png"))
    assert groups(listing) == {(None, "train"), (None, "bus"), (None, "car")}
    assert "train/ is read as a class, not as a split." in listing.notes


def test_classes_valid_and_invalid_with_folders_in_them(tmp_path):
    listing = list_folder(make(tmp_path, "valid/monday/1.png", "invalid/monday/1.png"))
    assert groups(listing) == {(None, "valid"), (None, "invalid")}


def test_foreign_folders_beside_the_splits(tmp_path):
    root = make(
        tmp_path, "train/oak/1.png", "train/pine/1.png", "masks/a/1.png", "masks/2.png", "unlabelled/"
    )
    listing = list_folder(root)
    assert names(listing) == ["train/oak/1.png", "train/pine/1.png"]
    assert listing.notes == [
        "Folders beside the splits are left out: masks/ (2 files), unlabelled/ (0 files)."
    ]


@pytest.mark.parametrize("place", ["test/1.png", "test/images/1.png"])
def test_unlabelled_test_files_are_left_out(tmp_path, place):
    listing = list_folder(make(tmp_path, "train/oak/1.png", "train/pine/1.png", place))
    assert groups(listing) == {("train", "oak"), ("train", "pine")}
    assert listing.notes == ["test/ is left out: its files (1) lie in no class folder."]


def test_each_class_with_its_own_splits(tmp_path):
    root = make(tmp_path, "oak/train/1.png", "oak/test/2.png", "pine/train/1.png", "pine/Valid/3.png", "elm/")
    listing = list_folder(root)
    assert groups(listing) == {("train", "oak"), ("train", "pine"), ("test", "oak"), ("val", "pine")}
    assert listing.empty_classes == ["elm"]
    assert listing.notes == ["Each class folder holds its own splits."]


def test_files_beside_class_folders(tmp_path):
    root = make(
        tmp_path, "train/oak/1.png", "train/pine/1.png", "train/labels.csv", "README.md", "test/oak/1.png"
    )
    listing = list_folder(root)
    assert names(listing) == ["test/oak/1.png", "train/oak/1.png", "train/pine/1.png"]
    assert listing.passed_over == {"files outside the class folders": 2}


@pytest.mark.skipif(sys.platform == "darwin", reason="APFS folds both spellings into one folder")
def test_names_that_are_equal_in_nfc_are_one_class(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "chêne") for form in ("NFC", "NFD"))
    root = make(tmp_path, f"train/{composed}/1.png", f"train/{decomposed}/2.png", "train/oak/1.png")
    make(root, f"test/{decomposed}/1.png")
    assert groups(list_folder(root)) == {("train", composed), ("train", "oak"), ("test", composed)}


def test_names_that_differ_in_case_are_not_merged(tmp_path):
    root = make(tmp_path, "train/Oak/1.png", "train/pine/1.png", "test/oak/1.png", "test/pine/1.png")
    assert {label for _, label in groups(list_folder(root))} == {"Oak", "oak", "pine"}


def test_empty_classes(tmp_path):
    root = make(
        tmp_path, "train/oak/1.png", "train/pine/1.png", "train/elm/deep/", "valid/oak/", "valid/pine/1.png"
    )
    listing = list_folder(root)
    assert listing.empty_classes == ["train/elm", "valid/oak"]
    assert ("train", "elm") not in groups(listing)


@needs_posix
def test_links(tmp_path):
    root = make(tmp_path / "root", "train/oak/1.png", "train/pine/1.png", "test/pine/1.png")
    elsewhere = make(tmp_path / "elsewhere", "a.png", "b.png")
    (root / "train" / "elm").symlink_to(elsewhere)
    (root / "test" / "elm").symlink_to(elsewhere)
    (root / "train" / "oak" / "linked.png").symlink_to(elsewhere / "a.png")
    (root / "train" / "oak" / "broken.png").symlink_to(elsewhere / "missing.png")
    (root / "train" / "oak" / "itself.png").symlink_to(root / "train" / "oak" / "itself.png")
    for name, target in {"again": "oak", "up": "..", "top": "../../..", "everything": "/"}.items():
        (root / "train" / "pine" / name).symlink_to(target if name != "again" else root / "train" / "pine")
    os.mkfifo(root / "train" / "oak" / "pipe")
    listing = list_folder(root)
    assert names(listing) == [
        *("test/elm/a.png", "test/elm/b.png", "test/pine/1.png", "train/elm/a.png", "train/elm/b.png"),
        *("train/oak/1.png", "train/oak/broken.png", "train/oak/itself.png", "train/oak/linked.png"),
        "train/pine/1.png",
    ]
    assert listing.passed_over == {"links to their own folder": 4, "pipes and devices": 1}


@needs_posix
def test_a_root_behind_a_link(tmp_path):
    root = make(tmp_path / "root", "oak/1.png", "pine/1.png")
    (tmp_path / "link").symlink_to(root)
    (root / "oak" / "loop").symlink_to(root)
    assert names(list_folder(tmp_path / "link")) == ["oak/1.png", "pine/1.png"]


def test_a_relative_root(tmp_path, monkeypatch):
    monkeypatch.chdir(make(tmp_path, "oak/1.png", "pine/1.png"))
    listing = list_folder(Path())
    assert names(listing) == ["oak/1.png", "pine/1.png"]
    assert all(file.path.exists() for file in listing.files)


@needs_posix
def test_odd_names(tmp_path):
    raw = os.fsdecode(b"caf\xe9")
    labels = ["two words", "a,b", "line\nbreak", "🌲", "-x", "100%", "back\\slash"]
    root = make(tmp_path, f"{raw}/{raw}.png", *(f"{label}/1, 2\n.png" for label in labels))
    listing = list_folder(root)
    escaped = {name.replace("\n", "\\n") for name in labels}
    assert {file.label for file in listing.files} == {*escaped, "caf\\udce9"}
    assert all(file.path.exists() for file in listing.files)
    assert "caf\\udce9/caf\\udce9.png" in names(listing)
    "".join(names(listing)).encode()


def nest(root: Path, name: str, depth: int) -> int:
    """Make folders inside each other, deeper than a path can be long; returns the innermost one, open."""
    folder = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=folder)
        below = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    return folder


@needs_posix
def test_folders_nested_deeper_than_python_calls(tmp_path):
    root = make(tmp_path, "oak/1.png", "pine/1.png")
    folder = nest(root / "pine", "d", 1010)
    os.close(os.open("deep.png", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    try:
        assert len(list_folder(root).files) == 3
    finally:
        # What cleans up after tests would need more calls than Python allows.
        subprocess.run(["rm", "-r", root / "pine"], check=True)


@needs_posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read every folder")
def test_folders_without_permission(tmp_path):
    root = make(tmp_path, "oak/1.png", "pine/1.png", "elm/1.png")
    (root / "elm").chmod(0)
    try:
        assert "elm: Permission denied; check its permissions" in message(root)
    finally:
        (root / "elm").chmod(0o700)


@needs_posix
def test_folders_that_cannot_be_listed(tmp_path):
    """A path that is too long for the system: the folder is there, and nobody can list it."""
    root = make(tmp_path, "oak/1.png", "pine/1.png")
    os.close(nest(root / "pine", "d" * 250, 20))
    assert "ddd: File name too long; check its permissions, or remove it" in message(root)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], ["no class folders", "add one per class"]),
        (["1.png", "2.png"], ["sort its 2 files into one folder per class", "or pass a .csv"]),
        (["1.png", "labels.csv"], ["labels.csv if it has columns"]),
        (["1.png", "a.csv", "b.jsonl"], ["or pass a .csv file"]),
        (["1.png", "2.png", "thumbs/1.png"], ["outside of its class folders"]),
        (["oak/1.png"], ["only one class with files, oak", "second class"]),
        (["oak/1.png", "pine/"], ["only one class with files, oak"]),
        (["oak/", "pine/"], ["have no files"]),
        (["oak/day/1.png"], ["only one class"]),
        (
            ["train/oak/1.png", "test/oak/1.png", "test/pine/1.png"],
            ["training split", "only one class with files, oak"],
        ),
        (["train/1.png", "test/2.png", "train.csv"], ["has no class folders", "train.csv one?"]),
        (["train/1.png"], ["has no class folders"]),
        (["train/1.png", "valid/1.png", "bus/1.png"], ["has no class folders"]),
        (["train_images/1.png", "test_images/2.png"], ["train_images has no class folders"]),
        (["test/oak/1.png", "test/pine/1.png"], ["test/ but no train/"]),
        (["test/1.png", "val/1.png"], ["test/ but no train/"]),
        (["oak/1.png", "pine/1.png", "test/oak/1.png"], ["test/ but no train/"]),
        (["train/a/1", "train/b/1", "valid/a/1", "val/a/1"], ["val/ and valid/", "mean the same split, val"]),
        (["train/a/1", "train/b/1", "training/a/1"], ["train/ and training/", "mean the same split"]),
    ],
)
def test_refusals(tmp_path, files, words):
    text = message(make(tmp_path, *files))
    assert [word for word in words if word not in text] == []


def test_refusals_of_a_root(tmp_path):
    assert "there is no folder" in message(tmp_path / "missing")
    assert "is a file" in message(make(tmp_path, "pictures.zip") / "pictures.zip")
    assert "there is no folder" in message(tmp_path / "pictures.zip" / "train")
    assert "cannot read" in message(tmp_path / ("x" * 300))
    assert "there is no folder" in message(Path("nul\0byte"))
    assert "line\\nbreak" in message(make(tmp_path, "line\nbreak/") / "line\nbreak")


def test_many_classes(tmp_path):
    listing = list_folder(make(tmp_path, *(f"{number:04}/1.png" for number in range(300))))
    assert len({file.label for file in listing.files}) == 300
