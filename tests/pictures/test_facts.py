import os
from pathlib import Path

import pytest
from PIL import Image

from wandb_tl.pictures import decoding
from wandb_tl.pictures.facts import FactsIndex


@pytest.fixture
def files(tmp_path, monkeypatch) -> list[Path]:
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path / "cache"))
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    Image.new("I;16", (5, 6), 700).save(tmp_path / "grey.png")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "link.jpg").symlink_to("nowhere")
    return [tmp_path / name for name in ("red.png", "grey.png", "text.jpg", "link.jpg")]


def test_facts_of_each_kind_of_file(tmp_path, files):
    red, grey, text, link = FactsIndex(tmp_path).read(files)
    assert (red.width, red.height, red.mode, red.format, red.grey, red.problem) == (
        30,
        20,
        "RGB",
        "PNG",
        None,
        "",
    )
    assert (grey.grey.smallest, grey.grey.largest, grey.grey.floating) == (700, 700, False)
    assert text.problem.startswith("not a picture") and len(text.digest) == 64
    assert (link.digest, link.problem) == ("", "broken link")


def test_files_are_opened_again_only_if_they_have_changed(tmp_path, files, monkeypatch):
    before = FactsIndex(tmp_path).read(files)
    opened = []
    read_header = decoding.read_header

    def counting(file: Path) -> decoding.Header:
        opened.append(file.name)
        return read_header(file)

    monkeypatch.setattr(decoding, "read_header", counting)
    assert FactsIndex(tmp_path).read(files) == before and opened == []
    # Programs that unpack archives set the times of files, and equal pictures have equal sizes.
    status = files[0].stat()
    other = tmp_path / "other.png"
    other.write_bytes(b"\0" * status.st_size)
    other.replace(files[0])
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert FactsIndex(tmp_path).read(files)[0].problem.startswith("not a picture")
    assert opened == ["red.png"]


def test_why_pictures_cannot_be_decoded_is_remembered_by_their_content(tmp_path, files):
    first, second = FactsIndex(tmp_path), FactsIndex(tmp_path)
    first.add_problems({"a": "cut off"})
    second.add_problems({"b": "cut off after 90 bytes"})
    first.read(files)
    assert FactsIndex(tmp_path).problems() == {"a": "cut off", "b": "cut off after 90 bytes"}


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\1" * 4096])
def test_a_damaged_index_is_written_anew(tmp_path, files, content):
    before = FactsIndex(tmp_path).read(files)
    (file,) = (tmp_path / "cache" / "pictures").iterdir()
    file.write_bytes(content)
    for _ in range(2):
        assert FactsIndex(tmp_path).read(files) == before
    FactsIndex(tmp_path).add_problems({"a": "cut off"})
    assert FactsIndex(tmp_path).problems() == {"a": "cut off"}


def test_pipes_are_not_opened(tmp_path, files):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert FactsIndex(tmp_path).read([tmp_path / "pipe.jpg"])[0].problem == "not a regular file"
