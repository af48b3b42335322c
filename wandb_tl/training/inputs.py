"""The inputs of the trainable part: the frozen part's outputs, computed once for all runs of a machine.

In eval mode and without augmentation, the frozen part's output for an image never changes. It is computed in
one pass and kept in the activation cache. Outputs that change, or that fit nowhere, are computed per batch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from wandb_tl.progress import tqdm
from wandb_tl.training import digests, mapped_tensors
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.augmentation import augment
from wandb_tl.training.datasets import Split
from wandb_tl.training.devices import Autocast
from wandb_tl.training.memory import Parts
from wandb_tl.training.preprocess import Preprocess
from wandb_tl.training.tensor_store import Layout

# Batches that one process computes before it checks whether another process computes the same entry.
BATCHES_PER_BLOCK = 4


@dataclass
class FrozenPart:
    """A network in eval mode whose weights no longer change, and how it is computed.

    autocast: gives the context of its forward pass. batch_size: images per forward pass. conditions: what
    decides its outputs besides images, preprocessing, weights and structure; readable as JSON.
    """

    network: nn.Module
    autocast: Autocast
    batch_size: int
    conditions: Mapping[str, Any]
    # The parts in which it fits the memory.
    memory: Parts = field(default_factory=lambda: Parts("frozen layers"))

    def __call__(self, values: Tensor) -> Tensor:
        with torch.no_grad(), self.autocast():
            outputs: Tensor = self.network(values)
            return outputs

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the weights, computed once for all splits."""
        return digests.tensors_digest(self.network.state_dict())


@dataclass(frozen=True)
class Entry:
    """The place of a split's inputs in the activation cache.

    channels_last: whether the inputs have their channels last in memory; the rows are stored in that order.
    """

    key: str
    layout: Layout
    identity: dict[str, Any]
    channels_last: bool

    def rows(self, outputs: Tensor) -> Tensor:
        """Outputs (N, C, H, W) or (N, …) in the order in which they lie in memory."""
        return outputs.permute(0, 2, 3, 1) if self.channels_last else outputs

    def outputs(self, rows: Tensor) -> Tensor:
        """The inverse of `rows`."""
        return rows.permute(0, 3, 1, 2) if self.channels_last else rows


class Inputs:
    """The inputs of the trainable part for the images of a split, by index.

    frozen: the part of the model before the trainable one, or None if the whole model is trainable.
    before: the inputs of the frozen part, if these are outputs of an earlier frozen part and not images;
    another recipe may have stored them.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        frozen: FrozenPart | None,
        activations: ActivationCache,
        before: Inputs | None = None,
    ) -> None:
        self._preprocess = preprocess
        self._frozen = frozen
        self._activations = activations
        self._before = before
        # All inputs, once they are cached.
        self.rows: Tensor | None = None
        # How long this process has computed outputs for the cache, without waiting for other processes.
        self.seconds = 0.0
        self._split = split
        device = preprocess.device
        self.labels = split.labels.to(device)
        self.images: Tensor
        if before is not None:
            self.images = before.images
        else:
            # At most half of what there is: the outputs that are computed from them need memory, too.
            fits = activations.fits(2 * split.images.nbytes, device)
            self.images = split.images.to(device) if fits else split.images

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def entry(self) -> Entry:
        """Where the activation cache keeps these inputs. Computes the input of one image for its shape."""
        assert self._frozen is not None, "the images themselves are not cached"
        example = self.compute(self.images[:1])
        channels_last = example.dim() == 4 and not example.is_contiguous()
        shape = (example.permute(0, 2, 3, 1) if channels_last else example).shape[1:]
        layout = Layout((len(self), *shape), example.dtype, BATCHES_PER_BLOCK * self._frozen.batch_size)
        identity = dict(self._frozen.conditions) | digests.output_identity(
            self._frozen.weights_digest,
            repr(self._frozen.network),
            self._preprocess,
            self._split.images_digest,
        )
        identity["batch_size"] = self._frozen.batch_size
        if self._before is not None:
            identity["before"] = self._before.entry.key
        return Entry(digests.key(identity), layout, identity, channels_last)

    @property
    def cached(self) -> bool:
        return self.rows is not None

    @property
    def on_device(self) -> bool:
        """Whether what `batch` reads lies on the device, and not in the CPU's memory or on the disk."""
        if self.rows is None and self._before is not None:
            return self._before.on_device
        return (self.images if self.rows is None else self.rows).device == self.labels.device

    def compute(self, images: Tensor) -> Tensor:
        """Inputs for uint8 images (N, C, H, W), computed now."""
        return self._through(
            self._preprocess(images) if self._before is None else self._before.compute(images)
        )

    def batch(self, index: Tensor, augmentation: str = "none") -> Tensor:
        """Inputs for the images at `index` (N,), from the cache if they are cached."""
        if self.rows is not None:
            return self.entry.outputs(self.rows[index.to(self.rows.device)].to(self._preprocess.device))
        if self._before is not None:
            return self._through(self._before.batch(index, augmentation))
        return self.compute(augment(self.images[index.to(self.images.device)], augmentation))

    def cache(self, title: str) -> bool:
        """Load the inputs of all images from an earlier run, or compute them. False if they fit nowhere."""
        began, computed = time.perf_counter(), 0
        if not self.load():
            if self._before is not None:
                self._before.load()
            self.rows, computed = self._compute_all(title)
        if self.rows is None:
            return False
        device, size = self._preprocess.device, self.entry.layout.size
        if self.rows.device.type != device.type:
            self.rows = self.rows.to(self._activations.place(size, device) or "cpu")
        self._activations.keep(self.entry.key, self.rows)
        source = f"{computed:,} computed in {time.perf_counter() - began:.1f} s" if computed else "reused"
        print(f"{title}: {len(self):,} images, {size / 2**20:,.0f} MB, {source}", flush=True)
        return True

    def load(self) -> bool:
        """Load the inputs of all images from an earlier run. False if no run has stored them."""
        self.rows = self._activations.get(self.entry.key)
        return self.cached

    def _through(self, values: Tensor) -> Tensor:
        return values if self._frozen is None else self._frozen(values)

    def _compute_all(self, title: str) -> tuple[Tensor | None, int]:
        """The rows of all images, None if they fit nowhere, and the number of images computed here.

        Other processes that need the same entry compute the rest.
        """
        assert self._frozen is not None
        entry, batch_size, memory, computed = self.entry, self._frozen.batch_size, self._frozen.memory, 0
        stored = self._before.rows if self._before is not None else None
        source = self.images if stored is None else stored

        def rows_of(parts: list[Tensor]) -> list[Tensor]:
            return [entry.rows(self.batch(index)) for index in parts]

        with tqdm(total=len(self), desc=title, unit="img", leave=False) as progress:

            def compute(start: int, stop: int) -> Tensor:
                nonlocal computed
                began = time.perf_counter()
                rows: list[Tensor] = []
                for index in torch.arange(start, stop).split(batch_size):
                    rows += memory.run(rows_of, index)
                    progress.update(len(index))
                computed += stop - start
                # A pass uses them once: memory need not grow with the images.
                mapped_tensors.release(source[start:stop])
                outputs = torch.cat(rows)
                if outputs.device.type != "cpu":
                    torch.accelerator.synchronize(outputs.device)
                self.seconds += time.perf_counter() - began
                return outputs

            device = self._preprocess.device
            rows = self._activations.fill(entry.key, entry.layout, entry.identity, compute, device)
        return rows, computed
