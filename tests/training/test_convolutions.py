import copy
from contextlib import nullcontext

import pytest
import timm
import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.training import convolutions, cutting, models


class AlsoResidual(nn.Module):
    """The convolution's output goes to the BatchNorm and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.conv(pixels)
        return maps + self.norm(maps)


class TwoNorms(nn.Module):
    """Two BatchNorms are given the output of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.one = nn.BatchNorm2d(8)
        self.other = nn.BatchNorm2d(8)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.conv(pixels)
        return self.one(maps) - self.other(maps)


class Twice(nn.Module):
    """A convolution and its BatchNorm that run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, maps: Tensor) -> Tensor:
        return self.norm(self.conv(self.norm(self.conv(maps))))


def with_statistics(network: nn.Module) -> nn.Module:
    """The network with BatchNorms that are no identity, as training leaves them."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def pixels(*shape: int) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return values.contiguous(memory_format=torch.channels_last)


def difference(one: Tensor, other: Tensor) -> float:
    """As a share of the largest value."""
    return ((one - other).abs().max() / other.abs().max()).item()


@pytest.mark.parametrize(("name", "count"), [("resnet18", 20), ("tf_efficientnet_lite0", 49)])
def test_folding_leaves_no_batch_norm_and_the_same_output(name, count):
    network = with_statistics(timm.create_model(name, num_classes=10))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = convolutions.fold_batch_norms(network, pixels(2, 3, 64, 64))
    assert (norms(network), norms(folded)) == (count, 0)
    others = pixels(8, 3, 64, 64)
    with torch.no_grad():
        assert difference(folded(others), network(others)) < 1e-4
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    # What has no BatchNorm is not kept twice.
    assert folded.get_classifier().weight is network.get_classifier().weight


@pytest.mark.parametrize("finetuning", [False, True])
def test_the_frozen_half_of_a_model_is_folded(finetuning):
    config = RunConfig(model_name="resnet18", pretrained=False, finetuning=finetuning, image_size=64)
    model = with_statistics(models.build(config, 10))
    halves = cutting.cut(model, pixels(2, 3, 64, 64))
    folded = convolutions.fold_batch_norms(halves.frozen, pixels(2, 3, 64, 64))
    # The last stage has five, and they train.
    assert (norms(halves.frozen), norms(folded), norms(model)) == (15 if finetuning else 20, 0, 20)
    others = pixels(8, 3, 64, 64)
    with torch.no_grad():
        assert difference(folded(others), halves.frozen(others)) < 1e-4
        assert difference(halves.trainable(folded(others)), model(others)) < 1e-4


def test_a_batch_norm_that_follows_no_convolution_stays():
    network = with_statistics(
        nn.Sequential(
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8, affine=False),
            nn.ReLU(),
            nn.BatchNorm2d(8),
        )
    )
    folded = convolutions.fold_batch_norms(network, pixels(2, 3, 8, 8))
    kept = [isinstance(module, nn.BatchNorm2d) for module in folded]
    assert kept == [True, False, False, False, True]
    with torch.no_grad():
        assert difference(folded(pixels(4, 3, 8, 8)), network(pixels(4, 3, 8, 8))) < 1e-4


@pytest.mark.parametrize(
    "network",
    [
        AlsoResidual(),
        TwoNorms(),
        Twice(),
        # In place: the BatchNorm is given the convolution's tensor, but not its output.
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(8)),
        # A convolution that standardises its weights undoes what is folded into them.
        nn.Sequential(timm.layers.StdConv2d(3, 8, 3), nn.BatchNorm2d(8)),
        # Without statistics of its own it takes each batch's.
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)),
    ],
    ids=["residual", "two norms", "twice", "in place", "standardised", "no statistics"],
)
def test_where_folding_would_be_wrong_it_is_left(network):
    with_statistics(network)
    example = pixels(2, 3, 8, 8)
    with torch.no_grad():
        before = network(example)
        folded = convolutions.fold_batch_norms(network, example)
        assert norms(folded) == norms(network) > 0
        assert torch.equal(folded(example), before) and torch.equal(network(example), before)


def resnet_stage() -> nn.Module:
    return with_statistics(timm.create_model("resnet18", num_classes=10)).layer4


def lite0_block() -> nn.Module:
    return with_statistics(timm.create_model("tf_efficientnet_lite0", num_classes=10)).blocks[6]


