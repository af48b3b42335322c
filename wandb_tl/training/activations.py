"""What the trainable part is fed: the frozen part's output, computed once for all runs of a machine.

With the frozen part in eval mode and no augmentation, its output for an image never changes. It is computed
in one pass and kept: on the device where it fits, and on disk for the runs to come, which map it into memory.
Where the output changes or fits nowhere, it is computed batch by batch.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import psutil
import timm
import torch
from torch import Tensor, nn
from tqdm import tqdm

from wandb_tl.cache_folder import cache_dir, cache_limit
from wandb_tl.training import models
from wandb_tl.training.datasets import Preprocess, Split, augment
from wandb_tl.training.tensor_store import Layout, TensorStore, raw_bytes

# Share of a device's free memory that one split's images, or its cached inputs, may take: other splits want
# theirs, and on the CPU other agents' runs. A GPU has one agent.
MEMORY_SHARE = {"cpu": 0.25, "cuda": 0.5}
# Batches that one process computes before it looks whether another has come to help.
BATCHES_A_BLOCK = 4
# What a GPU puts out in more bytes an image than this it computes again faster than a disk gives it back.
GPU_STORED_ROW_BYTES = 16 * 2**10
# Training images that BatchNorm statistics are estimated on: far more than their precision needs. In batches
# of one size on every device, because each batch counts the same.
CALIBRATION_IMAGES = 8192
CALIBRATION_BATCH = 64

# Tensors that a process remembers from its earlier runs.
USED_ENTRIES = 8

# Raised whenever the same weights and images come to other outputs: entries of before are not taken then.
FORMAT = 1

# Share of a GPU's memory that is left to training, whatever earlier runs would keep.
TRAINING_SHARE = 0.25

# What the runs of this process have used, the latest last. Under run_sweep --in-process they are many.
_used: OrderedDict[str, Tensor] = OrderedDict()
# Every split goes through the same networks.
_weights_digests: WeakKeyDictionary[nn.Module, tuple[list[int], str]] = WeakKeyDictionary()


class Inputs:
    """The inputs of the trainable part for the images of a split, by index.

    frozen: the part of the model before the trainable one, or None if the trainable part is the whole model.
    autocast: gives the context that the frozen part computes in. before: the inputs of the frozen part, if it
    is not fed the images themselves; another recipe may have left them.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        frozen: nn.Module | None,
        autocast: Callable,
        before: Inputs | None = None,
    ) -> None:
        self._preprocess = preprocess
        self._frozen = frozen
        self._autocast = autocast
        self._before = before
        self._rows: Tensor | None = None
        self._channels_last = False
        device = preprocess.device
        self.labels = split.labels.to(device)
        if before is not None:
            self.images = before.images
        else:
            fits = split.images.nbytes <= _room(device)
            self.images = split.images.to(device) if fits else split.images

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def images_digest(self) -> str:
        """SHA-256 of all images."""
        return _digest({"images": self.images}) if self._before is None else self._before.images_digest

    @property
    def cached(self) -> bool:
        return self._rows is not None

    def compute(self, images: Tensor) -> Tensor:
        """Inputs for uint8 images (N, C, H, W), computed now."""
        before = self._preprocess if self._before is None else self._before.compute
        return self._through(before(images))

    def batch(self, index: Tensor, augmentation: str = "none") -> Tensor:
        """Inputs for the images at `index` (N,), from the cache if there is one."""
        if self._rows is not None:
            rows = self._rows[index.to(self._rows.device)].to(self._preprocess.device)
            return rows.permute(0, 3, 1, 2) if self._channels_last else rows
        if self._before is not None:
            return self._through(self._before.batch(index, augmentation))
        images = self.images[index.to(self.images.device)]
        return self.compute(augment(images, augmentation))

    def cache(self, title: str, batch_size: int, about: Mapping[str, Any]) -> bool:
        """Have the inputs of all images: from an earlier run, or computed now. False if they fit nowhere.

        about: what decides them besides images, preprocessing and the frozen part; readable as JSON.
        """
        key, layout, identity = self._entry(batch_size, about)
        began, computed = time.perf_counter(), 0
        self._rows = _recall(key)
        if self._rows is None:
            if self._before is not None:
                self._before.recall(batch_size, about)
            with tqdm(total=len(self), desc=title, unit="img", leave=False, disable=None) as progress:

                def compute(start: int, stop: int) -> Tensor:
                    nonlocal computed
                    rows = []
                    for index in torch.arange(start, stop).split(batch_size):
                        rows.append(self._as_rows(self.batch(index)))
                        progress.update(len(index))
                    computed += stop - start
                    return torch.cat(rows)

                self._rows = self._computed(key, layout, identity, compute)
        if self._rows is None:
            return False
        if self._rows.device.type != self._preprocess.device.type:
            self._rows = self._rows.to(_place(layout.size, self._preprocess.device) or "cpu")
        _remember(key, self._rows)
        how = f"{computed:,} computed in {time.perf_counter() - began:.1f} s" if computed else "from before"
        print(f"{title}: {len(self):,} images, {layout.size / 2**20:,.0f} MB, {how}", flush=True)
        return True

    def recall(self, batch_size: int, about: Mapping[str, Any]) -> bool:
        """Have the inputs of all images if an earlier run has left them. False if none has."""
        key, _, _ = self._entry(batch_size, about)
        self._rows = _recall(key)
        return self.cached

    def _through(self, given: Tensor) -> Tensor:
        if self._frozen is None:
            return given
        with torch.no_grad(), self._autocast():
            return self._frozen(given)

    def _as_rows(self, outputs: Tensor) -> Tensor:
        """Outputs in the order in which they lie in memory."""
        return outputs.permute(0, 2, 3, 1) if self._channels_last else outputs

    def _entry(self, batch_size: int, about: Mapping[str, Any]) -> tuple[str, Layout, dict[str, Any]]:
        """Key, layout and description of the inputs of all images in the store."""
        example = self.compute(self.images[:1])
        self._channels_last = example.dim() == 4 and not example.is_contiguous()
        shape = self._as_rows(example).shape[1:]
        layout = Layout((len(self), *shape), example.dtype, BATCHES_A_BLOCK * batch_size)
        weights, structure = _weights_digest(self._frozen), repr(self._frozen)
        identity = dict(about) | _identity(weights, structure, self._preprocess, self.images_digest)
        identity |= {"batch_size": batch_size}
        if self._before is not None:
            identity["before"], _, _ = self._before._entry(batch_size, about)
        return _key(identity), layout, identity

    def _computed(
        self, key: str, layout: Layout, identity: dict[str, Any], compute: Callable[[int, int], Tensor]
    ) -> Tensor | None:
        """All rows, computed and kept where they fit; None if that is nowhere."""
        device, rows = self._preprocess.device, None
        if device.type == "cpu" or layout.row_bytes <= GPU_STORED_ROW_BYTES:
            rows = _stored(key, layout, identity, lambda start, stop: compute(start, stop).cpu())
        if rows is not None:
            return rows
        place = _place(layout.size, device)
        if place is not None:
            rows = torch.empty(layout.shape, dtype=layout.dtype, device=place)
            for start, stop in layout.blocks:
                rows[start:stop] = compute(start, stop)
        return rows


