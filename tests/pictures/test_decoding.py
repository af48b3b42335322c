"""Files of every format are opened by content, and unreadable ones have a reason."""

import io
import os
import random
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from picture_bytes import png, tiff
from PIL import Image

from wandb_tl.pictures.decoding import (
    Header,
    UnreadablePictureError,
    open_picture,
    pillow_version,
    read_header,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
# Smooth, so that formats that lose detail keep it to a few grey levels.
SMOOTH = np.stack([np.add.outer(np.arange(48) * 3, np.arange(64) * k) % 256 for k in (0, 1, 1)], 2).clip(
    0, 255
)
SMOOTH = SMOOTH.astype(np.uint8)


def encoded(image, image_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def reason(content):
    with pytest.raises(UnreadablePictureError) as error:
        open_picture(io.BytesIO(content))
    return str(error.value)


LOSSLESS = [
    ("PNG", {}),
    ("BMP", {}),
    ("DIB", {}),
    ("TGA", {}),
    ("TGA", {"compression": "tga_rle"}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("WEBP", {"lossless": True}),
    ("PPM", {}),
    ("PCX", {}),
    ("SGI", {}),
    ("QOI", {}),
    ("DDS", {}),
    ("JPEG2000", {"irreversible": False}),
]


@pytest.mark.parametrize(("image_format", "options"), LOSSLESS, ids=lambda value: str(value))
def test_lossless_formats_give_the_pixels_that_were_saved(image_format, options):
    content = encoded(Image.fromarray(PIXELS), image_format, **options)
    image = open_picture(io.BytesIO(content))
    assert np.array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize("image_format", ["JPEG", "MPO", "AVIF", "WEBP", "JPEG2000"])
def test_lossy_formats_are_close(image_format):
    image = open_picture(io.BytesIO(encoded(Image.fromarray(SMOOTH), image_format, quality=95)))
    assert np.abs(np.asarray(image).astype(int) - SMOOTH).mean() < 6


@pytest.mark.parametrize("image_format", ["ICO", "ICNS"])
def test_icons_give_the_largest_size(image_format):
    icon = Image.new("RGBA", (128, 128), (200, 30, 60, 255))
    image = open_picture(io.BytesIO(encoded(icon, image_format)))
    assert image.width >= 128
    assert image.convert("RGBA").getpixel((64, 64)) == (200, 30, 60, 255)


@pytest.mark.parametrize("image_format", ["XBM", "MSP"])
def test_formats_of_one_bit(image_format):
    bits = Image.fromarray(PIXELS[:, :, 0] > 127)
    image = open_picture(io.BytesIO(encoded(bits, image_format)))
    assert np.array_equal(np.asarray(image), np.asarray(bits))


@pytest.mark.parametrize("name", ["photo.jfif", "photo.png", "photo.txt", "photo", "bild mit ä.JPE"])
def test_the_name_does_not_matter(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(encoded(Image.fromarray(SMOOTH), "JPEG"))
    assert open_picture(file).size == (64, 48)
    assert read_header(file) == Header(64, 48, "RGB", "JPEG")


def test_the_file_is_closed_and_the_picture_needs_it_no_longer(tmp_path):
    file = tmp_path / "a.gif"
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(file, save_all=True, append_images=frames[1:])
    image = open_picture(file)
    file.unlink()
    assert type(image) is Image.Image
    assert image.convert("RGB").size == (32, 24)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"])
def test_animations_and_several_pages_give_the_first(image_format):
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    first, *others = [Image.new("RGB", (40, 30), colour) for colour in colours]
    content = encoded(first, image_format, save_all=True, append_images=others)
    with Image.open(io.BytesIO(content)) as stored:
        assert stored.n_frames == 3
    red, green, blue = open_picture(io.BytesIO(content)).convert("RGB").getpixel((20, 15))
    assert red > 240 and green < 10 and blue < 10


# Where the pixel that is stored at the top left is shown, by the EXIF standard: (row, column) of (2, 3).
SHOWN_AT = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(image_format, orientation):
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if image_format == "WEBP" else {}
    content = encoded(Image.fromarray(stored), image_format, exif=exif, **options)
    image = open_picture(io.BytesIO(content))
    assert image.size == ((48, 32) if orientation < 5 else (32, 48))
    row, column = SHOWN_AT[orientation]
    bright = np.asarray(image)[:, :, 0] > 127
    assert bright[row, column]
    assert bright.sum() == 16 * 16
    # The header says what is stored; Pillow swaps the sides of a TIFF at once.
    assert read_header(io.BytesIO(content)).width == (image.width if image_format == "TIFF" else 48)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 9])
def test_damaged_exif_data_does_not_damage_the_picture(exif):
    content = encoded(Image.fromarray(SMOOTH), "JPEG", exif=exif)
    assert open_picture(io.BytesIO(content)).size == (64, 48)


def test_what_is_not_a_picture_has_a_reason():
    assert reason(b"") == "empty file"
    assert (
        reason(b"<!DOCTYPE html><html>\nnot found") == "not a picture (begins with '<!DOCTYPE html><html>')"
    )
    assert reason(b"version https://git-lfs.github.com/spec/v1\noid") == (
        "not a picture (begins with 'version https://git-lfs.')"
    )
    assert reason(bytes(5000)) == "not a picture (begins with zeros)"
    assert reason(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1thumbs") == (
        "not a picture (begins with the bytes d0 cf 11 e0 a1 b1 1a e1)"
    )
    assert reason(b"\xfe" * 40) == "not a picture (begins with the bytes fe fe fe fe fe fe fe fe)"
    assert (
        reason("Übersicht der Bilder äöü".encode()) == "not a picture (begins with 'Übersicht der Bilder ä')"
    )
    assert reason(b"a") == "not a picture (begins with the bytes 61)"
    assert reason(b"%PDF-1.7\n...") == "not a picture (begins with '%PDF-1.7')"
    assert reason(b"\xff\x0a" + bytes(50)) == "JPEG XL: not supported"
    assert reason(b"\x89HDF\r\n\x1a\n" + bytes(50)).startswith(
        "not a picture (begins with the bytes 89 48 44 46"
    )


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\xc5\xd0\xd3\xc6" * 9]
)
def test_postscript_starts_no_interpreter(content, tmp_path, monkeypatch):
    marker = tmp_path / "started"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert reason(content) == "PostScript: a program, not pixels"
    assert not marker.exists()
    real = encoded(Image.fromarray(PIXELS), "EPS")
    assert reason(real) == "PostScript: a program, not pixels"
    assert not marker.exists()


def test_drawing_commands_are_refused():
    assert reason(b"\xd7\xcd\xc6\x9a\0\0" + bytes(60)) == "WMF: drawing commands, not pixels"


@pytest.mark.skipif("pillow-heif" in pillow_version(), reason="pillow-heif is installed")
def test_heif_names_the_package_that_reads_it():
    assert reason(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)) == "HEIF: needs the package pillow-heif"


