"""The features of frozen models: the model's own classifier makes the model's logits of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from wandb_tl.config import RunConfig
from wandb_tl.training import datasets, freezing, frozen_features, models
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.tensor_store import TensorStore

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(fashion_mnist_cache: Path) -> Dataset:
    return datasets.load(RunConfig(train_limit=96, val_fraction=0.001, test_limit=16))


@pytest.fixture
def activations(tmp_path: Path) -> ActivationCache:
    return ActivationCache(TensorStore(tmp_path / "tensors", 2**30))


@pytest.mark.parametrize(
    ("name", "model_kwargs"),
    [
        ("test_resnet", ""),
        ("test_vit", ""),
        # With dropout before its classifier, a model is not cut.
        ("test_convnext", "drop_rate=0.5"),
        # It has two classifiers.
        ("deit_tiny_distilled_patch16_224", ""),
    ],
)
def test_the_classifier_makes_the_logits_of_the_features(
    name: str, model_kwargs: str, images: Dataset, activations: ActivationCache
):
    config = RunConfig(
        model_name=name,
        model_kwargs=model_kwargs,
        pretrained=False,
        norm="source",
        image_size=32,
        precision="fp32",
    )
    frozen = frozen_features.of_model(config, images, CPU, activations)
    model = models.build(config, 10)
    classifiers = freezing.classifiers(model)
    # Distilled transformers average the logits of two classifiers.
    weight = torch.cat([one.weight for one in classifiers], 1) / len(classifiers)
    bias = sum(one.bias for one in classifiers) / len(classifiers)
    preprocess = models.preprocess(model, 32, CPU)
    with torch.no_grad():
        for features, split in ((frozen.train, images.train), (frozen.val, images.val)):
            logits = model.eval()(preprocess(split.images))
            torch.testing.assert_close(F.linear(features.rows, weight, bias), logits, rtol=1e-3, atol=1e-4)
            assert torch.equal(features.labels, split.labels)
    assert frozen.parameters == sum(tensor.numel() for tensor in model.parameters())
    assert 0 < frozen.milliseconds < 1000


def test_a_larger_model_takes_longer(images: Dataset, activations: ActivationCache):
    small, large = (
        frozen_features.of_model(
            RunConfig(model_name=name, pretrained=False, norm="source", image_size=64),
            images,
            CPU,
            activations,
        ).milliseconds
        for name in ("test_resnet", "resnet18")
    )
    assert large > small
