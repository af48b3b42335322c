"""mixup and CutMix: equal to torchvision on the same batch, and their arithmetic read off the results."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from wandb_tl.errors import InputError
from wandb_tl.training.mixing import check_cutmix, mix

CLASSES = 5
# What recipes train on: pixels, maps of a CNN and of a Swin transformer, tokens, features.
SHAPES = [(3, 32, 32), (24, 7, 7), (7, 7, 24), (17, 24), (40,)]
MAPS = SHAPES[:3]


def batch(shape: tuple[int, ...], count: int = 15) -> tuple[Tensor, Tensor]:
    """Inputs and one-hot targets, neighbours of different classes."""
    labels = torch.arange(count) % CLASSES
    return torch.randn(count, *shape), F.one_hot(labels, CLASSES).float()


def shares(targets: Tensor, before: Tensor) -> Tensor:
    """How much of each label is left (N,), after mixing with the label of the input before."""
    return (targets * before).sum(1)


@pytest.mark.parametrize("shape", SHAPES)
def test_mixup_is_torchvisions(shape):
    inputs, targets = batch(shape)
    kept = inputs.clone()
    torch.manual_seed(4)
    mixed, blended = mix(inputs, targets, 0.4, 0)
    torch.manual_seed(4)
    expected = v2.MixUp(alpha=0.4)(inputs.reshape(15, -1, 1, 1), targets)
    assert torch.equal(mixed, expected[0].view(inputs.shape)) and torch.equal(blended, expected[1])
    assert mixed.stride() == inputs.stride() and torch.equal(inputs, kept)
    # The share that the labels state is that of the inputs, and one for the batch.
    share = shares(blended, targets)
    assert share.unique().numel() == 1 and 0 < share[0] < 1
    torch.testing.assert_close(mixed, share[0] * inputs + (1 - share[0]) * inputs.roll(1, 0))
    torch.testing.assert_close(blended, share[0] * targets + (1 - share[0]) * targets.roll(1, 0))


@pytest.mark.parametrize("shape", MAPS)
def test_cutmix_is_torchvisions_and_cuts_along_height_and_width(shape):
    inputs, targets = batch(shape)
    is_last = shape[0] == shape[1] != shape[2]
    patches = set()
    for seed in range(12):
        torch.manual_seed(seed)
        mixed, blended = mix(inputs, targets, 0, 1.0)
        torch.manual_seed(seed)
        images = inputs.movedim(-1, 1) if is_last else inputs
        theirs, expected = v2.CutMix(alpha=1.0)(images, targets)
        assert torch.equal(mixed, theirs.movedim(1, -1) if is_last else theirs)
        assert torch.equal(blended, expected) and mixed.stride() == inputs.stride()
        # A rectangle of all channels comes from the input before, as large as its share of the label.
        is_cut = (mixed == inputs.roll(1, 0)).movedim(-1, 1) if is_last else mixed == inputs.roll(1, 0)
        rows, columns = is_cut[0, 0].any(1), is_cut[0, 0].any(0)
        assert torch.equal(is_cut, (rows[:, None] & columns).expand_as(is_cut))
        share = 1 - is_cut[0, 0].float().mean()
        torch.testing.assert_close(shares(blended, targets), share.expand(15))
        patches.add((int(rows.sum()), int(columns.sum())))
    assert len(patches) > 6


def test_with_both_one_is_drawn_per_batch_with_equal_chances():
    inputs, targets = batch((4, 16, 16), 4)
    transform = v2.RandomChoice([v2.MixUp(alpha=1.0), v2.CutMix(alpha=1.0)])
    blended = 0
    for seed in range(200):
        torch.manual_seed(seed)
        mixed, ours = mix(inputs, targets, 1.0, 1.0)
        if seed < 20:
            torch.manual_seed(seed)
            theirs, expected = transform(inputs, targets)
            assert torch.equal(mixed, theirs) and torch.equal(ours, expected)
        # CutMix takes values as they are.
        blended += not bool(((mixed == inputs) | (mixed == inputs.roll(1, 0))).all())
    assert 80 < blended < 120


def test_strength_decides_the_shares_and_without_one_nothing_changes():
    inputs, targets = batch((40,), 2)
    assert mix(inputs, targets, 0, 0) == (inputs, targets)
    torch.manual_seed(0)
    mean = {
        strength: torch.stack([shares(mix(inputs, targets, strength, 0)[1], targets)[0] for _ in range(500)])
        for strength in (0.2, 4.0)
    }
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1)).
    for strength, drawn in mean.items():
        assert 0.45 < drawn.mean() < 0.55
        assert drawn.var().item() == pytest.approx(1 / (4 * (2 * strength + 1)), rel=0.15)


def test_reduced_precision_and_soft_targets_stay_what_they_are():
    inputs, targets = batch((24, 7, 7))
    half = inputs.bfloat16().contiguous(memory_format=torch.channels_last)
    soft = 0.9 * targets + 0.1 / CLASSES
    for strengths in ((0.5, 0), (0, 0.5)):
        mixed, blended = mix(half, soft, *strengths)
        assert mixed.dtype == torch.bfloat16 and mixed.stride() == half.stride()
        assert blended.dtype == torch.float32
        torch.testing.assert_close(blended.sum(1), torch.ones(15))


def test_cutmix_of_what_has_no_patches_is_refused_in_one_line():
    for shape in MAPS:
        check_cutmix(torch.zeros(1, *shape), 1.0)
    for shape, words in {(1280,): "1280", (17, 24): "17 x 24", (192, 2, 2): "192 x 2 x 2"}.items():
        check_cutmix(torch.zeros(1, *shape), 0.0)
        with pytest.raises(InputError) as error:
            check_cutmix(torch.zeros(1, *shape), 1.0)
        message = str(error.value)
        assert message.startswith("cutmix: ") and f"inputs of {words}," in message
        assert message.endswith("use mixup instead") and "\n" not in message


def test_patches_of_the_smallest_maps_are_not_empty():
    """Which is why maps of 2 x 2 are refused."""
    torch.manual_seed(0)
    changed = {}
    for side in (2, 3):
        inputs, targets = batch((4, side, side))
        changed[side] = sum(not torch.equal(mix(inputs, targets, 0, 1.0)[0], inputs) for _ in range(100))
    assert changed[2] == 0 and changed[3] > 30
