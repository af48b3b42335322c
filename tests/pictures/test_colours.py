"""Every mode as RGB, compared with values computed by hand from the bytes of the file."""

import io
import math
import struct

import numpy as np
import pytest
from picture_bytes import png, tiff
from PIL import Image, ImageCms

from wandb_tl.pictures.colours import GreyExtremes, GreyLevels, grey_extremes, grey_levels, to_rgb
from wandb_tl.pictures.decoding import UnreadablePictureError, open_picture

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 20, 30)]


def rgb(content, levels=None):
    """The pixels of a file as RGB, in a list of rows."""
    image = to_rgb(open_picture(io.BytesIO(content)), levels)
    assert image.mode == "RGB"
    return [[tuple(pixel) for pixel in row] for row in np.asarray(image).tolist()]


def over_white(colour, alpha):
    return tuple(math.floor(value * alpha / 255 + 255 * (1 - alpha / 255) + 0.5) for value in colour)


def test_png_of_rgb_and_alpha():
    alphas = [255, 0, 128, 77]
    row = b"".join(bytes((*colour, alpha)) for colour, alpha in zip(COLOURS, alphas, strict=True))
    expected = [over_white(colour, alpha) for colour, alpha in zip(COLOURS, alphas, strict=True)]
    assert rgb(png(4, 1, 8, 6, [row])) == [expected]


def test_png_of_grey_and_alpha():
    assert rgb(png(3, 1, 8, 4, [bytes((0, 255, 0, 0, 100, 51))])) == [
        [(0, 0, 0), (255, 255, 255), over_white((100, 100, 100), 51)]
    ]


@pytest.mark.parametrize(
    ("transparency", "alphas"),
    [(None, [255] * 4), (b"\xff\x00", [255, 0, 255, 255]), (bytes((255, 128, 0)), [255, 128, 0, 255])],
)
def test_png_with_a_palette(transparency, alphas):
    chunks = [(b"PLTE", bytes(sum(COLOURS, ())))]
    if transparency:
        chunks.append((b"tRNS", transparency))
    expected = [over_white(colour, alpha) for colour, alpha in zip(COLOURS, alphas, strict=True)]
    assert rgb(png(4, 1, 2, 3, [bytes((0b00011011,))], *chunks)) == [expected]


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "expected"),
    [
        (1, bytes((0b10100000,)), 1, [255, 0, 255]),
        (1, bytes((0b10100000,)), 0, [255, 255, 255]),
        (2, bytes((0b00011000,)), 1, [0, 255, 170]),
        (4, bytes((0x1F, 0x70)), 7, [17, 255, 255]),
        (8, bytes((1, 2, 200)), 2, [1, 255, 200]),
        (16, struct.pack(">3H", 257, 514, 51400), 514, [1, 255, 200]),
    ],
)
def test_grey_png_with_one_transparent_value(depth, row, transparent, expected):
    content = png(3, 1, depth, 0, [row], (b"tRNS", struct.pack(">H", transparent)))
    assert rgb(content) == [[(value,) * 3 for value in expected]]


@pytest.mark.parametrize(("depth", "code", "factor"), [(8, "B", 1), (16, "H", 257)])
def test_rgb_png_with_one_transparent_colour(depth, code, factor):
    values = [value * factor for value in sum(COLOURS, ())]
    chunk = (b"tRNS", struct.pack(">3H", *(value * factor for value in COLOURS[3])))
    content = png(4, 1, depth, 2, [struct.pack(f">12{code}", *values)], chunk)
    assert rgb(content) == [[*COLOURS[:3], (255, 255, 255)]]


def test_gif_with_transparency():
    image = Image.new("P", (4, 1))
    image.putpalette(sum(COLOURS, ()))
    image.putdata([0, 1, 2, 3])
    buffer = io.BytesIO()
    image.save(buffer, "GIF", transparency=1)
    assert rgb(buffer.getvalue()) == [[COLOURS[0], (255, 255, 255), COLOURS[2], COLOURS[3]]]


@pytest.mark.parametrize("image_format", ["WEBP", "PNG", "TIFF", "TGA", "ICO", "DDS", "QOI"])
def test_transparent_pixels_are_white_in_every_format(image_format):
    pixels = np.full((16, 16, 4), (9, 9, 9, 255), np.uint8)
    pixels[4:8, 4:8] = 0
    buffer = io.BytesIO()
    options = {"lossless": True} if image_format == "WEBP" else {}
    Image.fromarray(pixels).save(buffer, image_format, **options)
    result = np.array(rgb(buffer.getvalue()))
    assert (result[4:8, 4:8] == 255).all()
    assert (result[8:] == 9).all()


def test_premultiplied_alpha():
    # ExtraSamples 1: the colours are stored multiplied by alpha. 51 of 255 is a fifth.
    data = bytes((20, 40, 10, 51))
    content = tiff(1, 1, data, t258=[8] * 4, t262=2, t277=4, t338=1)
    (pixel,) = rgb(content)[0]
    assert np.allclose(pixel, (20 + 204, 40 + 204, 10 + 204), atol=1)


