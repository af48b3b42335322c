import pytest
import torch
from torch import nn

from wandb_tl import models
from wandb_tl.config import InputError, RunConfig


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
        models.train_mode(model, "source")
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
        models.train_mode(model, norm)
        model(torch.randn(4, 3, 64, 64))
        assert torch.equal(model.bn1.running_mean, before) != drifts


def test_calibration_gives_the_statistics_of_the_images():
    model = build("resnet18")
    images = torch.randn(32, 3, 64, 64) * 3 + 1
    models.calibrate(model, images.split(8))
    with torch.no_grad():
        stem = model.conv1(images)
    torch.testing.assert_close(model.bn1.running_mean, stem.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.bn1.running_var, stem.var((0, 2, 3)), rtol=0.02, atol=1e-3)
    assert not model.training


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
    halves = models.split(model, images)
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


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_where_the_last_stage_begins_is_one_place_for_all_recipes(name):
    images = torch.randn(2, 3, 64, 64)
    opens_it, head_only = build(name, finetuning=True), build(name)
    expected, halves = models.split(opens_it, images), models.split_before_last_stage(head_only, images)
    assert halves.boundary == expected.boundary != models.split(head_only, images).boundary
    with torch.no_grad():
        assert torch.equal(halves.frozen(images), expected.frozen(images))
        assert torch.equal(halves.trainable(halves.frozen(images)), head_only(images))
    # What trains is still the head alone.
    assert opened(head_only) == opened(build(name))


def test_a_model_whose_stages_are_not_known_is_not_cut_before_them():
    assert models.split_before_last_stage(build("poolformer_s12"), torch.randn(2, 3, 64, 64)) is None


def test_a_model_that_cannot_be_cut_is_not_cut():
    # Its two classifiers are given one token each.
    name, images = "deit_tiny_distilled_patch16_224", torch.randn(2, 3, 64, 64)
    assert models.split(build(name), images) is None
    assert models.split(build(name, finetuning=True), images).boundary == "blocks.11"


def test_dropout_before_the_classifier_is_not_frozen():
    # timm's ReXNet drops a fifth of what its classifier is given, in training only.
    model = build("rexnet_100")
    assert model.drop_rate == 0.2 and models.split(model, torch.randn(2, 3, 64, 64)) is None


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
    assert models.split(model, torch.randn(2, 3)) is None
    # Behind all of that, there is one module.
    model.stage.requires_grad_(False)
    assert models.split(model, torch.randn(2, 3)).boundary == "head"


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
    halves = models.split(model, torch.randn(2, 3, 4, 4))
    assert halves.boundary == "2"
    assert {name for name, _ in halves.trainable.named_parameters()} == {"scale", "fc.weight", "fc.bias"}


def test_a_model_that_trains_whole_is_not_cut():
    model = build("resnet18", finetuning=True, unfreeze="all")
    assert models.split(model, torch.randn(2, 3, 64, 64)) is None
