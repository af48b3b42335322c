"""What a process keeps in memory for its next runs, and what gives way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.tensor_store import Layout, TensorStore

CPU = torch.device("cpu")
LAYOUT = Layout((8, 4), torch.float32, 3)
VALUES = torch.arange(32, dtype=torch.float32).view(8, 4)


@pytest.fixture
def no_disk(tmp_path: Path) -> TensorStore:
    return TensorStore(tmp_path, 0)


def fill(activations: ActivationCache, key: str) -> tuple[Tensor | None, list[tuple[int, int]]]:
    """The tensor of a key, kept for later runs, and the blocks that had to be computed."""
    blocks = []

    def compute(start: int, stop: int) -> Tensor:
        blocks.append((start, stop))
        return VALUES[start:stop]

    tensor = activations.get(key)
    if tensor is None:
        tensor = activations.fill(key, LAYOUT, {}, compute, CPU)
    if tensor is not None:
        activations.keep(key, tensor)
    return tensor, blocks


def test_runs_of_one_process_share_tensors_without_a_store(no_disk):
    activations = ActivationCache(no_disk)
    first, blocks = fill(activations, "key")
    assert blocks == LAYOUT.blocks and torch.equal(first, VALUES)
    second, blocks = fill(activations, "key")
    assert blocks == [] and second is first
    # Another process does not.
    assert fill(ActivationCache(no_disk), "key")[1] == LAYOUT.blocks


def test_processes_share_tensors_by_the_store(tmp_path):
    store = TensorStore(tmp_path, 10**6)
    assert fill(ActivationCache(store), "key")[1] == LAYOUT.blocks
    tensor, blocks = fill(ActivationCache(store), "key")
    assert blocks == [] and torch.equal(tensor, VALUES)


def test_the_least_recently_used_tensors_are_evicted(no_disk):
    activations = ActivationCache(no_disk, entries=2)
    reused = [fill(activations, key)[1] == [] for key in "abacab"]
    assert reused == [False, False, True, False, True, False]


def test_a_tensor_may_take_a_quarter_of_the_free_memory(no_disk):
    small = ActivationCache(no_disk, free_memory=lambda device: 4 * LAYOUT.size - 1)
    assert fill(small, "key") == (None, []) and small.place(LAYOUT.size, CPU) is None
    large = ActivationCache(no_disk, free_memory=lambda device: 4 * LAYOUT.size)
    assert torch.equal(fill(large, "key")[0], VALUES) and large.place(LAYOUT.size, CPU) == CPU


def test_tensors_of_earlier_runs_give_way_to_new_ones(no_disk):
    # Memory for one tensor of this size.
    activations = ActivationCache(
        no_disk, free_memory=lambda device: 4 * LAYOUT.size * (1 - len(activations))
    )
    fill(activations, "a")
    fill(activations, "b")
    assert len(activations) == 1 and fill(activations, "b")[1] == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_keeps_memory_for_training(no_disk):
    device = torch.device("cuda")
    full, free = [True], torch.cuda.mem_get_info(device)[1]
    activations = ActivationCache(no_disk, free_memory=lambda _: 0 if full[0] else free)
    tensors = {key: VALUES.to(device) for key in "ab"}
    for key, tensor in tensors.items():
        activations.keep(key, tensor)
    full[0] = False
    activations.free_for_training(device, [])
    assert len(activations) == 2
    full[0] = True
    activations.free_for_training(device, [tensors["a"]])
    assert activations.get("a") is tensors["a"] and activations.get("b") is None
