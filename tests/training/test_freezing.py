"""Which parameters train under which recipe; the others stay as they are, bit for bit."""

import pytest
import torch
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import freezing, models


def build(name: str, **options) -> nn.Module:
    options = {"pretrained": name == "tf_efficientnet_lite0", "image_size": 64} | options
    return models.build(RunConfig(model_name=name, **options), 10)


def opened(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_without_finetuning_only_the_classifier_trains():
    assert opened(build("resnet50")) == {"fc.weight", "fc.bias"}
    assert opened(build("convnext_atto")) == {"head.fc.weight", "head.fc.bias"}


@pytest.mark.parametrize(
    ("name", "unfreeze", "prefixes"),
    [
        ("resnet50", "last_stage", ("layer4.", "fc.")),
        ("resnet50", "2", ("layer3.", "layer4.", "fc.")),
        ("tf_efficientnet_lite0", "last_stage", ("blocks.6.", "conv_head.", "bn2.", "classifier.")),
        ("mobilenetv3_small_100", "last_stage", ("blocks.5.", "conv_head.", "classifier.")),
        ("convnext_atto", "last_stage", ("stages.3.", "head.")),
        ("vit_tiny_patch16_224", "last_stage", ("blocks.11.", "norm.", "head.")),
    ],
)
def test_finetuning_opens_whole_stages_from_the_end(name, unfreeze, prefixes):
    model = build(name, finetuning=True, unfreeze=unfreeze)
    assert opened(model) == {key for key, _ in model.named_parameters() if key.startswith(prefixes)}


def test_finetuning_all_opens_everything():
    model = build("resnet18", finetuning=True, unfreeze="all")
    assert opened(model) == {name for name, _ in model.named_parameters()}


def test_more_stages_than_the_model_has():
    with pytest.raises(InputError, match="unfreeze: got 9, the model has 5 stages"):
        build("resnet18", finetuning=True, unfreeze="9")


@pytest.mark.parametrize("finetuning", [False, True])
def test_frozen_is_frozen_bit_for_bit_and_what_is_open_moves(finetuning):
    model = build("tf_efficientnet_lite0", finetuning=finetuning)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trains = ("blocks.6.", "conv_head.", "bn2.", "classifier.") if finetuning else ("classifier.",)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], 0.1)
    torch.manual_seed(0)
    for _ in range(3):
        freezing.train_mode(model, "source")
        model(torch.randn(8, 3, 64, 64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    # Parameters and buffers alike: running means and variances are part of the state.
    assert moved == {name for name in before if name.startswith(trains)}


def test_batch_norm_of_the_frozen_part_drifts_only_with_norm_batch():
    model = build("resnet18")
    for norm, drifts in (("source", False), ("batch", True)):
        before = model.bn1.running_mean.clone()
        freezing.train_mode(model, norm)
        model(torch.randn(4, 3, 64, 64))
        assert torch.equal(model.bn1.running_mean, before) != drifts