def gradients(network: nn.Module, maps: Tensor, autocast=nullcontext) -> dict[str, Tensor]:
    """Output, and gradients of the input and of every parameter."""
    maps = maps.clone().requires_grad_()
    network.zero_grad()
    with autocast():
        output = network(maps)
    # Not a plain sum, whose gradient is the same everywhere.
    (output.float() * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    return found | {"the output": output.detach(), "the input": maps.grad}


@pytest.mark.parametrize(
    ("make", "shape", "changed"),
    [
        # Maps of 2 x 2 pixels behind a stride, and larger ones.
        (resnet_stage, (4, 256, 4, 4), 5),
        (resnet_stage, (4, 256, 8, 7), 5),
        (lite0_block, (4, 192, 2, 2), 3),
        (lambda: nn.Conv2d(8, 16, 1, stride=2, bias=False), (4, 8, 7, 7), 1),
        (lambda: nn.Conv2d(8, 16, 1, stride=(1, 2)), (4, 8, 5, 6), 1),
        (lambda: nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), (4, 8, 7, 7), 1),
        (lambda: nn.Conv2d(8, 16, 5, padding="same", groups=8, bias=False), (4, 8, 7, 7), 1),
        (lambda: nn.Conv2d(8, 16, (3, 2), stride=(2, 3), padding=(1, 0)), (4, 8, 4, 5), 1),
        (lambda: nn.Conv2d(1, 4, 3), (4, 1, 4, 4), 1),
        (lambda: nn.Conv2d(8, 16, 1, padding=1), (4, 8, 4, 4), 1),
        # To these no form applies.
        (lambda: nn.Conv2d(8, 16, 1, groups=2), (4, 8, 4, 4), 0),
        (lambda: nn.Conv2d(8, 16, 3, dilation=2), (4, 8, 5, 5), 0),
        (lambda: nn.Conv2d(8, 16, 3, padding="same"), (4, 8, 2, 2), 0),
        (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="reflect"), (4, 8, 4, 4), 0),
        (lambda: timm.layers.StdConv2d(8, 16, 1), (4, 8, 4, 4), 0),
    ],
)
@pytest.mark.parametrize("channels_last", [True, False])
def test_what_trains_cheaper_on_a_cpu_has_the_same_gradients(make, shape, changed, channels_last):
    torch.manual_seed(0)
    plain = make().to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    cheap = copy.deepcopy(plain)
    convolutions.train_on_cpu(cheap)
    kinds = [
        type(one) is not type(other) for one, other in zip(plain.modules(), cheap.modules(), strict=True)
    ]
    assert sum(kinds) == changed
    assert list(cheap.state_dict()) == list(plain.state_dict())
    maps = pixels(*shape) if channels_last else pixels(*shape).contiguous()
    expected, computed = gradients(plain, maps), gradients(cheap, maps)
    assert len(expected) > 2
    for name in expected:
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(computed[name], expected[name], rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (resnet_stage, (4, 256, 4, 4)),
        (lambda: nn.Conv2d(8, 16, 1, stride=2), (4, 8, 7, 7)),
        (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8), (4, 8, 7, 7)),
    ],
)
def test_gradients_under_bf16_are_those_of_fp32_but_for_rounding(make, shape):
    torch.manual_seed(0)
    plain = make().to(memory_format=torch.channels_last)
    cheap = copy.deepcopy(plain)
    convolutions.train_on_cpu(cheap)
    expected = gradients(plain, pixels(*shape))
    computed = gradients(cheap, pixels(*shape), lambda: torch.autocast("cpu", torch.bfloat16))
    for name in expected:
        assert computed[name].dtype == torch.float32 or name == "the output"
        apart = (computed[name].float() - expected[name]).norm()
        assert apart < 0.1 * expected[name].norm(), name


def test_a_depthwise_convolution_gives_bf16_where_it_is_given_bf16():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8))
    convolutions.train_on_cpu(network)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(pixels(2, 3, 8, 8)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "shape"),
    [(resnet_stage, (4, 256, 4, 4)), (lite0_block, (4, 192, 2, 2))],
    ids=["resnet", "lite0"],
)
def test_what_trains_cheaper_on_a_cpu_can_be_compiled(make, shape):
    torch.manual_seed(0)
    network = make().to(memory_format=torch.channels_last)
    convolutions.train_on_cpu(network)
    expected = gradients(network, pixels(*shape))
    # What torch.compile does before it generates code, and where it refuses what it cannot compile.
    network.compile(backend="aot_eager", fullgraph=True)
    computed = gradients(network, pixels(*shape))
    for name in expected:
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(computed[name], expected[name], rtol=1e-4, atol=1e-5 * scale)
