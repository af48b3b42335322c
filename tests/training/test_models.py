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


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nest_tiny", {}, "image_size: nest_tiny does not accept 50 px; it accepts 32 px, 64 px and 224 px"),
        # Refused before its weights are downloaded.
        (
            "twins_svt_small",
            {"pretrained": True},
            "image_size: twins_svt_small does not accept 50 px; it accepts",
        ),
        (
            "mixer_s32_224",
            {"pretrained": True, "image_size": 64},
            "image_size: the pretrained weights of mixer_s32_224 do not fit 64 px; they fit 224 px",
        ),
        (
            "vit_tiny_patch16_224",
            {"pretrained": True, "image_size": 64, "model_kwargs": "depth=13"},
            "model_kwargs: the pretrained weights of vit_tiny_patch16_224 do not fit depth=13; leave it out",
        ),
        ("resnet18", {"model_kwargs": "patch_size=8"}, "model_kwargs: resnet18 does not take patch_size"),
        (
            "vit_tiny_patch16_224",
            {"model_kwargs": "patch_size=25 num_heads=5"},
            "model_kwargs: vit_tiny_patch16_224 does not accept patch_size=25 num_heads=5 (dim should be div",
        ),
    ],
)
def test_a_refusal_says_what_the_model_accepts(name, options, message):
    with pytest.raises(InputError) as refusal:
        build(name, **({"image_size": 50} | options))
    assert str(refusal.value).startswith(message) and "\n" not in str(refusal.value)


def test_arguments_reach_the_model():
    model = build(
        "vit_tiny_patch16_224", model_kwargs="patch_size=8 depth=3 class_token=False global_pool=avg"
    )
    assert len(model.blocks) == 3 and model.pos_embed.shape == (1, 64, 192)


def test_a_model_of_one_channel_has_the_summed_weights_and_sees_grey(few_images):
    colour, grey = (build("tf_efficientnet_lite0", model_kwargs=text) for text in ("", "in_chans=1"))
    torch.testing.assert_close(grey.conv_stem.weight, colour.conv_stem.weight.sum(1, keepdim=True))
    images = few_images.test.images[:4]
    pixels = [models.preprocess(model, 64, torch.device("cpu"))(images) for model in (colour, grey)]
    assert [len(one[0]) for one in pixels] == [3, 1]
    # Each channel of these weights has the same mean, so that nothing changes for grey pictures.
    with torch.no_grad():
        expected = colour.forward_features(pixels[0])
        torch.testing.assert_close(grey.forward_features(pixels[1]), expected, rtol=1e-3, atol=1e-3)