def test_grey_tiff_with_white_as_zero():
    assert rgb(tiff(3, 1, bytes((0, 55, 255)), t258=8, t262=0)) == [[(255,) * 3, (200,) * 3, (0,) * 3]]


@pytest.mark.parametrize("white", [65535, 4095])
def test_grey_of_16_bits_is_scaled_and_rounded(white):
    values = np.linspace(0, white, 300).astype(np.uint16)
    expected = [(math.floor(int(value) * 255 / white + 0.5),) * 3 for value in values]
    levels = GreyLevels(integer=(0, white))
    assert rgb(png(300, 1, 16, 0, [values.astype(">u2").tobytes()]), levels) == [expected]
    assert rgb(tiff(300, 1, values.astype("<u2").tobytes(), t258=16, t262=1), levels) == [expected]


def test_pgm_of_16_bits_uses_its_own_maximum():
    # Pillow scales its values to 65535.
    content = b"P5 3 1 1023\n" + struct.pack(">3H", 0, 512, 1023)
    image = open_picture(io.BytesIO(content))
    levels = grey_levels([grey_extremes(image)])
    assert levels.integer == (0, 65535)
    assert rgb(content, levels) == [[(0,) * 3, (128,) * 3, (255,) * 3]]


def test_floats_with_values_that_are_no_numbers():
    values = np.array([0, 0.5, 1, 2, -1, math.nan, math.inf, -math.inf], np.float32)
    content = tiff(8, 1, values.tobytes(), t258=32, t262=1, t339=3)
    grey = [0, 128, 255, 255, 0, 0, 255, 0]
    assert rgb(content) == [[(value,) * 3 for value in grey]]
    assert grey_extremes(open_picture(io.BytesIO(content))) == GreyExtremes(True, -1, 2)
    nothing = tiff(1, 1, np.array([math.nan], np.float32).tobytes(), t258=32, t262=1, t339=3)
    with pytest.raises(UnreadablePictureError, match="no finite"):
        grey_extremes(open_picture(io.BytesIO(nothing)))


def test_signed_values_keep_their_order():
    # Such as a CT scan: air is -1000.
    values = np.array([-1000, -500, 0, 1023], np.int16)
    content = tiff(4, 1, values.tobytes(), t258=16, t262=1, t339=2)
    levels = grey_levels([grey_extremes(open_picture(io.BytesIO(content)))])
    assert levels.integer == (-1024, 1023)
    expected = [round((int(value) + 1024) * 255 / 2047) for value in values]
    assert rgb(content, levels) == [[(value,) * 3 for value in expected]]


def test_extremes_leave_out_the_transparent_value():
    content = png(3, 1, 16, 0, [struct.pack(">3H", 7, 900, 65535)], (b"tRNS", struct.pack(">H", 65535)))
    assert grey_extremes(open_picture(io.BytesIO(content))) == GreyExtremes(False, 7, 900)
    assert grey_extremes(Image.new("L", (2, 2))) is None


@pytest.mark.parametrize(
    ("peaks", "white"),
    [
        ([0], 255),
        ([255, 3], 255),
        ([256], 1023),
        ([4000, 90], 4095),
        ([4096], 16383),
        ([65535], 65535),
        ([65536], 131071),
        ([2**31 - 1], 2**31 - 1),
    ],
)
def test_white_of_integers(peaks, white):
    levels = grey_levels(GreyExtremes(False, 0, peak) for peak in peaks)
    assert levels == GreyLevels(integer=(0, white))


@pytest.mark.parametrize(
    ("peaks", "white"),
    [([0.0], 1), ([0.2], 0.25), ([0.9, 1.0], 1), ([1.3], 3), ([255.0], 255), ([65535.0], 65535), ([-2.0], 1)],
)
def test_white_of_floats(peaks, white):
    levels = grey_levels(GreyExtremes(True, 0, peak) for peak in peaks)
    assert levels == GreyLevels(floating=(0, white))


def test_floats_and_integers_have_levels_of_their_own():
    extremes = [GreyExtremes(True, -0.3, 0.8), GreyExtremes(False, 0, 3000), GreyExtremes(True, 0, 1)]
    assert grey_levels(extremes) == GreyLevels(integer=(0, 4095), floating=(-0.5, 1))
    assert grey_levels([]) == GreyLevels()


