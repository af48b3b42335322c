import json
import sys
import unicodedata
from pathlib import Path

import pytest

from wandb_tl.errors import InputError
from wandb_tl.pictures.label_files import list_label_file
from wandb_tl.pictures.listing import Listing

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="names and links of POSIX systems")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for name in ("a.png", "b.png", "more/c d.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def write(root: Path, text: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    file = root / name
    file.write_bytes(text.encode(encoding))
    return file


def rows(listing: Listing) -> list[tuple[str, str, str | None]]:
    return [(file.name, file.label, file.split) for file in listing.files]


def message(file: Path, confined: bool = False) -> str:
    with pytest.raises(InputError) as error:
        list_label_file(file, confined)
    text = str(error.value)
    assert text.startswith("data_dir: ")
    assert "\n" not in text
    return text


PLAIN = [("a.png", "oak", None), ("b.png", "pine", None)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "path,label\na.png,oak\nb.png,pine\n"),
        ("x.csv", "path,label\r\na.png,oak\r\nb.png,pine"),
        ("x.CSV", " File Name ; CLASS ;other\n a.png ; oak ;1\nb.png;pine;2\n"),
        ("x.csv", "id\timage\ttarget\n1\ta.png\toak\n2\tb.png\tpine\n"),
        ("x.tsv", "filename\tcategory\na.png\toak\nb.png\tpine\n"),
        ("x.tsv", "filepaths,labels\n./a.png,oak\nmore/../b.png,pine\n"),
        ("x.csv", '"path", "label"\n"a.png", "oak"\n"b.png", "pine"\n'),
        ("x.csv", "a.png,oak\nb.png,pine\n"),
        ("x.csv", "a.png;oak\nb.png;pine\n"),
        ("x.jsonl", '{"path": "a.png", "label": "oak"}\n\n{"label": "pine", "path": "b.png", "width": 3}\n'),
        ("x.ndjson", '{"file_name": "a.png", "label": "oak"}\r\n{"file_name": "b.png", "label": "pine"}\r\n'),
        ("x.json", '[{"Image Path": "a.png", "Class": "oak"},\n {"image_path": "b.png", "class": "pine"}]'),
        ("x.json", '{"image": "a.png", "class": "oak"}\n{"image": "b.png", "class": "pine"}'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_formats(root, name, text, encoding):
    listing = list_label_file(write(root, text, name, encoding))
    assert rows(listing) == PLAIN
    assert (listing.root, listing.passed_over, listing.notes, listing.empty_classes) == (root, {}, [], [])
    assert all(file.path.is_file() for file in listing.files)


@pytest.mark.parametrize("column", ["split", "Set", "data set", "PARTITION", "fold"])
def test_splits(root, column):
    text = f"path,label,{column}\na.png,oak,Training\nb.png,pine,train\nmore/c d.png,oak, VALID \n"
    assert [split for _, _, split in rows(list_label_file(write(root, text)))] == ["train", "train", "val"]


def test_splits_without_header(root):
    assert [
        split for _, _, split in rows(list_label_file(write(root, "a.png,oak,train\nb.png,pine,train\n")))
    ] == [
        "train",
        "train",
    ]


def test_a_column_of_fold_numbers_is_not_read(root):
    listing = list_label_file(write(root, "path,label,fold\na.png,oak,0\nb.png,pine,1\n"))
    assert rows(listing) == PLAIN
    assert listing.notes == ["Column fold is not read: none of its values is train, val or test."]


def test_several_label_columns(root):
    listing = list_label_file(write(root, "path,label,class_name\na.png,0,oak\nb.png,1,pine\n"))
    assert rows(listing) == PLAIN
    assert listing.notes == ["Labels are those of column class_name, not of label."]


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["3", "4"], ["3", "4"]),
        (["3.0", "4.0"], ["3", "4"]),
        (["2.5", "-1.00"], ["2.5", "-1"]),
        (["007", "7"], ["007", "7"]),
        (["NA", "null"], ["NA", "null"]),
        (["1.0.0", "1.0.1"], ["1.0.0", "1.0.1"]),
    ],
)
def test_labels_of_a_table(root, cells, labels):
    listing = list_label_file(write(root, f"path,label\na.png,{cells[0]}\nb.png,{cells[1]}\n"))
    assert [label for _, label, _ in rows(listing)] == labels


@pytest.mark.parametrize(("values", "labels"), [([3, 4.0], ["3", "4"]), ([True, False], ["true", "false"])])
def test_labels_of_json(root, values, labels):
    items = [{"path": path, "label": value} for path, value in zip(("a.png", "b.png"), values, strict=True)]
    listing = list_label_file(write(root, json.dumps(items), "x.json"))
    assert [label for _, label, _ in rows(listing)] == labels


