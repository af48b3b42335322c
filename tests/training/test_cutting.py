import pytest
import torch
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.training import cutting, models


def opened(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def build(name: str, **options) -> nn.Module:
    options = {"pretrained": name == "tf_efficientnet_lite0", "image_size": 64} | options
    return models.build(RunConfig(model_name=name, **options), 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "heads", "stages"),
    [
        ("resnet18", ("fc", (512,)), ("layer4", (256, 4, 4))),
        ("tf_efficientnet_lite0", ("classifier", (1280,)), ("blocks.6.0", (192, 2, 2))),
        ("mobilenetv3_small_100", ("classifier", (1024,)), ("blocks.5.0", (96, 2, 2))),
        ("convnext_atto", ("head.fc", (320,)), ("stages.3", (160, 4, 4))),
        ("regnety_002", ("head.fc", (368,)), ("s4", (152, 4, 4))),
        # What trains begins behind the class token and the position embedding.
        ("vit_tiny_patch16_224", ("head", (192,)), ("blocks.11", (17, 192))),
        ("deit3_small_patch16_224", ("head", (384,)), ("blocks.11", (17, 384))),
        ("swin_tiny_patch4_window7_224", ("head.fc", (768,)), ("layers.3", (14, 14, 384))),
    ],
)
@pytest.mark.parametrize("finetuning", [False, True])
def test_split_is_exact_and_shares_the_weights(name, heads, stages, finetuning):
    boundary, shape = stages if finetuning else heads
    size = 224 if name.startswith("swin") else 64
    images = torch.randn(2, 3, size, size)
    model = build(name, finetuning=finetuning, image_size=size)
    halves = cutting.cut(model, images)
    assert halves.boundary == boundary
    with torch.no_grad():
        assert halves.frozen(images).shape == (2, *shape)
        for parameter in model.parameters():
            parameter.add_(0.01 * parameter.requires_grad)
        assert torch.equal(halves.trainable(halves.frozen(images)), model(images))
    assert {id(p) for p in halves.trainable.parameters() if p.requires_grad} == {
        id(p) for p in model.parameters() if p.requires_grad
    }
    # For images that it was not tried on, as many as there are.
    others = torch.randn(3, 3, size, size)
    with torch.no_grad():
        assert torch.equal(halves.trainable(halves.frozen(others)), model(others))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_where_the_last_stage_begins_is_one_place_for_all_recipes(name):
    images = torch.randn(2, 3, 64, 64)
    opens_it, head_only = build(name, finetuning=True), build(name)
    expected, halves = cutting.cut(opens_it, images), cutting.cut_before_last_stage(head_only, images)
    assert halves.boundary == expected.boundary != cutting.cut(head_only, images).boundary
    with torch.no_grad():
        assert torch.equal(halves.frozen(images), expected.frozen(images))
        assert torch.equal(halves.trainable(halves.frozen(images)), head_only(images))
    # What trains is still the head alone.
    assert opened(head_only) == opened(build(name))


def test_a_model_whose_stages_are_not_known_is_not_cut_before_them():
    assert cutting.cut_before_last_stage(build("poolformer_s12"), torch.randn(2, 3, 64, 64)) is None


def test_a_model_that_cannot_be_cut_is_not_cut():
    # Its two classifiers are given one token each.
    name, images = "deit_tiny_distilled_patch16_224", torch.randn(2, 3, 64, 64)
    assert cutting.cut(build(name), images) is None
    assert cutting.cut(build(name, finetuning=True), images).boundary == "blocks.11"


def test_dropout_before_the_classifier_is_not_frozen():
    # timm's ReXNet drops a fifth of what its classifier is given, in training only.
    model = build("rexnet_100")
    assert model.drop_rate == 0.2 and cutting.cut(model, torch.randn(2, 3, 64, 64)) is None


def test_a_model_whose_cut_would_give_something_else_is_not_cut():
    class Doubled(nn.Module):
        """Doubles between its body and what trains, which two modules do: each half would double."""

        def __init__(self) -> None:
            super().__init__()
            self.body, self.stage, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return self.head(self.stage(2 * self.body(values)))

    model = Doubled()
    model.body.requires_grad_(False)
    assert cutting.cut(model, torch.randn(2, 3)) is None
    # Behind all of that, there is one module.
    model.stage.requires_grad_(False)
    assert cutting.cut(model, torch.randn(2, 3)).boundary == "head"


def test_what_trains_is_not_cut_off():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(8))
            self.fc = nn.Linear(8, 3)

        def forward(self, features):
            return self.fc(features * self.scale)

    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 8), Scaled())
    model[1].requires_grad_(False)
    halves = cutting.cut(model, torch.randn(2, 3, 4, 4))
    assert halves.boundary == "2"
    assert {name for name, _ in halves.trainable.named_parameters()} == {"scale", "fc.weight", "fc.bias"}


def test_a_model_that_trains_whole_is_not_cut():
    model = build("resnet18", finetuning=True, unfreeze="all")
    assert cutting.cut(model, torch.randn(2, 3, 64, 64)) is None
