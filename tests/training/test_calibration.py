"""Calibrated BatchNorm statistics: those of the images, estimated once and shared bit for bit."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wandb_tl.config import RunConfig
from wandb_tl.training import calibration, models
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.datasets import Dataset, Split
from wandb_tl.training.tensor_store import TensorStore


@pytest.fixture
def store(tmp_path: Path) -> TensorStore:
    return TensorStore(tmp_path / "activations", 10**9)


def calibrate(store: TensorStore, split: Split, **options) -> tuple[dict[str, Tensor], int]:
    """The statistics of a new model in a new process, and the number of images it computed for them."""
    config = RunConfig(**{"model_name": "resnet18", "pretrained": False, "image_size": 32} | options)
    model = models.build(config, 10)
    computed: list[int] = []
    model.register_forward_hook(lambda *call: computed.append(len(call[2])))
    preprocess = models.preprocess(model, config.image_size, torch.device("cpu"))
    conditions = {"model": config.model_name}
    calibration.calibrate(model, split, preprocess, nullcontext, conditions, ActivationCache(store))
    statistics = {name: tensor for name, tensor in model.state_dict().items() if "running" in name}
    return statistics, sum(computed)


def first_images(data: Dataset, count: int) -> Split:
    return data.train[torch.arange(count)]


def test_statistics_are_those_of_the_images():
    model = models.build(RunConfig(model_name="resnet18", pretrained=False, image_size=64), 10)
    images = torch.randn(32, 3, 64, 64) * 3 + 1
    calibration.set_statistics(model, images.split(8))
    with torch.no_grad():
        stem = model.conv1(images)
    torch.testing.assert_close(model.bn1.running_mean, stem.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.bn1.running_var, stem.var((0, 2, 3)), rtol=0.02, atol=1e-3)
    assert not model.training


def test_statistics_are_shared_bit_for_bit(few_images, store):
    images = first_images(few_images, 200)
    first, computed = calibrate(store, images)
    # Whole batches only.
    assert computed == 192
    second, computed = calibrate(store, images)
    assert computed == 0
    assert len(first) == 40 and list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    # Not the zeros and ones that a model begins with.
    assert not any(tensor.eq(name.endswith("var")).all() for name, tensor in first.items())


def test_other_images_weights_or_sizes_have_other_statistics(few_images, store):
    images = first_images(few_images, 64)
    assert calibrate(store, images)[1] == 64
    assert calibrate(store, Split(images.images.flip(0).flip(-1), images.labels))[1] == 64
    assert calibrate(store, images, seed=1)[1] == 64
    assert calibrate(store, images, image_size=40)[1] == 64
    assert calibrate(store, images)[1] == 0
    assert len(list(store.folder.iterdir())) == 4


def test_classifiers_on_the_same_trunk_share_its_statistics(few_images, store):
    options = {"model_name": "tf_efficientnet_lite0", "pretrained": True}
    first, computed = calibrate(store, first_images(few_images, 64), seed=0, **options)
    second, computed_again = calibrate(store, first_images(few_images, 64), seed=1, **options)
    assert (computed, computed_again) == (64, 0)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_a_store_they_are_estimated_each_time(few_images, tmp_path, capsys):
    images = first_images(few_images, 64)
    for _ in range(2):
        assert calibrate(TensorStore(tmp_path / "small", 0), images)[1] == 64
    assert capsys.readouterr().out == ""
    (tmp_path / "file").write_text("")
    statistics, computed = calibrate(TensorStore(tmp_path / "file" / "activations", 10**9), images)
    assert "Not a directory; activations are kept in memory only" in capsys.readouterr().out
    assert computed == 64 and not statistics["bn1.running_mean"].eq(0).any()
