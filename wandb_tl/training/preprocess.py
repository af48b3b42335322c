"""From uint8 images to the model's input: resize, normalise; whole batches on the device."""

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
