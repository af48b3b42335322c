"""Pictures as uint8 tensors: decoded once for all runs of a machine, and mapped from the disk after that.

Each row of a stored tensor is a picture: whether it could be decoded, its thumbnail, its pixels. An entry of
the store is a list of pictures in one order. A picture that another entry has is copied from there, so that
a changed, added or removed file decodes only itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from tqdm import tqdm

from wandb_tl.pictures import decoding
from wandb_tl.pictures.colours import GreyLevels
from wandb_tl.pictures.decoding import UnreachablePictureError, UnreadablePictureError
from wandb_tl.pictures.framing import THUMBNAIL_COLUMNS, THUMBNAIL_ROWS, Framing, thumbnail
from wandb_tl.training import digests
from wandb_tl.training.tensor_store import Layout, TensorStore

# Increased whenever the same picture has other pixels than before, so that older entries are not used.
FORMAT = 1
# Bytes that are decoded before they are written, and locked for other processes.
BLOCK_BYTES = 16 * 2**20
THUMBNAIL_BYTES = THUMBNAIL_ROWS * THUMBNAIL_COLUMNS
# The first byte of a row.
DECODED, UNREADABLE = 1, 2


@dataclass(frozen=True)
class Source:
    """A picture that can be decoded. digest: of its content. open: gives it in RGB, as a person sees it.

    `open` raises UnreadablePictureError.
    """

    digest: str
    open: Callable[[], Image]


@dataclass(frozen=True)
class Pixels:
    """N decoded pictures. key: of their content and framing.

    images: uint8 (N, 3, size, size), black where a picture is not readable. thumbnails: uint8 (N, 72).
    readable: bool (N,). Mapped from a file if the store has space.
    """

    key: str
    images: Tensor
    thumbnails: Tensor
    readable: Tensor


def load(
    sources: Sequence[Source], framing: Framing, levels: GreyLevels, store: TensorStore, title: str
) -> Pixels:
    """The pixels of pictures, from the store or decoded now.

    levels: how the sources show deep grey pictures. title: of the progress bar. UnreachablePictureError if a
    file cannot be read at the moment; what has been decoded by then is kept.
    """
    settings = asdict(framing) | {
        "integer_levels": list(levels.integer),
        "floating_levels": list(levels.floating),
        "format": FORMAT,
        "pillow": decoding.pillow_version(),
    }
    names = [source.digest for source in sources]
    identity = {"settings": settings, "pictures": names}
    key = digests.key(identity)
    row = 1 + THUMBNAIL_BYTES + 3 * framing.size**2
    layout = Layout((len(sources), row), torch.uint8, max(1, BLOCK_BYTES // row))
    rows = _stored(store, key)
    if rows is None:
        rows = _decode_all(sources, framing, store, key, layout, identity, title)
    images = rows[:, 1 + THUMBNAIL_BYTES :].unflatten(1, (3, framing.size, framing.size))
    return Pixels(key, images, rows[:, 1 : 1 + THUMBNAIL_BYTES], rows[:, 0] == DECODED)


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
    earlier = _earlier_rows(store, identity)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(sources), desc=title, unit="img", leave=False, disable=None) as progress,
    ):

        def row(source: Source) -> Tensor:
            if source.digest in earlier:
                read, number = earlier[source.digest]
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
        return torch.cat([compute(*block) for block in layout.blocks])


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
    store: TensorStore, identity: Mapping[str, Any]
) -> dict[str, tuple[Callable[[int], Tensor], int]]:
    """Where other entries with the same settings have these pictures, by digest: a reader and a row."""
    missing, rows = set(identity["pictures"]), {}
    for key, about in store.descriptions().items():
        if about.get("settings") != identity["settings"] or missing.isdisjoint(about["pictures"]):
            continue
        # An entry that cannot be read is of no use, and no reason to fail.
        with suppress(OSError):
            if (read := store.reader(key)) is None:
                continue
            for number, digest in enumerate(about["pictures"]):
                if digest in missing:
                    missing.discard(digest)
                    rows[digest] = read, number
    return rows
