"""The weights that a run has trained: which tensors they are, and the model that they make."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.pictures.colours import GreyLevels
from wandb_tl.training import models


def trained_tensors(model: nn.Module, config: RunConfig) -> dict[str, Tensor]:
    """The tensors that cannot be had elsewhere: all of a model with random weights, else what has trained.

    BatchNorm statistics count as trained unless they are those of the pretrained weights.
    """
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not config.pretrained:
        trained.update(model.state_dict())
    for module_name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if config.norm_in_effect != "source" or any(parameter.requires_grad for parameter in own):
            trained.update(f"{module_name}.{name}" for name, _ in module.named_buffers(recurse=False))
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name in trained}


def load_grey_levels(folder: str | Path) -> GreyLevels:
    """How the pictures that a model was trained on show deep grey, from its downloaded artifact."""
    description = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    values = description.get("grey_levels", {})
    return GreyLevels(**{name: (pair[0], pair[1]) for name, pair in values.items()})


def load_trained(folder: str | Path) -> tuple[nn.Module, RunConfig, list[str]]:
    """The model of a downloaded model artifact, in eval mode, with its config and class names.

    The artifact does not contain the frozen part of a pretrained model, which is loaded from its original
    source. InputError if model.safetensors and config.json do not match.
    """
    description = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    config = RunConfig.from_mapping(description["config"])
    model = models.build(config, len(description["class_names"]))
    mismatch = model.load_state_dict(load_file(Path(folder, "model.safetensors")), strict=False)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if names := [*mismatch.unexpected_keys, *sorted(trainable & set(mismatch.missing_keys))]:
        raise InputError(f"{folder}: model.safetensors does not match config.json ({names[0]})")
    return model.eval(), config, description["class_names"]
