"""Augmentation: the pixels are those of torchvision, the draws are fair, and they repeat under a seed."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from wandb_tl.config import FIELDS
from wandb_tl.training.augmentation import GROUPS, RATIO, SCALE, augment, draw_boxes, enlarge, in_groups

CHOICES = [how for how in FIELDS["augment"].metadata["choices"] if how != "none"]
OF_TORCHVISION = {"trivial": v2.TrivialAugmentWide(), "randaugment": v2.RandAugment()}


def photos(few_images, count: int = 64, channels: int = 3, size: int = 40) -> Tensor:
    """Real images, enlarged; with three channels, each of another image."""
    images = few_images.train.images[: count * channels].reshape(count, channels, 28, 28).float()
    return F.interpolate(images, (size, size), mode="bilinear").round().to(torch.uint8)


def test_flips_and_shifts_each_image_on_its_own():
    torch.manual_seed(0)
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    image[0, 4, 2] = 200
    images = image.repeat(200, 1, 1, 1)
    assert augment(images, "none") is images
    flipped = augment(images, "flip")
    columns = flipped.amax(dim=(1, 2)).argmax(1)
    assert set(columns.tolist()) == {2, 5}
    shifted = augment(images, "flip_crop")
    places = {divmod(int(i), 8) for i in shifted.flatten(1).argmax(1)}
    assert places == {(row, column) for row in (3, 4, 5) for column in (1, 2, 3, 4, 5, 6)}


@pytest.mark.parametrize("channels", [1, 3])
def test_flips_and_shifts_are_those_of_earlier_versions_bit_for_bit(few_images, channels):
    """The draws in their order, and what they do to one image after another."""
    images = photos(few_images, 48, channels, 36)
    torch.manual_seed(5)
    flips = (torch.rand(48) < 0.5).tolist()
    offsets = torch.randint(2 * 4 + 1, (2, 48, 1))[..., 0].T.tolist()
    expected = []
    for image, is_flipped, (row, column) in zip(images, flips, offsets, strict=True):
        padded = F.pad(image.flip(-1) if is_flipped else image, (4, 4, 4, 4))
        expected.append(padded[:, row : row + 36, column : column + 36])
    torch.manual_seed(5)
    assert torch.equal(augment(images, "flip_crop"), torch.stack(expected))


@pytest.mark.parametrize("how", CHOICES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_choice_keeps_type_and_shape_and_repeats_under_torchs_seed(few_images, how, channels):
    images = photos(few_images, 20, channels, 33)
    before = images.clone()
    torch.manual_seed(3)
    random.seed(0)
    np.random.seed(0)
    first = augment(images, how)
    assert (first.dtype, first.shape, first.device) == (torch.uint8, images.shape, images.device)
    assert torch.equal(images, before) and not torch.equal(first, images)
    # No other generator has a part in it: a resumed run seeds torch's alone.
    torch.manual_seed(3)
    random.seed(1)
    np.random.seed(1)
    assert torch.equal(augment(images, how), first)
    assert not torch.equal(augment(images, how), first)
    assert augment(images[:1], how).shape == images[:1].shape


@pytest.mark.parametrize("how", [how for how in CHOICES if how not in OF_TORCHVISION])
def test_half_of_the_images_are_flipped(how):
    """Seen in images that are bright on the left: no other change brings that side to the right."""
    images = torch.zeros(2000, 1, 8, 8, dtype=torch.uint8)
    images[..., :4] = 255
    torch.manual_seed(0)
    sums = augment(images, how).float().sum((1, 2))
    is_flipped = sums[:, 4:].sum(1) > sums[:, :4].sum(1)
    assert 0.45 < is_flipped.float().mean() < 0.55


@pytest.mark.parametrize("how", OF_TORCHVISION)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_group_is_what_torchvision_makes_of_it(few_images, how, channels):
    images = photos(few_images, 64, channels)
    torch.manual_seed(11)
    flips = torch.rand(64) < 0.5
    expected = [
        OF_TORCHVISION[how](torch.stack([image.flip(-1) if flip else image for image, flip in pairs]))
        for group in torch.arange(64).tensor_split(GROUPS)
        for pairs in [[(images[number], flips[number]) for number in group]]
    ]
    torch.manual_seed(11)
    assert torch.equal(augment(images, how), torch.cat(expected))
    # The images of a group are changed alike, the groups differently.
    repeated = images[:1].expand(64, -1, -1, -1)
    groups = in_groups(repeated, OF_TORCHVISION[how]).unflatten(0, (GROUPS, -1))
    assert torch.equal(groups, groups[:, :1].expand_as(groups))
    assert len(groups[:, 0].flatten(1).unique(dim=0)) > GROUPS // 2


@pytest.mark.parametrize("how", CHOICES)
def test_reduced_precision_of_the_model_changes_no_pixel(few_images, how):
    images = photos(few_images, 20)
    torch.manual_seed(1)
    expected = augment(images, how)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(images, how), expected)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 40, 40), (3, 40, 40), (3, 30, 57)])
def test_enlarged_parts_are_torchvisions_resized_crops(few_images, channels, height, width):
    images = photos(few_images, 64, channels, 60)[:, :, :height, :width].contiguous()
    torch.manual_seed(2)
    boxes = draw_boxes(images)
    enlarged = enlarge(images, boxes)
    assert enlarged.dtype == torch.uint8
    for image, result, box in zip(images, enlarged, boxes.T.int().tolist(), strict=True):
        for antialias in (True, False):
            expected = v2.functional.resized_crop(image, *box, [height, width], antialias=antialias)
            assert (result.int() - expected.int()).abs().max() <= 1, box
    # The whole image is the image.
    whole = torch.tensor([0.0, 0.0, height, width]).view(4, 1).expand(-1, 64)
    assert torch.equal(enlarge(images, whole), images)


def test_parts_have_the_sizes_and_places_of_torchvisions():
    images = torch.zeros(2000, 1, 100, 100, dtype=torch.uint8)
    torch.manual_seed(0)
    top, left, height, width = draw_boxes(images)
    assert min(top.min(), left.min()) == 0 and height.min() >= 1 and width.min() >= 1
    assert (top + height).max() == 100 == (left + width).max()
    # Sides are rounded to whole pixels.
    scale, ratio = height * width / 1e4, width / height
    assert SCALE[0] - 0.01 < scale.min() < SCALE[0] + 0.01 and scale.max() > 0.98
    assert RATIO[0] - 0.02 < ratio.min() and ratio.max() < RATIO[1] + 0.02
    drawn = [v2.RandomResizedCrop(100, SCALE, RATIO).make_params([images[0]]) for _ in range(2000)]
    for name, values in (("top", top), ("left", left), ("height", height), ("width", width)):
        theirs = torch.tensor([float(params[name]) for params in drawn])
        # The largest distance of two samples of 2,000 from one distribution is below 0.052 in 99 % of cases.
        assert distance(values, theirs) < 0.052, name


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference of two samples' cumulative distributions, as of Kolmogorov and Smirnov."""
    values = torch.cat([one, other]).unique()
    shares = [torch.searchsorted(part.sort().values, values, right=True) / len(part) for part in (one, other)]
    return float((shares[0] - shares[1]).abs().max())


def test_parts_of_long_images_keep_to_the_allowed_ratios():
    """None of the ten sizes fits an image four times as wide as it is high."""
    for shape in ((20, 80), (80, 20), (1, 28)):
        top, left, height, width = draw_boxes(torch.zeros(500, 1, *shape, dtype=torch.uint8))
        assert (top + height <= shape[0]).all() and (left + width <= shape[1]).all()
        assert (height >= 1).all() and (width >= 1).all()
        longest = max(1, math.ceil(RATIO[1] * min(shape)))
        assert torch.maximum(height, width).max() <= longest
