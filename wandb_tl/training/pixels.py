"""Pictures as uint8 tensors: decoded once for all runs of a machine, and mapped from the disk after that.

Each row of a stored tensor is a picture: whether it could be decoded, its thumbnail, its pixels. An entry of
the store is a list of pictures in one order. A picture that another entry has is copied from there, so that
a changed, added or removed file decodes only itself.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from wandb_tl.pictures import decoding
from wandb_tl.pictures.colours import GreyLevels, to_rgb
from wandb_tl.pictures.decoding import UnreachablePictureError, UnreadablePictureError
from wandb_tl.pictures.facts import Picture
from wandb_tl.pictures.framing import THUMBNAIL_BYTES, Framing, thumbnail
from wandb_tl.progress import tqdm
from wandb_tl.training import digests, mapped_tensors
from wandb_tl.training.tensor_store import Layout, TensorStore

# Increased whenever the same picture has other pixels than before, so that older entries are not used.
FORMAT = 2
# Bytes that are decoded before they are written, and locked for other processes.
BLOCK_BYTES = 16 * 2**20
# The first byte of a row.
DECODED, UNREADABLE = 1, 2


@dataclass(frozen=True)
class Source:
    """A picture that can be decoded.

    digest: of its content. open: gives it in RGB, as a person sees it; it raises UnreadablePictureError.
    levels: of a deep grey picture, which `open` applies; other pictures do not depend on them.
    """

    digest: str
    open: Callable[[], Image]
    levels: GreyLevels | None = None

    @property
    def key(self) -> str:
        """What decides the picture's pixels, besides the framing."""
        return f"{self.digest} {asdict(self.levels)}" if self.levels else self.digest


@dataclass(frozen=True)
class Pixels:
    """N decoded pictures. key: of their content and framing.

    images: uint8 (N, 3, size, size), black where a picture is not readable; mapped from a file if the
    store has space. thumbnails: uint8 (N, 72). readable: bool (N,).
    """

    key: str
    images: Tensor
    thumbnails: Tensor
    readable: Tensor


def source_of(picture: Picture, levels: GreyLevels) -> Source:
    """The picture of a file. levels: how deep grey pictures of its data set are shown."""

    def open_rgb() -> Image:
        try:
            content = picture.file.path.read_bytes()
        except OSError as error:
            raise UnreachablePictureError(f"cannot be opened: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != picture.facts.digest:
            # Its pixels must not be stored as those of the content that it had.
            raise UnreachablePictureError("changes while it is read")
        return to_rgb(decoding.open_picture(io.BytesIO(content)), levels)

    return Source(picture.facts.digest, open_rgb, levels if picture.facts.grey else None)


def load(sources: Sequence[Source], framing: Framing, store: TensorStore, title: str) -> Pixels:
    """The pixels of pictures, from the store or decoded now.

    title: of the progress bar. UnreachablePictureError if a file cannot be read at the moment; what has been
    decoded by then is kept.
    """
    settings = asdict(framing) | {"format": FORMAT, "pillow": decoding.pillow_version()}
    identity = {"settings": settings, "pictures": [source.key for source in sources]}
    key = digests.key(identity)
    row = 1 + THUMBNAIL_BYTES + 3 * framing.size**2
    layout = Layout((len(sources), row), torch.uint8, max(1, BLOCK_BYTES // row))
    rows = _stored(store, key)
    if rows is None:
        rows = _decode_all(sources, framing, store, key, layout, identity, title)
    images = rows[:, 1 + THUMBNAIL_BYTES :].unflatten(1, (3, framing.size, framing.size))
    heads = torch.cat([_heads(block) for block in rows.split(layout.block_rows)])
    return Pixels(key, images, heads[:, 1:], heads[:, 0] == DECODED)


def _heads(rows: Tensor) -> Tensor:
    """Whether each picture could be decoded, and its thumbnail: uint8 (N, 73), copied.

    The pages of a file in which they are bring most of the pixels into memory: they are dropped again.
    """
    heads = rows[:, : 1 + THUMBNAIL_BYTES].clone()
    mapped_tensors.release(rows)
    return heads


def _stored(store: TensorStore, key: str) -> Tensor | None:
    try:
        return store.get(key)
    except OSError:
        return None


def _decode_all(
    sources: Sequence[Source],
    framing: Framing,
    store: TensorStore,
    key: str,
    layout: Layout,
    identity: dict[str, Any],
    title: str,
) -> Tensor:
    """The rows of all pictures, written to the store if it has space."""
    with (
        ExitStack() as stack,
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(sources), desc=title, unit="img", leave=False) as progress,
    ):
        earlier = _earlier_rows(store, identity, stack)

        def row(source: Source) -> Tensor:
            if source.key in earlier:
                read, number = earlier[source.key]
                return read(number)
            return _decode(source, framing)

        def compute(start: int, stop: int) -> Tensor:
            rows = torch.empty(stop - start, *layout.shape[1:], dtype=torch.uint8)
            for number, values in enumerate(pool.map(row, sources[start:stop])):
                rows[number] = values
                progress.update()
            return rows

        try:
            stored = store.fill(key, layout, identity, compute)
        except OSError as error:
            print(f"{store.folder}: {error.strerror}; the decoded pictures are not kept", flush=True)
            stored = None
        if stored is not None:
            return stored
        rows = torch.empty(layout.shape, dtype=layout.dtype)
        for start, stop in layout.blocks:
            rows[start:stop] = compute(start, stop)
        return rows


def _decode(source: Source, framing: Framing) -> Tensor:
    """The row of a picture."""
    row = torch.zeros(1 + THUMBNAIL_BYTES + 3 * framing.size**2, dtype=torch.uint8)
    try:
        pixels = framing(source.open())
    except UnreachablePictureError:
        # Nothing is known about the picture, so nothing may be stored.
        raise
    except UnreadablePictureError:
        row[0] = UNREADABLE
        return row
    row[0] = DECODED
    row[1 : 1 + THUMBNAIL_BYTES] = torch.from_numpy(thumbnail(pixels))
    row[1 + THUMBNAIL_BYTES :] = torch.from_numpy(pixels).flatten()
    return row


def _earlier_rows(
    store: TensorStore, identity: Mapping[str, Any], stack: ExitStack
) -> dict[str, tuple[Callable[[int], Tensor], int]]:
    """Where other entries with the same settings have these pictures, by their keys: a reader and a row.

    stack: closes the readers.
    """
    missing, rows = set(identity["pictures"]), {}
    for key, about in store.descriptions().items():
        if about.get("settings") != identity["settings"] or missing.isdisjoint(about["pictures"]):
            continue
        # An entry that cannot be read is of no use, and no reason to fail.
        with suppress(OSError):
            if (read := stack.enter_context(store.reader(key))) is None:
                continue
            for number, picture in enumerate(about["pictures"]):
                if picture in missing:
                    missing.discard(picture)
                    rows[picture] = read, number
    return rows


def problems(sources: Sequence[Source], decoded: Pixels) -> dict[str, str]:
    """Why pictures could not be decoded, by their digests."""
    reasons = {}
    for index in (~decoded.readable).nonzero().flatten().tolist():
        try:
            sources[index].open()
            reasons[sources[index].digest] = "cannot be decoded each time"
        except UnreadablePictureError as error:
            reasons[sources[index].digest] = str(error)
    return reasons