def test_files_that_cannot_be_opened(tmp_path):
    def refusal(path):
        with pytest.raises(UnreadablePictureError) as error:
            open_picture(path)
        return str(error.value)

    assert refusal(tmp_path) == "not a regular file"
    assert refusal(tmp_path / "absent.png") == "cannot be opened: No such file or directory"
    if sys.platform != "win32":
        (tmp_path / "link.png").symlink_to(tmp_path / "absent.png")
        assert refusal(tmp_path / "link.png") == "broken link"
        os.mkfifo(tmp_path / "pipe.png")
        assert refusal(tmp_path / "pipe.png") == "not a regular file"


@pytest.mark.skipif(sys.platform != "linux", reason="a file that opens and cannot be read")
def test_an_error_of_the_disk_is_not_called_damage():
    with pytest.raises(UnreadablePictureError, match="cannot be read: Input/output error"):
        open_picture(Path("/proc/self/mem"))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the owner may read everything")
def test_a_file_without_permission(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(encoded(Image.fromarray(PIXELS), "PNG"))
    file.chmod(0)
    with pytest.raises(UnreadablePictureError, match="cannot be opened: Permission denied"):
        open_picture(file)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "TGA", "SGI"])
def test_a_file_that_is_cut_off_says_where(image_format):
    content = encoded(Image.fromarray(SMOOTH), image_format)
    cut = content[: len(content) * 6 // 10]
    assert reason(cut) == f"cut off after {len(cut):,} bytes"


@pytest.mark.parametrize("image_format", ["WEBP", "AVIF", "JPEG2000", "QOI", "DDS"])
def test_other_formats_that_are_cut_off_are_refused(image_format):
    content = encoded(Image.fromarray(PIXELS), image_format)
    assert image_format in reason(content[: len(content) // 2])


@pytest.mark.parametrize("size", [(40_000, 40_000), (2**31 - 1, 1), (1, 178_956_971)])
def test_too_many_pixels_are_refused_before_they_are_decoded(size):
    content = png(*size, 8, 2, [])
    assert reason(content) == f"too large: {size[0]:,} x {size[1]:,} pixels"
    with pytest.raises(UnreadablePictureError, match="too large"):
        read_header(io.BytesIO(content))


def test_large_pictures_do_not_warn():
    # Pillow warns of more than 89 million pixels.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_header(io.BytesIO(png(10_000, 10_000, 1, 0, []))).width == 10_000


def test_no_pixels():
    assert reason(png(0, 5, 8, 2, [])) == "PNG: no pixels"
    bmp = bytearray(encoded(Image.fromarray(PIXELS), "BMP"))
    bmp[18:22] = bytes(4)
    assert reason(bytes(bmp)) == "BMP: no pixels"


def test_grey_tiff_of_16_bits_in_both_byte_orders_and_both_polarities():
    values = np.array([[0, 1, 300], [4095, 65534, 65535]], np.uint16)
    for order in "<>":
        data = values.astype(f"{order}u2").tobytes()
        image = open_picture(io.BytesIO(tiff(3, 2, data, order, t258=16, t262=1)))
        assert np.array_equal(np.asarray(image).astype(np.uint16), values)
    # PhotometricInterpretation 0: the value 0 is white.
    image = open_picture(io.BytesIO(tiff(3, 2, values.astype("<u2").tobytes(), t258=16, t262=0)))
    assert np.array_equal(np.asarray(image), 65535 - values)


def test_deep_tiffs_that_pillow_would_misread_are_refused():
    large = np.array([[1, 3_000_000_000]], "<u4").tobytes()
    assert reason(tiff(2, 1, large, t258=32, t262=1)) == (
        "TIFF: grey values above 2,147,483,647 are not supported"
    )
    floats = np.array([[0.0, 1.0]], "<f4").tobytes()
    assert reason(tiff(2, 1, floats, t258=32, t262=0, t339=3)).startswith("TIFF: floating-point grey")
    raw = tiff(2, 1, bytes(6), t258=[8] * 3, t262=2, t277=3, t50706=1)
    assert reason(raw) == "a camera's raw file: export it as JPEG or PNG first"
    signed = np.array([[-5, 7]], "<i4").tobytes()
    image = open_picture(io.BytesIO(tiff(2, 1, signed, t258=32, t262=1, t339=2)))
    assert np.asarray(image).tolist() == [[-5, 7]]


def test_threads_open_pictures_at_the_same_time():
    contents = [encoded(Image.fromarray(np.roll(PIXELS, k, 0)), "PNG") for k in range(24)]
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda content: open_picture(io.BytesIO(content)), contents * 4))
    for k, image in enumerate(images):
        assert np.array_equal(np.asarray(image), np.roll(PIXELS, k % 24, 0))


def fuzz_corpus():
    colour, grey = Image.fromarray(PIXELS[:16, :16]), Image.fromarray(PIXELS[:16, :16, 0])
    kinds = {"RGB": colour, "L": grey, "P": colour.quantize(), "1": grey.convert("1")}
    kinds |= {"RGBA": colour.convert("RGBA"), "CMYK": colour.convert("CMYK"), "F": grey.convert("F")}
    kinds["I;16"] = Image.fromarray(PIXELS[:16, :16, 0].astype(np.uint16) * 257)
    Image.init()
    # Formats that are not opened, and IM, which Pillow gives up.
    others = {"PDF", "EPS", "PALM", "BUFR", "GRIB", "HDF5", "WMF", "IM"}
    for image_format in sorted(set(Image.SAVE) - others):
        for mode, image in kinds.items():
            try:
                yield f"{image_format}-{mode}", encoded(image, image_format)
            except (OSError, ValueError):
                # The format has no such mode.
                continue


def damaged(content, generator):
    content = bytearray(content)
    if generator.random() < 0.3:
        return bytes(content[: generator.randrange(1, len(content))])
    reach = len(content) if generator.random() < 0.5 else min(80, len(content))
    for _ in range(generator.choice((1, 3, 10))):
        content[generator.randrange(reach)] = generator.choice((0, 255, generator.randrange(256)))
    return bytes(content)


def test_damaged_files_raise_nothing_else():
    generator = random.Random(0)
    corpus = dict(fuzz_corpus())
    assert len({name.split("-")[0] for name in corpus}) > 15
    refused = 0
    for name, content in corpus.items():
        open_picture(io.BytesIO(content))
        for _ in range(12):
            try:
                open_picture(io.BytesIO(damaged(content, generator)))
            except UnreadablePictureError as error:
                refused += 1
                assert 0 < len(str(error)) < 200 and "\n" not in str(error), name
    assert refused > 4 * len(corpus)
