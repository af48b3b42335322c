"""State dicts of torchvision for those timm models that are the same network with other names of tensors.

resnet*, wide_resnet*, resnext*, densenet*, inception_v3, vgg* and regnet* are not here: their names are the
same, or timm converts them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

import timm
import torch
from torch import Tensor, nn

# timm's name: torchvision's. A test compares the outputs of each pair.
SAME_NETWORKS = {
    "convnext_tiny": "convnext_tiny",
    "convnext_small": "convnext_small",
    "convnext_base": "convnext_base",
    "convnext_large": "convnext_large",
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_b1": "efficientnet_b1",
    "efficientnet_b2": "efficientnet_b2",
    "efficientnet_b3": "efficientnet_b3",
    "efficientnet_b4": "efficientnet_b4",
    "efficientnet_b5": "efficientnet_b5",
    "efficientnet_b6": "efficientnet_b6",
    "efficientnet_b7": "efficientnet_b7",
    "efficientnetv2_s": "efficientnet_v2_s",
    "efficientnetv2_m": "efficientnet_v2_m",
    "efficientnetv2_l": "efficientnet_v2_l",
    "mnasnet_050": "mnasnet0_5",
    "mnasnet_075": "mnasnet0_75",
    "mnasnet_100": "mnasnet1_0",
    "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv3_large_100": "mobilenet_v3_large",
    "mobilenetv3_small_100": "mobilenet_v3_small",
    "swin_tiny_patch4_window7_224": "swin_t",
    "swin_small_patch4_window7_224": "swin_s",
    "swin_base_patch4_window7_224": "swin_b",
    "vit_base_patch16_224": "vit_b_16",
    "vit_base_patch32_224": "vit_b_32",
    "vit_large_patch16_224": "vit_l_16",
    "vit_large_patch32_224": "vit_l_32",
}
# Networks of both libraries that differ, so that the weights of one do not fit the other.
OTHER_NETWORKS = {
    "maxvit_tiny_tf_224": "maxvit_t",
    "swinv2_tiny_window8_256": "swin_v2_t",
    "swinv2_small_window8_256": "swin_v2_s",
    "swinv2_base_window8_256": "swin_v2_b",
}


def convert(tensors: Mapping[str, Tensor], architecture: str) -> dict[str, Tensor]:
    """Those of the tensors that have torchvision's names, by timm's names, for timm's default image size.

    Empty for an architecture that is not in SAME_NETWORKS, and for tensors with more layers than it has.
    """
    if architecture not in SAME_NETWORKS:
        return {}
    pairs = _pairs(architecture)
    names = [theirs for theirs, *_ in pairs]
    # The last tensor is the classifier's.
    parts = {name.partition(".")[0] for name in names} - {names[-1].partition(".")[0]}
    # Integers are indices and counters.
    layers = {name for name, tensor in tensors.items() if tensor.is_floating_point()}
    if any(name.partition(".")[0] in parts for name in layers.difference(names)):
        return {}
    converted = {}
    for theirs, ours, shape, variance in pairs:
        tensor = tensors.get(theirs)
        if tensor is not None and tensor.numel() == shape.numel():
            converted[ours] = tensor.reshape(shape) + variance if variance else tensor.reshape(shape)
    return converted


@cache
def _pairs(architecture: str) -> list[tuple[str, str, torch.Size, float]]:
    """Torchvision's and timm's name of each tensor, its shape in timm, and a number to add to it.

    Both libraries define the layers of these networks in the same order, so the tensors of equal length are
    paired by their order. The number makes up for another epsilon of a BatchNorm: its output depends only on
    the sum of variance and epsilon.
    """
    # Tensors without memory: only names and shapes count.
    with torch.device("meta"):
        theirs = _torchvision_model(SAME_NETWORKS[architecture])
        ours: nn.Module = timm.create_model(architecture, num_classes=1000)
    names = defaultdict(list)
    for name, tensor in theirs.state_dict().items():
        names[_lengths(tensor)].append(name)
    pairs = []
    for name, tensor in ours.state_dict().items():
        other = names[_lengths(tensor)].pop(0)
        variance = _epsilon(theirs, other) - _epsilon(ours, name) if name.endswith("running_var") else 0.0
        pairs.append((other, name, tensor.shape, variance))
    return pairs


def _torchvision_model(name: str) -> nn.Module:
    # Loaded only here: most weights have timm's names.
    import torchvision

    model: nn.Module = torchvision.models.get_model(name, weights=None)
    return model


def _lengths(tensor: Tensor) -> tuple[int, int]:
    return (len(tensor) if tensor.ndim else 0), tensor.numel()


def _epsilon(model: nn.Module, name: str) -> float:
    norm: Any = model.get_submodule(name.rpartition(".")[0])
    return float(norm.eps)
