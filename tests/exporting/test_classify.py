"""The script beside model.onnx: it sees ordinary pictures exactly as wandb_tl does, and refuses others."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wandb_tl.exporting import classify
from wandb_tl.pictures import decoding
from wandb_tl.pictures.colours import to_rgb
from wandb_tl.pictures.framing import Framing


def noise(width: int, height: int, mode: str) -> Image.Image:
    rng = np.random.default_rng(width * height)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8))
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def expected(file: Path, framing: Framing) -> np.ndarray:
    return framing(to_rgb(decoding.open_picture(file)))


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(40, 30), (31, 77), (32, 32), (9, 8), (1, 50), (700, 3), (3, 900)])
def test_pictures_of_any_shape_are_framed_exactly(resize, size, tmp_path):
    file = tmp_path / "picture.png"
    noise(*size, "RGB").save(file)
    for side, crop_fraction, interpolation in (
        (32, 0.875, "bicubic"),
        (33, 0.95, "bilinear"),
        (24, 1.0, "box"),
    ):
        framing = Framing(side, resize, crop_fraction, interpolation)
        pixels = classify.frame(
            classify.read_rgb(str(file)),
            side,
            resize,
            crop_fraction=crop_fraction,
            interpolation=interpolation,
        )
        assert pixels.dtype == np.uint8 and np.array_equal(pixels, expected(file, framing))


@pytest.mark.parametrize(
    ("mode", "ending", "options"),
    [
        ("L", "png", {}),
        ("1", "png", {}),
        ("P", "png", {}),
        ("P", "png", {"transparency": 3}),
        ("LA", "png", {}),
        ("RGBA", "png", {}),
        ("RGBA", "webp", {"lossless": True}),
        ("RGB", "jpg", {}),
        ("L", "jpg", {}),
        ("P", "gif", {}),
        ("RGB", "tiff", {}),
        ("RGB", "bmp", {}),
    ],
)
def test_colours_and_orientations_are_those_of_training(mode, ending, options, tmp_path):
    exif = Image.Exif()
    for orientation in (1, 6, 7):
        exif[decoding.EXIF_ORIENTATION] = orientation
        file = tmp_path / f"{orientation}.{ending}"
        turned = {} if ending in ("gif", "bmp") else {"exif": exif}
        noise(40, 30, mode).save(file, **options, **turned)
        pixels = classify.frame(classify.read_rgb(str(file)), 32, "pad", 0.875, "bicubic")
        assert np.array_equal(pixels, expected(file, Framing(32, "pad")))


def test_what_it_would_show_differently_is_refused(tmp_path):
    deep, inks, hole = tmp_path / "deep.png", tmp_path / "inks.jpg", tmp_path / "hole.png"
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(deep)
    noise(8, 8, "CMYK").save(inks)
    noise(8, 8, "L").save(hole, transparency=7)
    for file in (deep, inks, hole):
        with pytest.raises(ValueError, match="need wandb_tl"):
            classify.read_rgb(str(file))
    program = tmp_path / "program.png"
    program.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(ValueError, match="EPS is a program"):
        classify.read_rgb(str(program))
    stream = io.BytesIO()
    noise(8, 8, "RGB").save(stream, "png")
    (tmp_path / "cut.png").write_bytes(stream.getvalue()[:90])
    with pytest.raises(OSError):
        classify.read_rgb(str(tmp_path / "cut.png"))
