from contextlib import nullcontext

import torch

from wandb_tl import activations, models
from wandb_tl.activations import Inputs
from wandb_tl.config import RunConfig


def test_cached_inputs_are_the_computed_ones(few_images):
    model = models.build(RunConfig(model_name="tf_efficientnet_lite0", finetuning=True), 10)
    preprocess = models.preprocess(model, 64, torch.device("cpu"))
    halves = models.split(model, preprocess(few_images.test.images[:2]))
    inputs = Inputs(few_images.test, preprocess, halves.frozen, nullcontext)
    index = torch.tensor([5, 99, 0, 5])
    computed = inputs.batch(index)
    assert inputs.cache(50, "test")
    assert inputs.cached.shape == (128, 192, 2, 2)
    torch.testing.assert_close(inputs.batch(index), computed, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_not_cached(few_images, monkeypatch):
    model = models.build(RunConfig(model_name="tf_efficientnet_lite0"), 10)
    preprocess = models.preprocess(model, 64, torch.device("cpu"))
    inputs = Inputs(few_images.test, preprocess, torch.nn.Flatten(), nullcontext)
    monkeypatch.setattr(activations, "free_memory", lambda device: 128 * 3 * 64 * 64 * 4)
    assert not inputs.cache(64, "test") and inputs.cached is None
    assert inputs.batch(torch.tensor([1])).shape == (1, 3 * 64 * 64)


def test_augmentation_reaches_uncached_inputs_only(few_images):
    preprocess = models.preprocess(
        models.build(RunConfig(model_name="resnet18", pretrained=False), 10), 28, torch.device("cpu")
    )
    inputs = Inputs(few_images.train, preprocess, None, nullcontext)
    index = torch.arange(64)
    torch.manual_seed(0)
    flipped = inputs.batch(index, "flip")
    plain = inputs.batch(index)
    same = [torch.equal(a, b) for a, b in zip(flipped, plain, strict=True)]
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, plain, strict=True)]
    assert all(a or b for a, b in zip(same, mirrored, strict=True)) and 16 < sum(same) < 48