def calibrate(
    model: nn.Module, images: Tensor, preprocess: Preprocess, autocast: Callable, about: Mapping[str, Any]
) -> None:
    """Set the statistics of every BatchNorm to those of the images, estimated once for all runs of a machine.

    about: what decides them besides images, preprocessing and the model's weights; readable as JSON.
    """
    images = images[:CALIBRATION_IMAGES]
    images = images[: max(1, len(images) // CALIBRATION_BATCH) * CALIBRATION_BATCH]
    statistics = [
        getattr(module, name)
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
        for name in ("running_mean", "running_var")
    ]
    if not statistics:
        return

    def estimate(*_: int) -> Tensor:
        with autocast():
            models.calibrate(model, (preprocess(batch) for batch in images.split(CALIBRATION_BATCH)))
        return torch.cat([statistic.cpu() for statistic in statistics])

    sizes = [len(statistic) for statistic in statistics]
    # The classifier has no part in them, and differs from seed to seed.
    own = {id(weight) for head in models.classifiers(model) for weight in head.parameters()}
    trunk = {
        name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) not in own
    }
    identity = dict(about) | _identity(
        _digest(trunk), repr(type(model)), preprocess, _digest({"images": images})
    )
    layout = Layout((sum(sizes),), torch.float32, sum(sizes))
    key = _key(identity)
    for way in (lambda: _recall(key), lambda: _stored(key, layout, identity, estimate), estimate):
        if (estimated := way()) is not None:
            break
    for statistic, values in zip(statistics, estimated.split(sizes), strict=True):
        statistic.copy_(values)


def leave_room(device: torch.device, used: Iterable[Inputs]) -> None:
    """Let go of what earlier runs have left on a GPU, until training has room beside what is in use."""
    if device.type != "cuda":
        return
    needed = {id(inputs._rows) for inputs in used}
    spare = [key for key, rows in _used.items() if rows.is_cuda and id(rows) not in needed]
    while spare and free_memory(device) < TRAINING_SHARE * torch.cuda.mem_get_info(device)[1]:
        del _used[spare.pop(0)]


def free_memory(device: torch.device) -> int:
    """Free bytes of a device's memory, within the limit of the process's control group if it has one."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    free, group = psutil.virtual_memory().available, Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.exists() and (most := limit.read_text().strip()) != "max":
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # What files left in memory counts as used, but goes as soon as somebody needs the room.
        used = int((group / "memory.current").read_text()) - int(statistics["inactive_file"])
        free = min(free, int(most) - used)
    return free


def _room(device: torch.device) -> float:
    """Bytes that one split may take of a device's memory."""
    return MEMORY_SHARE[device.type] * free_memory(device)


def _place(size: int, device: torch.device) -> torch.device | None:
    """The device, else the CPU, if its memory has room; what earlier runs of this process used gives way."""
    for place in (device, torch.device("cpu")):
        while size > _room(place):
            if not (held := [key for key, rows in _used.items() if rows.device.type == place.type]):
                break
            del _used[held[0]]
        else:
            return place
    return None


def _store() -> TensorStore:
    return TensorStore(cache_dir() / "activations", cache_limit())


def _recall(key: str) -> Tensor | None:
    """What an earlier run has left under a key, in this process or on disk."""
    if key in _used:
        return _used[key]
    try:
        return _store().get(key)
    except OSError:
        # Who then wants to put it there is told.
        return None


def _remember(key: str, rows: Tensor) -> None:
    _used[key] = rows
    _used.move_to_end(key)
    if len(_used) > USED_ENTRIES:
        _used.popitem(last=False)


def _stored(
    key: str, layout: Layout, identity: dict[str, Any], compute: Callable[[int, int], Tensor]
) -> Tensor | None:
    """A tensor computed and put into the store on disk; None where that cannot be."""
    store = _store()
    try:
        return store.fill(key, layout, identity, compute)
    except OSError as error:
        print(f"{store.folder}: {error.strerror}; it is kept in memory only", flush=True)
        return None


def _identity(weights: str, structure: str, preprocess: Preprocess, images: str) -> dict[str, Any]:
    """What decides a network's outputs for images, as plain data. weights, images: their digests."""
    return {
        "weights": weights,
        "structure": hashlib.sha256(structure.encode()).hexdigest(),
        "images": images,
        "format": FORMAT,
        "image_size": preprocess.size,
        "scale": preprocess.scale.flatten().tolist(),
        "shift": preprocess.shift.flatten().tolist(),
        "device": preprocess.device.type,
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


def _weights_digest(network: nn.Module) -> str:
    """SHA-256 of a network's weights, computed again only where they have changed."""
    state = network.state_dict(keep_vars=True)
    versions = [tensor._version for tensor in state.values()]
    known = _weights_digests.get(network)
    if known is None or known[0] != versions:
        known = _weights_digests[network] = versions, _digest(state)
    return known[1]


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        # How many batches a BatchNorm has seen decides nothing.
        if not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(raw_bytes(tensor.detach().cpu()))
    return digest.hexdigest()


def _key(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
