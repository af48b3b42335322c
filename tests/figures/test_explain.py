import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wandb_tl.figures import explain


def build(name: str, **options) -> nn.Module:
    """A small timm model of two classes with random weights, its classifier's too, in train mode."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=2, **options)
    nn.init.normal_(model.get_classifier().weight)
    return model


@pytest.mark.parametrize(
    ("name", "options", "shapes"),
    [
        ("resnet18", {}, [(64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]),
        ("regnety_002", {}, [(32, 32, 32), (24, 16, 16), (56, 8, 8), (152, 4, 4), (368, 2, 2)]),
        ("convnext_atto", {}, [(40, 16, 16), (40, 16, 16), (80, 8, 8), (160, 4, 4), (320, 2, 2)]),
        (
            "tf_efficientnet_lite0",
            {},
            [(32, 32, 32), (16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)],
        ),
        ("swin_tiny_patch4_window7_224", {"img_size": 64}, [(96, 16, 16), (96, 16, 16), (192, 8, 8)]),
    ],
)
def test_every_stage_has_its_maps(name, options, shapes):
    maps = explain.feature_maps(build(name, **options), torch.randn(1, 3, 64, 64))
    assert list(maps) == ["first_conv", *(f"stage_{i}" for i in range(1, len(maps)))]
    assert [tuple(values.shape) for values in maps.values()][: len(shapes)] == shapes


def test_of_a_transformers_blocks_a_few_are_shown_as_grids():
    model = build("vit_tiny_patch16_224", img_size=64)
    maps = explain.feature_maps(model, torch.randn(1, 3, 64, 64))
    assert list(maps) == ["first_conv", "stage_2", "stage_5", "stage_7", "stage_10", "stage_12"]
    assert {tuple(values.shape) for values in maps.values()} == {(192, 4, 4)}


def test_maps_are_what_the_layers_give_in_eval_mode():
    model, pixels = build("test_resnet"), torch.randn(1, 3, 64, 64)
    maps = explain.feature_maps(model, pixels)
    with torch.no_grad():
        model.eval()
        first = model.conv1[0](pixels)
        stages = model.forward_features(pixels)
    assert torch.equal(maps["first_conv"], first[0]) and torch.equal(maps["stage_4"], stages[0])


def by_hooks(model: nn.Module, layer: str, pixels: Tensor, classes: Tensor) -> Tensor:
    """Grad-CAM as its authors define it: a full forward and backward, one image and one channel at a time."""
    kept = {}
    module = model.eval().requires_grad_(True).get_submodule(layer)
    hooks = [
        module.register_forward_hook(lambda *call: kept.update(maps=call[2])),
        module.register_full_backward_hook(lambda *call: kept.update(slopes=call[2][0])),
    ]
    heats = []
    for image, label in zip(pixels, classes, strict=True):
        model(image[None])[0, label].backward()
        pairs = zip(kept["maps"][0], kept["slopes"][0], strict=True)
        heat = F.relu(sum(slope.mean() * values for values, slope in pairs)).detach()
        heats.append(heat / heat.max().clamp(min=1e-30))
    for hook in hooks:
        hook.remove()
    return torch.stack(heats)


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        ("test_resnet", "layer4", 160),
        ("test_efficientnet", "bn2", 160),
        ("test_convnext", "stages.3", 160),
        # Of an image this small, the last stage leaves one cell, which is no place.
        ("test_resnet", "layer3", 32),
    ],
)
def test_grad_cam_is_that_of_the_paper(name, layer, size):
    model, pixels, classes = build(name), torch.randn(3, 3, size, size), torch.tensor([0, 1, 1])
    heat = explain.grad_cam(model, pixels, classes)
    torch.testing.assert_close(heat, by_hooks(model, layer, pixels, classes), rtol=1e-3, atol=1e-4)
    # Not what another class would give.
    assert not torch.allclose(heat, by_hooks(model, layer, pixels, 1 - classes), atol=0.1)


def test_a_transformer_is_read_where_its_class_token_still_looks_at_the_patches():
    model, classes = build("test_vit", img_size=64), torch.tensor([0, 1])
    pixels = torch.randn(2, 3, 64, 64)
    heat = explain.grad_cam(model, pixels, classes)
    model.eval()
    with torch.no_grad():
        tokens = model._pos_embed(model.patch_embed(pixels))
        for block in model.blocks[:-1]:
            tokens = block(tokens)
    tokens.requires_grad_()
    logits = model.forward_head(model.norm(model.blocks[-1](tokens)))
    logits[torch.arange(2), classes].sum().backward()
    patches, slopes = tokens[:, 1:].detach(), tokens.grad[:, 1:]
    expected = torch.einsum("npc,nc->np", patches, slopes.mean(1)).relu().view(2, 4, 4)
    torch.testing.assert_close(heat, expected / expected.amax((1, 2), keepdim=True), rtol=1e-3, atol=1e-4)


def squares(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise with a bright square in one quadrant: pixels, classes (0 red, 1 green) and quadrants."""
    torch.manual_seed(seed)
    pixels = 0.1 * torch.randn(count, 3, 64, 64)
    classes, quadrants = torch.randint(2, (count,)), torch.randint(4, (count,))
    for image, label, quadrant in zip(pixels, classes, quadrants, strict=True):
        y, x = 32 * (quadrant // 2) + 6, 32 * (quadrant % 2) + 6
        image[label, y : y + 20, x : x + 20] += 3
    return pixels, classes, quadrants


@pytest.mark.parametrize(("name", "options"), [("test_efficientnet", {}), ("test_vit", {"img_size": 64})])
def test_heat_is_where_the_object_is(name, options):
    model = build(name, **options).eval()
    pixels, classes, _ = squares(128, seed=1)
    with torch.no_grad():
        # Random features tell the squares apart, so a classifier by the mean of each class is enough.
        features = model.forward_head(model.forward_features(pixels), pre_logits=True)
        red, green = features[classes == 0].mean(0), features[classes == 1].mean(0)
        model.get_classifier().weight.copy_(torch.stack([red - green, green - red]))
        middle = (red + green) / 2 @ (green - red)
        model.get_classifier().bias.copy_(torch.stack([middle, -middle]))
        pixels, classes, quadrants = squares(64, seed=2)
        assert torch.equal(model(pixels).argmax(1), classes)
    heat = explain.grad_cam(model, pixels, classes)
    hottest = F.adaptive_avg_pool2d(heat[:, None], 2).flatten(1).argmax(1)
    # Chance is a quarter, with a standard error of 0.05.
    assert (hottest == quadrants).double().mean() > 0.9


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet", "test_mambaout", "test_vit"])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_model_is_left_as_it_was(name, frozen):
    model = build(name, **({"img_size": 64} if name == "test_vit" else {}))
    if frozen:
        model.requires_grad_(False)
        model.get_classifier().requires_grad_(True)
    # A frozen BatchNorm is in eval mode in a model that trains.
    next(module for module in model.modules() if not list(module.children())).eval()
    modes = [module.training for module in model.modules()]
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    trains = [parameter.requires_grad for parameter in model.parameters()]
    pixels = torch.randn(2, 3, 64, 64)
    explain.feature_maps(model, pixels[:1])
    heat = explain.grad_cam(model, pixels, torch.tensor([0, 1]))
    assert len(heat) == 2 and heat.amin() >= 0 and heat.amax() == 1 and not heat.requires_grad
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == trains
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_score_that_nothing_speaks_for_has_no_heat():
    model = build("test_resnet")
    nn.init.zeros_(model.get_classifier().weight)
    heat = explain.grad_cam(model, torch.randn(2, 3, 160, 160), torch.tensor([0, 1]))
    assert heat.shape == (2, 5, 5) and not heat.any()


@pytest.mark.parametrize("name", ["pit_ti_224", "coat_tiny"])
def test_a_model_that_gives_no_map_has_no_heat(name):
    # One hands only its class token to the classifier, the other a list.
    model, pixels = build(name, img_size=64), torch.randn(1, 3, 64, 64)
    assert explain.grad_cam(model, pixels, torch.tensor([0])) is None
    assert "stage_3" in explain.feature_maps(model, pixels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_processor_gives():
    model, pixels, classes = build("test_resnet"), torch.randn(2, 3, 160, 160), torch.tensor([0, 1])
    maps, heat = explain.feature_maps(model, pixels[:1]), explain.grad_cam(model, pixels, classes)
    model, pixels = model.cuda(), pixels.cuda()
    there = explain.feature_maps(model, pixels[:1])
    assert all(torch.allclose(there[name], maps[name], rtol=0.01, atol=0.01) for name in maps)
    torch.testing.assert_close(explain.grad_cam(model, pixels, classes), heat, rtol=0.02, atol=0.02)