def test_labels_are_in_nfc(root):
    decomposed, composed = (unicodedata.normalize(form, "chêne") for form in ("NFD", "NFC"))
    listing = list_label_file(write(root, f"path,label\na.png,{decomposed}\nb.png,{composed}\nc.png,oak\n"))
    assert [label for _, label, _ in rows(listing)] == [composed, composed, "oak"]


def test_paths(root, tmp_path):
    outside = tmp_path / "other.png"
    outside.write_bytes(b"x")
    paths = (root / "a.png", outside, "../other.png", "more/c d.png", "missing.png")
    text = "\n".join(f"{path},{label}" for path, label in zip(paths, "vwxyz", strict=True))
    listing = list_label_file(write(root, f"path,label\n{text}"))
    names = {file.name: file.path for file in listing.files}
    assert set(names) == {"a.png", outside.as_posix(), "../other.png", "more/c d.png", "missing.png"}
    assert [name for name, path in names.items() if not path.is_file()] == ["missing.png"]


def test_a_relative_file(root, monkeypatch):
    monkeypatch.chdir(root)
    write(root, f"path,label\n{root / 'a.png'},oak\nb.png,pine\n")
    listing = list_label_file(Path("labels.csv"))
    assert rows(listing) == PLAIN
    assert all(file.path.is_file() for file in listing.files)


@needs_posix
def test_paths_written_on_other_systems(root):
    composed, decomposed = (unicodedata.normalize(form, "chêne.png") for form in ("NFC", "NFD"))
    (root / composed).write_bytes(b"x")
    (root / "back\\slash.png").write_bytes(b"x")
    text = f"path,label\nmore\\c d.png,oak\n{decomposed},pine\nback\\slash.png,pine\nmissing\\x.png,oak\n"
    listing = list_label_file(write(root, text))
    assert [name for name, _, _ in rows(listing)] == [
        "back\\slash.png",
        composed,
        "missing/x.png",
        "more/c d.png",
    ]


@needs_posix
def test_line_breaks_and_separators_in_paths(root):
    (root / "two\nlines, 1.png").write_bytes(b"x")
    listing = list_label_file(write(root, 'path,label\n"two\nlines, 1.png",oak\nb.png,pine\n'))
    assert [file.path.is_file() for file in listing.files] == [True, True]
    assert "two\\nlines, 1.png" in [file.name for file in listing.files]


def test_repeated_and_empty_rows(root):
    text = "path,label\na.png,oak\n,\nb.png,pine\n\na.png,oak\n./a.png,oak\na.png,pine\n"
    listing = list_label_file(write(root, text))
    assert rows(listing) == [("a.png", "oak", None), ("a.png", "pine", None), ("b.png", "pine", None)]
    assert listing.notes == ["Rows that repeat another row are read once (2)."]
    assert listing.passed_over == {"empty rows": 1}


def test_a_file_in_two_splits_is_listed_twice(root):
    text = "path,label,split\na.png,oak,train\na.png,oak,test\nb.png,pine,train\n"
    assert [split for _, _, split in rows(list_label_file(write(root, text)))] == ["test", "train", "train"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["has no rows"]),
        ("path,label\n", ["has no rows"]),
        ("name,kind\na.png,oak\n", ["has kind, name", "takes a column path"]),
        ("path\na.png\n", ["takes a column path"]),
        ("missing.png,oak\nb.png,pine\n", ["takes a column path"]),
        ("path,label\na.png,oak\nb.png,\n", ["row 3 of", "has no label"]),
        ("path,label\na.png,oak\nb.png\n", ["row 3 of", "has no label"]),
        ("path,label\n\n,oak\n", ["row 3 of", "has no path"]),
        ("path,label\na.png,oak\nb, 2.png,pine\n", ["row 3 of", "3 cells instead of 2", "in quotes"]),
        (
            "path,label,split\na.png,oak,train\nb.png,pine,holdout\n",
            ["row 3 of", "'holdout'", "train, val or test"],
        ),
        ("path,label,split\na.png,oak,train\nb.png,pine,\n", ["row 3 of", "''", "train, val or test"]),
        ("path,label,split\na.png,oak,val\nb.png,pine,test\n", ["no rows of split train"]),
        ("path,label\na.png,oak\nb.png,oak\n", ["only one class for training, oak"]),
        ("path,label,split\na.png,oak,train\nb.png,pine,test\n", ["only one class for training, oak"]),
        ("path,label\nx/a.png,oak\nx/b.png,pine\n", ["none of the files", "relative to the folder"]),
        ("path,label\nhttps://x.org/a.png,oak\nb.png,pine\n", ["row 2 of", "files of this machine"]),
        ("path,label\na\0.png,oak\nb.png,pine\n", ["row 2 of"]),
        ('path,label\n"a.png,oak\n' + "b.png,pine\n" * 20_000, ["not a valid table"]),
    ],
)
def test_refusals_of_tables(root, text, words):
    error = message(write(root, text))
    assert [word for word in words if word not in error] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"path": "a.png", "label": "oak"}\n{"path"\n', ["row 2 of", "not valid JSON"]),
        ('[{"path": "a.png"', ["not valid JSON", "list of objects"]),
        ("[" * 100_000, ["not valid JSON"]),
        ('["a.png", "b.png"]', ["row 1 of", "not an object"]),
        ('{"a.png": "oak", "b.png": "pine"}', ["takes a column path"]),
        ('[{"path": "a.png", "label": ["oak", "pine"]}]', ["row 1 of", "one label per picture"]),
        ('[{"path": "a.png", "label": NaN}]', ["row 1 of", "has no label"]),
        ('[{"path": null, "label": "oak"}]', ["row 1 of", "has no path"]),
        ("[]", ["has no rows"]),
    ],
)
def test_refusals_of_json(root, text, words):
    error = message(write(root, text, "x.json"))
    assert [word for word in words if word not in error] == []


