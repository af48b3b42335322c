"""The activation cache: in memory for the runs of a process, on disk for all runs of a machine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from wandb_tl.training import devices
from wandb_tl.training.tensor_store import Layout, TensorStore

# Share of the free memory of a CPU that one tensor may take: other splits and the runs of other agents need
# memory too.
MEMORY_SHARE_OF_CPU = 0.25
# A GPU computes outputs of more bytes per image than this faster than a disk reads them.
GPU_STORED_ROW_BYTES = 16 * 2**10
# Share of a GPU's memory that is kept free for training.
TRAINING_SHARE = 0.25


class ActivationCache:
    """Tensors by key: the most recently used ones of this process, and a store on disk.

    A process has one cache for all its runs. entries: the number of tensors to keep in memory for later runs.
    free_memory: the free bytes of a device's memory.
    """

    def __init__(
        self,
        store: TensorStore,
        entries: int = 8,
        free_memory: Callable[[torch.device], int] = devices.free_memory,
    ) -> None:
        self._store = store
        self._entries = entries
        self._free_memory = free_memory
        # The most recently used one is the last.
        self._recent: OrderedDict[str, Tensor] = OrderedDict()

    def __len__(self) -> int:
        """The number of tensors in memory."""
        return len(self._recent)

    def get(self, key: str) -> Tensor | None:
        """The tensor of an earlier run, from memory or mapped from the disk; None if there is none."""
        if key in self._recent:
            return self._recent[key]
        try:
            return self._store.get(key)
        except OSError:
            # The store cannot be read. `fill_store` reports it when the tensor is about to be written.
            return None

    def keep(self, key: str, tensor: Tensor) -> None:
        """Keep a tensor in memory for later runs; evicts the least recently used one."""
        self._recent[key] = tensor
        self._recent.move_to_end(key)
        if len(self._recent) > self._entries:
            self._recent.popitem(last=False)

    def fill(
        self,
        key: str,
        layout: Layout,
        identity: dict[str, Any],
        compute: Callable[[int, int], Tensor],
        device: torch.device,
    ) -> Tensor | None:
        """A tensor computed block by block: on disk, else on the device, else in the CPU's memory.

        compute(start, stop) returns those rows on the device. None, and nothing computed, if it fits nowhere.
        """
        if device.type == "cpu" or layout.row_bytes <= GPU_STORED_ROW_BYTES:
            tensor = self.fill_store(key, layout, identity, lambda start, stop: compute(start, stop).cpu())
            if tensor is not None:
                return tensor
        place = self.place(layout.size, device)
        if place is None:
            return None
        tensor = torch.empty(layout.shape, dtype=layout.dtype, device=place)
        for start, stop in layout.blocks:
            tensor[start:stop] = compute(start, stop)
        return tensor

    def fill_store(
        self, key: str, layout: Layout, identity: dict[str, Any], compute: Callable[[int, int], Tensor]
    ) -> Tensor | None:
        """A tensor computed into the store on disk; None if the store has no space or cannot be written."""
        try:
            return self._store.fill(key, layout, identity, compute)
        except OSError as error:
            print(f"{self._store.folder}: {error.strerror}; activations are kept in memory only", flush=True)
            return None

    def fits(self, size: int, device: torch.device) -> bool:
        """Whether a device has memory for a tensor of this many bytes."""
        free = self._free_memory(device)
        if device.type == "cpu":
            return size <= MEMORY_SHARE_OF_CPU * free
        return size <= free - TRAINING_SHARE * devices.total_memory(device)

    def place(self, size: int, device: torch.device) -> torch.device | None:
        """The device, else the CPU, whichever has memory for `size` bytes; None if neither has.

        Tensors of earlier runs are evicted from a device whose memory is too full.
        """
        for place in (device, torch.device("cpu")):
            while not self.fits(size, place):
                evictable = [key for key, tensor in self._recent.items() if tensor.device.type == place.type]
                if not evictable:
                    break
                del self._recent[evictable[0]]
            else:
                return place
        return None

    def free_for_training(self, device: torch.device, in_use: Iterable[Tensor | None]) -> None:
        """Evict tensors of earlier runs from a GPU until training has memory; those in use stay."""
        if device.type == "cpu":
            return
        used = {id(tensor) for tensor in in_use}
        evictable = [
            key
            for key, tensor in self._recent.items()
            if tensor.device.type == device.type and id(tensor) not in used
        ]
        while evictable and self._free_memory(device) < TRAINING_SHARE * devices.total_memory(device):
            del self._recent[evictable.pop(0)]
