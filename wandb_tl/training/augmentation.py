"""Random changes of the training images: uint8 in, uint8 out, whole batches on their device.

All numbers are drawn from torch's generators, which the training loop seeds in every epoch: those that differ
from image to image on the device of the images, those that torchvision draws on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# The area of a random part, relative to the image. torchvision's parts begin at 8 %, for some hundred epochs
# on a million pictures. Over the few epochs of transfer learning, so small a part too often misses what its
# label names.
SCALE = (0.35, 1.0)
# Width of a random part relative to its height.
RATIO = (3 / 4, 4 / 3)
# Sizes that are drawn for a part until one fits the image.
TRIES = 10
# Parts of a batch that torchvision changes differently: it changes all images of a call alike.
GROUPS = 16


def augment(images: Tensor, how: str) -> Tensor:
    """Change each of the uint8 images (N, C, H, W) at random; C is 1 or 3.

    how: a value of the hyperparameter `augment`. All but "none" flip half of the images. "flip_crop" also
    shifts each image by up to an eighth of its height, "flip_resized_crop" enlarges a part of it, and
    "trivial" and "randaugment" apply torchvision's TrivialAugmentWide and RandAugment to groups of images.
    """
    if how == "none":
        return images
    # Reduced precision would move pixels: it rounds the coordinates from which torchvision takes them.
    with torch.autocast(images.device.type, enabled=False):
        images = _flip(images)
        if how == "flip_crop":
            return _shift(images)
        if how == "flip_resized_crop":
            return enlarge(images, draw_boxes(images))
        return images if how == "flip" else in_groups(images, _transform(how))


def _flip(images: Tensor) -> Tensor:
    flips = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(flips.view(-1, 1, 1, 1), images.flip(-1), images)


def _shift(images: Tensor) -> Tensor:
    device, (count, channels, height, width) = images.device, images.shape
    border = max(1, height // 8)
    padded = F.pad(images, (border,) * 4)
    offsets = torch.randint(2 * border + 1, (2, count, 1), device=device)
    rows = offsets[0] + torch.arange(height, device=device)
    columns = offsets[1] + torch.arange(width, device=device)
    every = torch.arange(count, device=device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=device).view(1, -1, 1, 1)
    return padded[every, channel, rows[:, None, :, None], columns[:, None, None, :]]


def draw_boxes(images: Tensor) -> Tensor:
    """A random part of each image (N, C, H, W): its top, left, height and width in pixels, float32 (4, N).

    Areas and aspect ratios have the distribution of torchvision's RandomResizedCrop. If none of the sizes
    drawn for an image fits, its part is the largest with an allowed ratio, at a random place.
    """
    device, (count, _, height, width) = images.device, images.shape
    areas = height * width * torch.empty(count, TRIES, device=device).uniform_(*SCALE)
    ratios = torch.empty(count, TRIES, device=device).uniform_(*map(math.log, RATIO)).exp()
    largest = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    sizes = torch.stack([(areas / ratios).sqrt().round(), (areas * ratios).sqrt().round()])
    whole = torch.tensor([height, width], device=device).view(2, 1, 1)
    fits = (sizes <= whole).all(0)
    first = fits.int().argmax(1, keepdim=True)
    drawn = sizes.gather(2, first.expand(2, -1, -1)).squeeze(2)
    last_resort = torch.tensor(largest, device=device, dtype=drawn.dtype).view(2, 1)
    size = torch.where(fits.any(1), drawn, last_resort)
    room = whole.squeeze(2) - size
    # Rounding may give the product its upper bound.
    place = (torch.rand(2, count, device=device) * (room + 1)).floor().minimum(room)
    return torch.cat([place, size])


def enlarge(images: Tensor, boxes: Tensor) -> Tensor:
    """The parts of uint8 images (N, C, H, W) in `boxes` (4, N), see draw_boxes, at the size of the images.

    Bilinear. No part is larger than its image, so nothing is shrunk, and antialiasing would change nothing.
    """
    height, width = images.shape[2:]
    top, left, box_height, box_width = boxes
    rows = _coordinates(top, box_height, height)[:, :, None].expand(-1, -1, width)
    columns = _coordinates(left, box_width, width)[:, None, :].expand(-1, height, -1)
    grid = torch.stack([columns, rows], dim=3)
    pixels = F.grid_sample(images.float(), grid, "bilinear", "border", align_corners=False)
    return pixels.round_().to(torch.uint8)


def _coordinates(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where the `size` pixels of an enlarged side lie in the image (N, size), -1 and 1 being its edges.

    start, length: of the part (N,) in pixels. Its edges repeat its outermost pixels, not what lies beyond.
    """
    centres = (torch.arange(size, device=start.device) + 0.5) * (length / size)[:, None] - 0.5
    pixels = start[:, None] + centres.clamp(min=0).minimum(length[:, None] - 1)
    return (2 * pixels + 1) / size - 1


def in_groups(images: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """The images (N, C, H, W) after a transform that draws once for each of GROUPS groups of them.

    Batches come in random order, so neighbours make a random group. In a batch of fewer images, each is a
    group.
    """
    return torch.cat([transform(group) for group in images.tensor_split(min(GROUPS, len(images)))])


def _transform(how: str) -> Callable[[Tensor], Tensor]:
    # Most runs do without it.
    from torchvision.transforms import v2

    transform: Callable[[Tensor], Tensor]
    transform = v2.TrivialAugmentWide() if how == "trivial" else v2.RandAugment()
    return transform
