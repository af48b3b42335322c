import pytest
import torch
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import models


def build(name: str, **options) -> nn.Module:
    options = {"pretrained": name == "tf_efficientnet_lite0", "image_size": 64} | options
    return models.build(RunConfig(model_name=name, **options), 10)


@pytest.mark.parametrize("name", ["resnet18", "regnety_002"])
def test_every_block_of_a_random_model_does_something(name):
    # timm's default would have the last BatchNorm of each block at zero, and so the block's output.
    norms = [module for module in build(name).modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 15 and all(norm.weight.eq(1).all() for norm in norms)


def test_random_weights_come_from_the_seed():
    one, same, other = (build("resnet18", seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5o", "model_name: timm has no model 'resnet5o'; did you mean resnet50?"),
        ("resnet50.nope", "model_name: resnet50 has no weights 'nope'"),
        ("resnet50.", "model_name: resnet50 has no weights ''"),
    ],
)
def test_unknown_models_are_refused(name, message):
    with pytest.raises(InputError) as refusal:
        build(name)
    assert str(refusal.value).startswith(message) and "\n" not in str(refusal.value)
