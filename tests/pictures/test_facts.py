import os
from pathlib import Path

import pytest
from PIL import Image

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


def test_files_are_opened_again_only_if_they_have_changed(tmp_path, files):
    before = FactsIndex(tmp_path).read(files)
    status = files[0].stat()
    files[0].write_bytes(b"\0" * status.st_size)
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert FactsIndex(tmp_path).read(files) == before
    os.utime(files[0])
    assert FactsIndex(tmp_path).read(files)[0].problem.startswith("not a picture")


def test_why_a_picture_cannot_be_decoded_is_remembered_by_its_content(tmp_path, files):
    index = FactsIndex(tmp_path)
    digest = index.read(files)[0].digest
    index.add_problems({digest: "cut off"})
    assert FactsIndex(tmp_path).read(files)[0].problem == "cut off"
    Image.new("RGB", (30, 20), "blue").save(files[0])
    assert FactsIndex(tmp_path).read(files)[0].problem == ""


def test_a_damaged_index_is_written_anew(tmp_path, files):
    before = FactsIndex(tmp_path).read(files)
    (file,) = (tmp_path / "cache" / "pictures").iterdir()
    for content in ("", "[]", '{"format": 1}', "{"):
        file.write_text(content)
        assert FactsIndex(tmp_path).read(files) == before
