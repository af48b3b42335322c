"""What the trainable part is fed: the frozen part's output, computed once where that is possible.

With the frozen part in eval mode and no augmentation, its output for an image never changes, so it is
computed in one pass and every epoch reads it from memory. Where the output changes or does not fit, it is
computed batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn
from tqdm import tqdm

from wandb_tl.datasets import Preprocess, Split, augment

# Share of a device's free memory that one split's images, or its cached inputs, may take: other splits and
# other agents' runs want theirs.
MEMORY_SHARE = 0.25


class Inputs:
    """The inputs of the trainable part for the images of a split, by index.

    frozen: the part of the model before the trainable one, or None if the trainable part is the whole model.
    autocast: gives the context that the frozen part computes in.
    """

    def __init__(
        self, split: Split, preprocess: Preprocess, frozen: nn.Module | None, autocast: Callable
    ) -> None:
        device = preprocess.device
        fits = split.images.nbytes <= MEMORY_SHARE * free_memory(device)
        self.images = split.images.to(device) if fits else split.images
        self.labels = split.labels.to(device)
        self.cached: Tensor | None = None
        self._preprocess = preprocess
        self._frozen = frozen
        self._autocast = autocast

    def __len__(self) -> int:
        return len(self.labels)

    def compute(self, images: Tensor) -> Tensor:
        """Inputs for uint8 images (N, C, H, W), computed now."""
        pixels = self._preprocess(images)
        if self._frozen is None:
            return pixels
        with torch.no_grad(), self._autocast():
            return self._frozen(pixels)

    def batch(self, index: Tensor, augmentation: str = "none") -> Tensor:
        """Inputs for the images at `index` (N,), from the cache if there is one."""
        if self.cached is not None:
            return self.cached[index.to(self.cached.device)].to(self._preprocess.device)
        images = self.images[index.to(self.images.device)]
        return self.compute(augment(images, augmentation))

    def cache(self, batch_size: int, title: str) -> bool:
        """Compute the inputs of all images and keep them. False, and nothing done, if they do not fit."""
        first = self.compute(self.images[:1])
        size = len(self) * first.numel() * first.element_size()
        places = (self._preprocess.device, torch.device("cpu"))
        place = next((place for place in places if size <= MEMORY_SHARE * free_memory(place)), None)
        if place is None:
            return False
        last = first.dim() == 4 and first.is_contiguous(memory_format=torch.channels_last)
        outputs = torch.empty(
            (len(self), *first.shape[1:]),
            dtype=first.dtype,
            device=place,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )
        with tqdm(total=len(self), desc=title, unit="img", leave=False, disable=None) as progress:
            for start in range(0, len(self), batch_size):
                images = self.images[start : start + batch_size]
                outputs[start : start + batch_size] = self.compute(images)
                progress.update(len(images))
        self.cached = outputs
        return True


def free_memory(device: torch.device) -> int:
    """Free bytes of a device's memory, within the limit of the process's control group if it has one."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free, group = psutil.virtual_memory().available, Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # What files left in memory counts as used, but goes as soon as somebody needs the room.
        used = int((group / "memory.current").read_text()) - int(statistics["inactive_file"])
        free = min(free, int(most) - used)
    return free
