"""Opens a picture file by its content: the decoded pixels, upright, or the reason why it is unreadable.

Damaged and hostile files are normal input here. A file never makes this module start another program,
unpack more pixels than MAX_PIXELS, or raise anything but UnreadablePictureError.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import importlib.metadata
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import PIL
from PIL import Image, ImageFile, TiffImagePlugin

from wandb_tl.errors import one_line

# Pillow refuses a picture beyond this number too (twice its MAX_IMAGE_PIXELS). An RGB picture of this size
# takes 0.7 GB of memory.
MAX_PIXELS = 178_956_970

# Formats that Pillow identifies but that are not opened: EPS runs Ghostscript, WMF runs the drawing commands
# of Windows, and the others have no pixels that Pillow can decode.
FORMATS_NOT_OPENED = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}

# Reasons for files of known kinds that are not opened, by their first bytes.
REFUSALS = {
    b"%!PS": "PostScript: a program, not pixels",
    b"\xc5\xd0\xd3\xc6": "PostScript: a program, not pixels",
    b"\xd7\xcd\xc6\x9a": "WMF: drawing commands, not pixels",
    b"\xff\x0a": "JPEG XL: not supported",
    b"\0\0\0\x0cJXL ": "JPEG XL: not supported",
}
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

# What makes a picture upright, by its EXIF orientation; 1 is upright.
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
EXIF_ORIENTATION = 0x0112

# Errors that say nothing about a file's content. Damaged bytes cause others, such as an invalid seek.
MACHINE_ERRORS = {errno.EIO, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}

Factory = Callable[[IO[bytes], str | bytes], ImageFile.ImageFile]


class UnreadablePictureError(Exception):
    """A file that cannot be used as a picture. Its message is the reason in a few words."""


class UnreachablePictureError(UnreadablePictureError):
    """A file that cannot be read at the moment, because of the disk, the network or the memory."""


@dataclass(frozen=True)
class Header:
    """What a picture says about itself before its pixels are decoded.

    width, height: in pixels, as stored (of a TIFF, as shown). mode, format: Pillow's names.
    """

    width: int
    height: int
    mode: str
    format: str


def pillow_version() -> str:
    """The version of Pillow and its package for HEIF; with another version, a file may be readable."""
    try:
        return f"{PIL.__version__} pillow-heif {importlib.metadata.version('pillow-heif')}"
    except importlib.metadata.PackageNotFoundError:
        return PIL.__version__


def read_header(file: Path | BinaryIO) -> Header:
    """Read the size, mode and format of a picture, and decode nothing. Raises UnreadablePictureError."""
    with _identified(file) as (image, _):
        return Header(*image.size, image.mode, image.format or "")


def open_picture(file: Path | BinaryIO) -> Image.Image:
    """Decode the first frame of a picture, in the mode that the file stores, turned upright by its EXIF data.

    The format is recognised by content; the name does not matter. The file is closed; a stream stays open.
    Threads may call this at the same time. Raises UnreadablePictureError.
    """
    with _identified(file) as (image, stream):
        return _decode(image, stream)


@contextlib.contextmanager
def _identified(file: Path | BinaryIO) -> Iterator[tuple[ImageFile.ImageFile, BinaryIO]]:
    """The picture with its header read, and the stream that it is read from; all errors have a reason."""
    image_format = ""
    with _stream(file) as stream:
        try:
            image = _identify(stream)
            image_format = image.format or ""
            yield image, stream
        except UnreadablePictureError:
            raise
        except Exception as error:
            # Pillow's decoders raise almost every exception there is on damaged bytes.
            of_machine = isinstance(error, MemoryError) or getattr(error, "errno", None) in MACHINE_ERRORS
            kind = UnreachablePictureError if of_machine else UnreadablePictureError
            raise kind(_reason(error, image_format, stream)) from error


@contextlib.contextmanager
def _stream(file: Path | BinaryIO) -> Iterator[BinaryIO]:
    """The file opened, and closed at the end; a stream from its beginning, and left open."""
    if not isinstance(file, Path):
        file.seek(0)
        yield file
        return
    try:
        # Opening a pipe would wait for a writer.
        if not stat.S_ISREG(file.stat().st_mode):
            raise UnreadablePictureError("not a regular file")
        stream = file.open("rb")
    except OSError as error:
        if file.is_symlink() and not file.exists():
            raise UnreadablePictureError("broken link") from error
        raise UnreachablePictureError(f"cannot be opened: {error.strerror or one_line(error)}") from error
    with stream:
        yield stream


def _decode(image: ImageFile.ImageFile, stream: BinaryIO) -> Image.Image:
    """The pixels without the file."""
    if image.format == "PNG":
        _scale_transparent_colour(image, stream)
    image.load()
    return _tiff_pixels(image) if isinstance(image, TiffImagePlugin.TiffImageFile) else _upright(image)


def _identify(stream: BinaryIO) -> ImageFile.ImageFile:
    """The picture with its header read, not too large, and its pixels not yet decoded.

    Image.open does the same, but it cannot leave formats out of its list of all, and it warns of large
    pictures in a way that threads cannot silence.
    """
    prefix = stream.read(16)
    if not prefix:
        raise UnreadablePictureError("empty file")
    if prefix[4:8] == b"ftyp" and prefix[8:12] in HEIF_BRANDS:
        _register_heif()
    problem: UnreadablePictureError | None = None
    for name, factory, accepts in _formats():
        # Some checks fail on files shorter than what they look at.
        if accepts and accepts(prefix.ljust(16, b"\0")) is not True:
            continue
        stream.seek(0)
        try:
            image = factory(stream, "")
        except Exception as error:
            # A format without a signature tries every file, so its failure says nothing about this one.
            if accepts and not problem:
                problem = UnreadablePictureError(_reason(error, name, stream))
            continue
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UnreadablePictureError(f"too large: {width:,} x {height:,} pixels")
        return image
    raise problem or UnreadablePictureError(_refusal(prefix, stream))


def _formats() -> list[tuple[str, Factory, Callable[[bytes], bool | str] | None]]:
    """The formats that are opened: name, factory and signature check; those without a check come last."""
    Image.init()
    formats = [(name, *Image.OPEN[name]) for name in Image.ID if name in Image.OPEN]
    usable = [entry for entry in formats if entry[0] not in FORMATS_NOT_OPENED]
    return sorted(usable, key=lambda entry: entry[2] is None)


@functools.cache
def _register_heif() -> None:
    """Let Pillow open HEIF pictures, if the package for it is installed. Importing it takes a while."""
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()


def _refusal(prefix: bytes, stream: BinaryIO) -> str:
    for start, reason in REFUSALS.items():
        if prefix.startswith(start):
            return reason
    if prefix[4:8] == b"ftyp" and prefix[8:12] in HEIF_BRANDS:
        return "HEIF: needs the package pillow-heif"
    stream.seek(0)
    start = stream.read(24)
    if not any(start):
        return "not a picture (begins with zeros)"
    # The last character may be cut in two.
    text = start.decode("utf-8", errors="replace").rstrip("\ufffd").partition("\n")[0].strip()
    if len(text) > 3 and text.isprintable() and "\ufffd" not in text:
        return f"not a picture (begins with '{text}')"
    return f"not a picture (begins with the bytes {start[:8].hex(' ')})"


def _reason(error: Exception, image_format: str, stream: BinaryIO) -> str:
    """Why decoding failed, in a few words."""
    message = one_line(error)
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"cannot be read: {error.strerror}"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too large: more pixels than its header says"
    if message == "not identified by this driver":
        # Pillow's words for a width or a height of 0.
        return f"{image_format}: no pixels"
    if isinstance(error, EOFError) or "truncated" in message.lower():
        return f"cut off after {stream.seek(0, 2):,} bytes"
    if "requires a buffer" in message or "index out of range" in message:
        message = "data is missing"
    return f"damaged {image_format}: {message}"


def _scale_transparent_colour(image: ImageFile.ImageFile, stream: BinaryIO) -> None:
    """Bring the transparent colour of a PNG to 8 bits; Pillow scales only the pixels to them."""
    transparency = image.info.get("transparency")
    position = stream.tell()
    # The bit depth stands at a fixed place of every PNG.
    stream.seek(24)
    depth = stream.read(1)[0]
    stream.seek(position)
    if image.mode == "L" and isinstance(transparency, int) and depth < 8:
        image.info["transparency"] = transparency * 255 // (2**depth - 1)
    elif image.mode == "RGB" and isinstance(transparency, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in transparency)


def _tiff_pixels(image: TiffImagePlugin.TiffImageFile) -> Image.Image:
    """The pixels of a TIFF, which Pillow has turned upright; grey whose values Pillow misreads is refused."""
    tags = image.tag_v2
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 32803 or 50706 in tags:
        raise UnreadablePictureError("a camera's raw file: export it as JPEG or PNG first")
    zero_is_white = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    if image.mode.startswith("I;16") and zero_is_white:
        return Image.fromarray(np.uint16(65535) - np.asarray(image).astype(np.uint16))
    if image.mode == "F" and zero_is_white:
        raise UnreadablePictureError("TIFF: floating-point grey with 0 as white is not supported")
    signed = set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))) == {2}
    if image.mode == "I" and not signed and np.asarray(image).min() < 0:
        # Pillow stores unsigned values in signed integers.
        raise UnreadablePictureError("TIFF: grey values above 2,147,483,647 are not supported")
    return image.copy()


def _upright(image: ImageFile.ImageFile) -> Image.Image:
    """The pixels turned upright; damaged EXIF data leaves them as they are."""
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION)
    except Exception:
        # Viewers show such a picture too, and the parser raises as many errors as the decoders.
        orientation = None
    transpose = ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return image.copy() if transpose is None else image.transpose(transpose)