def test_refusals_of_files(root):
    assert "takes a folder, or a .csv" in message(write(root, "x", "labels.txt"))
    assert "cannot read" in message(root / "missing.csv")
    assert "UTF-8" in message(write(root, "path,label\na.png,chêne\n", encoding="latin-1"))
    assert "UTF-8" in message(write(root, "path,label\na.png,oak\n", encoding="utf-16"))
    (root / "folder.csv").mkdir()
    assert "cannot read" in message(root / "folder.csv")


@needs_posix
def test_a_path_that_is_too_long(root):
    name = "x" * 5000
    listing = list_label_file(write(root, f"path,label\na.png,oak\n{name},pine\n"))
    assert [file.name for file in listing.files] == ["a.png", name]
    assert "row 2 of" in message(write(root, f"path,label\né{name},oak\nb.png,pine\n"))


def test_confined_reads_what_lies_in_the_folder(root):
    text = f"path,label\n{root / 'a.png'},oak\nb.png,pine\nmore/../more/c d.png,oak\nmissing/x.png,oak\n"
    listing = list_label_file(write(root, text), confined=True)
    assert [name for name, _, _ in rows(listing)] == ["a.png", "b.png", "missing/x.png", "more/c d.png"]


@pytest.mark.parametrize("path", ["../other.png", "more/../../other.png", "OUTSIDE", ".", "more/.."])
def test_confined_refuses_paths_that_leave_the_folder(root, tmp_path, path):
    (tmp_path / "other.png").write_bytes(b"x")
    path = path.replace("OUTSIDE", str(tmp_path / "other.png"))
    file = write(root, f"path,label\na.png,oak\n{path},pine\n")
    assert "row 3 of" in message(file, confined=True)
    assert len(list_label_file(file).files) == 2


@needs_posix
@pytest.mark.parametrize(
    "path", ["link.png", "folder/other.png", "folder/../other.png", "..\\other.png", "in/.."]
)
def test_confined_refuses_links_that_leave_the_folder(root, tmp_path, path):
    (tmp_path / "outside").mkdir()
    for folder in (tmp_path, tmp_path / "outside"):
        (folder / "other.png").write_bytes(b"x")
    (root / "link.png").symlink_to(tmp_path / "other.png")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "in").symlink_to(tmp_path / "outside" / "other.png")
    assert "row 3 of" in message(write(root, f"path,label\na.png,oak\n{path},pine\n"), confined=True)


@needs_posix
def test_confined_follows_links_inside_the_folder(root):
    (root / "link.png").symlink_to(root / "a.png")
    (root / "folder").symlink_to(root / "more")
    listing = list_label_file(write(root, "path,label\nlink.png,oak\nfolder/c d.png,pine\n"), confined=True)
    assert [name for name, _, _ in rows(listing)] == ["folder/c d.png", "link.png"]


@needs_posix
def test_confined_refuses_a_label_file_that_is_a_link_to_another_folder(root, tmp_path):
    write(tmp_path, "path,label\na.png,oak\nb.png,pine\n")
    (root / "labels.csv").symlink_to(tmp_path / "labels.csv")
    assert "leads out of its folder" in message(root / "labels.csv", confined=True)
    assert rows(list_label_file(root / "labels.csv")) == PLAIN
