"""SHA-256 digests of tensors, weights and images, which make the keys of stored activations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor

from wandb_tl.training.preprocess import Preprocess
from wandb_tl.training.tensor_store import raw_bytes

# Increased whenever the same weights and images give other outputs than before, so that older entries are not
# used.
FORMAT = 1


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, types and shapes, as a hexadecimal string."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        # The number of batches that a BatchNorm has seen does not affect its output.
        if not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(raw_bytes(tensor.detach().cpu()))
    return digest.hexdigest()


def output_identity(weights: str, structure: str, preprocess: Preprocess, images: str) -> dict[str, Any]:
    """Everything that decides a network's outputs for images, as plain data.

    weights, images: their digests. structure: the network's modules as a string.
    """
    return {
        "weights": weights,
        "structure": hashlib.sha256(structure.encode()).hexdigest(),
        "images": images,
        "format": FORMAT,
        "image_size": preprocess.size,
        "scale": preprocess.scale.flatten().tolist(),
        "shift": preprocess.shift.flatten().tolist(),
        "device": preprocess.device.type,
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


def key(identity: Mapping[str, Any]) -> str:
    """The key under which a tensor of this identity is stored."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
