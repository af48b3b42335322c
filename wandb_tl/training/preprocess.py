"""From uint8 images to the model's input: resize, normalise, augment; whole batches on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# The weights of red, green and blue in a grey picture: the luma of ITU-R BT.601, as in Pillow's mode "L".
LUMA = (0.299, 0.587, 0.114)


class Preprocess:
    """uint8 images (N, C, H, W) -> normalised float32 (N, D, size, size), channels last, on a device.

    C is 1 or 3. mean and std: one number for each of the D channels of the model's input, 3 or 1, for values
    between 0 and 1, as in a timm model's data config.
    """

    def __init__(
        self, size: int, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
    ) -> None:
        self.size = size
        self.device = device
        self.scale = (1 / (255 * torch.tensor(std, device=device))).view(-1, 1, 1)
        self.shift = (torch.tensor(mean, device=device) / torch.tensor(std, device=device)).view(-1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        pixels = images.to(self.device).float()
        height, width = images.shape[-2:]
        if len(self.scale) < images.shape[1]:
            pixels = grey(pixels)
        if (height, width) != (self.size, self.size):
            pixels = F.interpolate(
                pixels, (self.size, self.size), mode="bilinear", antialias=self.size < max(height, width)
            )
        # A grey image (C = 1) broadcasts to three channels here.
        return (pixels * self.scale - self.shift).contiguous(memory_format=torch.channels_last)


def grey(pixels: Tensor) -> Tensor:
    """The luma (N, 1, H, W) of floating-point red, green and blue (N, 3, H, W)."""
    channels = zip(LUMA, pixels.unbind(1), strict=True)
    red, green, blue = (weight * channel for weight, channel in channels)
    return (red + green + blue).unsqueeze(1)


def augment(images: Tensor, how: str) -> Tensor:
    """Flip each of the uint8 images (N, C, H, W) at random; "flip_crop" also shifts it by up to an eighth."""
    if how == "none":
        return images
    device, (count, channels, height, width) = images.device, images.shape
    flips = torch.rand(count, device=device) < 0.5
    images = torch.where(flips.view(-1, 1, 1, 1), images.flip(-1), images)
    if how == "flip":
        return images
    border = max(1, height // 8)
    padded = F.pad(images, (border,) * 4)
    offsets = torch.randint(2 * border + 1, (2, count, 1), device=device)
    rows = offsets[0] + torch.arange(height, device=device)
    columns = offsets[1] + torch.arange(width, device=device)
    every = torch.arange(count, device=device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=device).view(1, -1, 1, 1)
    return padded[every, channel, rows[:, None, :, None], columns[:, None, None, :]]