def test_cmyk_without_a_profile():
    inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255), (0, 0, 0, 100)]
    expected = [tuple((255 - ink) * (255 - inks_[3]) // 255 for ink in inks_[:3]) for inks_ in inks]
    content = tiff(5, 1, bytes(sum(inks, ())), t258=[8] * 4, t262=5, t277=4)
    assert np.abs(np.array(rgb(content)) - [expected]).max() <= 1


def test_cmyk_jpeg_as_photoshop_writes_it():
    # With Adobe's marker, a CMYK JPEG stores 255 minus the ink.
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(buffer, "JPEG", quality=100)
    assert b"Adobe" in buffer.getvalue()
    assert np.abs(np.array(rgb(buffer.getvalue())) - (255, 0, 0)).max() <= 3


def cmyk_profile():
    """An ICC profile by hand: paper is white (L 100), black ink is L 0, and the others are L 50."""
    identity = bytes(range(256))
    # 8-bit Lab: L from 0 to 255; a and b are 0 at 128.
    lightness = [255 if node == 0 else 0 if node % 2 else 128 for node in range(16)]
    nodes = b"".join(bytes((value, 128, 128)) for value in lightness)
    matrix = struct.pack(">9i", *(65536 if k % 4 == 0 else 0 for k in range(9)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + identity * 4 + nodes + identity * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = [(b"A2B0", table), (b"wtpt", white)]
    start, directory, content = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags:
        directory += name + struct.pack(">II", start + len(content), len(data))
        content += data.ljust(-(-len(data) // 4) * 4, b"\0")
    header = bytearray(128)
    header[8:12] = bytes((2, 0x40, 0, 0))
    header[12:24] = b"prtrCMYKLab "
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    profile = bytes(header) + struct.pack(">I", len(tags)) + directory + content
    return struct.pack(">I", len(profile)) + profile[4:]


def test_cmyk_with_its_profile():
    image = Image.new("CMYK", (2, 1))
    image.putpixel((1, 0), (255, 0, 0, 0))
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", icc_profile=cmyk_profile())
    paper, ink = rgb(buffer.getvalue())[0]
    assert min(paper) >= 254
    # L = 50 is a reflectance of 18.4 %, which sRGB stores as 119.
    assert np.abs(np.array(ink) - 119).max() <= 2


@pytest.mark.parametrize("profile", ["cut", "rubbish", "of RGB"])
def test_cmyk_with_a_profile_that_does_not_fit(profile):
    of_rgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = {"cut": cmyk_profile()[:400], "rubbish": b"rubbish", "of RGB": of_rgb}[profile]
    buffer = io.BytesIO()
    Image.new("CMYK", (1, 1), (255, 0, 0, 0)).save(buffer, "TIFF", icc_profile=content)
    assert rgb(buffer.getvalue()) == [[(0, 255, 255)]]


def srgb_of_lab(lightness, a, b):
    """CIE Lab (D50) as sRGB of 8 bits, by the definitions of both and Bradford's adaptation."""
    y = (lightness + 16) / 116
    cubes = [t**3 if t > 6 / 29 else 3 * (6 / 29) ** 2 * (t - 4 / 29) for t in (y + a / 500, y, y - b / 200)]
    xyz = np.array(cubes) * (0.9642, 1.0, 0.8249)
    to_linear = np.array([[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]])
    linear = (to_linear @ xyz).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_lab():
    # CIELab in TIFF: L from 0 to 255 for 0 to 100; a and b are signed bytes.
    colours = [(128, 0, 0), (255, 0, 0), (0, 0, 0), (150, 40, 30), (120, -30, 20), (100, 10, -40)]
    data = struct.pack("Bbb" * len(colours), *sum(colours, ()))
    content = tiff(len(colours), 1, data, t258=[8] * 3, t262=8, t277=3)
    expected = [srgb_of_lab(lightness * 100 / 255, a, b) for lightness, a, b in colours]
    assert np.abs(np.array(rgb(content)[0]) - expected).max() <= 3


def test_other_modes():
    red = Image.new("RGB", (2, 2), (200, 100, 50))
    for mode in ("HSV", "YCbCr", "RGBX"):
        assert np.abs(np.array(to_rgb(red.convert(mode)).getpixel((0, 0))) - (200, 100, 50)).max() <= 2
    assert to_rgb(Image.new("1", (1, 1), 1)).getpixel((0, 0)) == (255, 255, 255)
    grey_palette = Image.new("PA", (1, 1))
    grey_palette.putpalette([7, 8, 9])
    grey_palette.putalpha(255)
    assert to_rgb(grey_palette).getpixel((0, 0)) == (7, 8, 9)
    with_alpha = Image.new("P", (2, 1))
    with_alpha.putpalette([7, 8, 9, 255, 7, 8, 9, 0], "RGBA")
    with_alpha.putpixel((1, 0), 1)
    assert np.asarray(to_rgb(with_alpha)).tolist() == [[[7, 8, 9], [255, 255, 255]]]
    assert to_rgb(red) is red


def test_a_mode_without_a_sure_conversion_is_refused():
    image = Image.new("L", (1, 1))
    image._mode = "XYZ"
    with pytest.raises(UnreadablePictureError, match="mode XYZ is not supported"):
        to_rgb(image)
