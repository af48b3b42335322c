"""Framing equals timm's evaluation transform, and shapes at their extremes cost no memory."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform

from wandb_tl.pictures.framing import BORDER, THUMBNAIL_BYTES, Framing, thumbnail


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize(("size", "crop_fraction"), [(224, 0.875), (64, 0.95), (96, 1.0), (33, 0.9)])
def test_crop_equals_timm(interpolation, size, crop_fraction):
    framing = Framing(size, "crop", crop_fraction, interpolation)
    transform = create_transform(
        size, is_training=False, interpolation=interpolation, crop_pct=crop_fraction, normalize=False
    )
    for shape in [(500, 375), (375, 500), (501, 333), (37, 91), (224, 224), (32, 32), (1, 1), (60, 900)]:
        image = noise(*shape)
        assert np.array_equal(framing(image), transform(image).numpy()), shape


@pytest.mark.parametrize("shape", [(20, 900), (900, 20), (3, 200)])
def test_crop_of_long_pictures_is_close_to_timm(shape):
    transform = create_transform(
        64, is_training=False, interpolation="bilinear", crop_pct=0.875, normalize=False
    )
    image = noise(*shape)
    difference = Framing(64, "crop", 0.875, "bilinear")(image).astype(int) - transform(image).numpy().astype(
        int
    )
    assert np.abs(difference).max() <= 1


def test_squash_uses_the_whole_picture():
    image = noise(90, 50)
    framed = Framing(40, "squash", interpolation="bilinear")(image)
    expected = image.resize((40, 40), Image.Resampling.BILINEAR)
    assert np.array_equal(framed, np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize("shape", [(80, 40), (40, 80)])
def test_pad_centres_the_picture_on_the_border_colour(shape):
    framed = Framing(20, "pad", interpolation="bilinear")(Image.new("RGB", shape, (1, 2, 3)))
    if shape[0] < shape[1]:
        framed = framed.transpose(0, 2, 1)
    for channel, (border, inner) in enumerate(zip(BORDER, (1, 2, 3), strict=True)):
        assert (framed[channel, :5] == border).all() and (framed[channel, 15:] == border).all()
        assert (framed[channel, 5:15] == inner).all()


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30_000), (30_000, 1), (2, 3), (7, 4000)])
def test_extreme_shapes(resize, shape):
    framed = Framing(64, resize, 0.875, "bicubic")(Image.new("RGB", shape, (200, 100, 0)))
    assert framed.shape == (3, 64, 64)
    assert framed.dtype == np.uint8 and framed.flags.c_contiguous
    assert framed[:, 31, 31].tolist() == [200, 100, 0]
    if resize != "pad":
        assert (framed == framed[:, :1, :1]).all()


MEASURE = """
import resource, sys
from PIL import Image
from wandb_tl.pictures.framing import Framing
picture = Image.new("RGB", (1, 30_000), "red")
for resize in ("crop", "squash", "pad"):
    Framing(224, resize)(Image.new("RGB", (9, 9)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for image in (picture, picture.transpose(Image.Transpose.TRANSPOSE)):
    for resize in ("crop", "squash", "pad"):
        Framing(224, resize)(image)
unit = 1 if sys.platform == "darwin" else 1024
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the peak is read with the module resource")
def test_a_line_of_pixels_needs_little_memory():
    result = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    # The whole picture at a width of 256 would be 5.9 GB.
    assert int(result.stdout) < 64 * 2**20


@pytest.mark.parametrize(
    "settings",
    [{"resize": "stretch"}, {"crop_fraction": 0}, {"crop_fraction": 1.5}, {"interpolation": "sinc"}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Framing(64, **settings)


def test_thumbnail_is_the_mean_of_each_box():
    grey = np.random.default_rng(1).integers(0, 256, (72, 72)).astype(np.uint8)
    means = grey.reshape(8, 9, 9, 8).mean(axis=(1, 3)).reshape(-1)
    small = thumbnail(np.stack([grey] * 3))
    assert small.dtype == np.uint8 and small.shape == (THUMBNAIL_BYTES,) == (72,)
    # Rows and columns are rounded one after the other.
    assert np.abs(small - means).max() <= 1.5


@pytest.mark.parametrize("size", [8, 9, 28, 64, 224, 299])
def test_thumbnail_of_any_size(size):
    left, right = (
        np.zeros((3, size, size // 2), np.uint8),
        np.full((3, size, size - size // 2), 200, np.uint8),
    )
    rows = thumbnail(np.concatenate([left, right], 2)).reshape(8, 9)
    assert (rows[:, :4] == 0).all() and (rows[:, 5:] == 200).all()


def test_thumbnail_hardly_depends_on_the_size_of_the_file():
    smooth = Image.fromarray(np.random.default_rng(2).integers(0, 256, (6, 6, 3)).astype(np.uint8))
    large = smooth.resize((640, 640), Image.Resampling.BICUBIC)
    framing = Framing(224, "squash", interpolation="bilinear")
    one, other = (thumbnail(framing(image)).astype(int) for image in (large, large.resize((300, 300))))
    assert np.abs(one - other).max() <= 2
