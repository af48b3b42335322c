"""The frozen part of a recipe: computed from what another recipe has stored."""

from __future__ import annotations

import pytest
import torch
from frozen_lab import CPU, Counting, cached, inputs_of
from torch import Tensor

from wandb_tl.config import RunConfig
from wandb_tl.training import cutting, models
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.frozen_part import frozen_networks
from wandb_tl.training.tensor_store import TensorStore


@pytest.mark.slow
def test_a_head_starts_from_the_activations_of_a_recipe_that_opens_the_last_stage(few_images, tmp_path):
    everything = torch.arange(len(few_images.test))

    def train_the_head(store: TensorStore) -> tuple[Tensor, list[int]]:
        """Its inputs, and the number of images that each of the two networks before it computed."""
        config = RunConfig(model_name="tf_efficientnet_lite0", image_size=32)
        model = models.build(config, 10)
        preprocess = models.preprocess(model, 32, CPU)
        example = preprocess(few_images.test.images[:2])
        networks = frozen_networks(config, model, cutting.cut(model, example), example)
        inputs, counting = None, [Counting(network) for network in networks]
        activations = ActivationCache(store)
        for network in counting:
            inputs = inputs_of(network, preprocess, few_images.test, activations, before=inputs)
        assert inputs.cache("test")
        return inputs.batch(everything), [sum(n for n in network.images if n > 1) for network in counting]

    alone, computed = train_the_head(TensorStore(tmp_path / "alone", 10**9))
    assert computed == [128, 128]
    shared = TensorStore(tmp_path / "shared", 10**9)
    cached(few_images.test, ActivationCache(shared))
    after_it, computed = train_the_head(shared)
    assert computed == [0, 128]
    assert torch.equal(after_it, alone)
    again, computed = train_the_head(shared)
    assert computed == [0, 0] and torch.equal(again, alone)
