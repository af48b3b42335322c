"""The inputs of the trainable part: the same from the cache as computed, and computed once."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from frozen_lab import CPU, cached, frozen_network, inputs_of
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.training import models
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.datasets import Split
from wandb_tl.training.inputs import Inputs
from wandb_tl.training.mapped_tensors import map_file, tensor_of
from wandb_tl.training.preprocess import Preprocess
from wandb_tl.training.tensor_store import TensorStore

BF16 = partial(torch.autocast, "cpu", torch.bfloat16)


@pytest.fixture
def store(tmp_path: Path) -> TensorStore:
    return TensorStore(tmp_path / "activations", 10**9)


def entries(store: TensorStore) -> set[str]:
    return {folder.name for folder in store.folder.iterdir()}


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (192, 1, 1)),
        ({"image_size": 64}, (192, 2, 2)),
        ({"finetuning": False}, (1280,)),
        ({"model_name": "vit_tiny_patch16_224", "pretrained": False}, (5, 192)),
        pytest.param(
            {"autocast": BF16, "precision": "bf16", "image_size": 64}, (192, 2, 2), marks=pytest.mark.slow
        ),
    ],
)
def test_cached_inputs_are_the_computed_ones(few_images, store, options, shape):
    inputs, _ = cached(few_images.test, ActivationCache(store), **options)
    index = torch.tensor([5, 99, 0, 127, 5])
    from_cache = inputs.batch(index)
    now = inputs.compute(few_images.test.images[index])
    assert inputs.cached and from_cache.shape == (5, *shape)
    assert from_cache.dtype == now.dtype
    tolerance = 0.05 if now.dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(from_cache, now, rtol=tolerance, atol=tolerance)
    # In the memory order that the trainable part sees without a cache.
    assert from_cache.stride() == now.stride()


def test_a_second_process_reuses_what_the_first_computed(few_images, store, capsys):
    first, computed = cached(few_images.test, ActivationCache(store))
    assert computed == len(few_images.test)
    assert "test: 128 images, 0 MB, 128 computed in " in capsys.readouterr().out
    # Another seed gives it another classifier, which has no part in this.
    second, computed = cached(few_images.test, ActivationCache(store), seed=1)
    assert computed == 0
    assert capsys.readouterr().out == "test: 128 images, 0 MB, reused\n"
    everything = torch.arange(len(few_images.test))
    assert torch.equal(second.batch(everything), first.batch(everything))
    assert first.seconds > 0 and second.seconds == 0
    assert len(entries(store)) == 1


@pytest.mark.slow
def test_whatever_decides_the_inputs_makes_another_entry(few_images, store):
    test = few_images.test
    order = torch.arange(len(test)).flip(0)
    others = [
        {},
        {"pretrained": False},
        {"pretrained": False, "seed": 1},
        {"finetuning": False},
        {"image_size": 40},
        {"precision": "bf16", "autocast": BF16},
        {"split": Split(test.images[order], test.labels[order])},
        {"split": Split(test.images[:-1], test.labels[:-1])},
        {"split": Split(test.images.expand(-1, 3, -1, -1), test.labels)},
    ]
    for number, options in enumerate(others, 1):
        inputs, computed = cached(**{"split": test, "activations": ActivationCache(store)} | options)
        assert computed == len(inputs), options
        assert len(entries(store)) == number, options
    # Labels do not.
    _, computed = cached(replace(test, labels=test.labels.flip(0)), ActivationCache(store))
    assert computed == 0


def test_one_weight_or_one_pixel_makes_another_entry(few_images, store):
    network, preprocess = frozen_network()
    images = few_images.test.images.clone()
    activations = ActivationCache(store)

    def run() -> int:
        network.images.clear()
        split = Split(images, few_images.test.labels)
        assert inputs_of(network, preprocess, split, activations).cache("test")
        return network.computed

    assert (run(), run()) == (128, 0)
    with torch.no_grad():
        next(network.parameters())[0, 0, 0, 0] += 1e-3
    assert (run(), run()) == (128, 0)
    images[127, 0, 27, 27] += 1
    assert (run(), run()) == (128, 0)
    preprocess.shift = preprocess.shift + 0.1
    assert (run(), run()) == (128, 0)


def test_a_damaged_entry_is_computed_again(few_images, store, capsys):
    inputs, _ = cached(few_images.test, ActivationCache(store))
    before = inputs.batch(torch.arange(128)).clone()
    (data,) = store.folder.glob("*/data")
    raw = bytearray(data.read_bytes())
    raw[1000] ^= 1
    data.write_bytes(raw)
    again, computed = cached(few_images.test, ActivationCache(store))
    assert computed == 128 and "is damaged and is computed again" in capsys.readouterr().out
    assert torch.equal(again.batch(torch.arange(128)), before)


def test_inputs_that_fit_nowhere_are_computed_per_batch(few_images, tmp_path):
    size = 128 * 192 * 4
    network, preprocess = frozen_network()

    def inputs(free: int) -> Inputs:
        no_disk = TensorStore(tmp_path, 0)
        activations = ActivationCache(no_disk, free_memory=lambda device: free)
        return inputs_of(network, preprocess, few_images.test, activations)

    small = inputs(4 * size - 1)
    assert not small.cache("test") and not small.cached
    assert small.batch(torch.tensor([1])).shape == (1, 192, 1, 1)
    large = inputs(4 * size)
    assert large.cache("test") and large.cached


@pytest.mark.skipif(not Path("/proc").exists(), reason="psutil counts pages of files on Linux alone")
def test_a_pass_leaves_no_mapped_images_in_memory(store, tmp_path):
    shape = (128, 3, 224, 224)
    (tmp_path / "images").write_bytes(bytes(math.prod(shape)))
    images = tensor_of(map_file(tmp_path / "images", math.prod(shape)), torch.uint8, shape)
    preprocess = Preprocess(32, (0.5,), (0.5,), CPU)
    inputs = inputs_of(
        nn.Flatten(), preprocess, Split(images, torch.zeros(128), key="black"), ActivationCache(store)
    )
    assert images.max() == 0
    before = psutil.Process().memory_info().shared
    assert inputs.cache("test")
    assert before - psutil.Process().memory_info().shared > 0.7 * images.nbytes


def test_augmentation_changes_inputs_that_are_computed_per_batch(few_images, store):
    preprocess = models.preprocess(
        models.build(RunConfig(model_name="resnet18", pretrained=False), 10), 28, CPU
    )
    inputs = Inputs(few_images.train, preprocess, None, ActivationCache(store))
    index = torch.arange(64)
    torch.manual_seed(0)
    flipped = inputs.batch(index, "flip")
    plain = inputs.batch(index)
    same = [torch.equal(a, b) for a, b in zip(flipped, plain, strict=True)]
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, plain, strict=True)]
    assert all(a or b for a, b in zip(same, mirrored, strict=True)) and 16 < sum(same) < 48


def test_a_folder_that_cannot_be_written_is_reported_and_memory_is_used(few_images, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    activations = ActivationCache(TensorStore(tmp_path / "file" / "activations", 10**9))
    inputs, computed = cached(few_images.test, activations, autocast=nullcontext)
    message = f"{tmp_path}/file/activations: Not a directory; activations are kept in memory only\n"
    assert capsys.readouterr().out.startswith(message)
    assert inputs.cached and computed == 128
    index = torch.tensor([1, 127])
    torch.testing.assert_close(
        inputs.batch(index), inputs.compute(few_images.test.images[index]), rtol=1e-4, atol=1e-4
    )
