"""Which layers of a model train, and the mode of those that do not."""

from __future__ import annotations

from typing import Any

from timm.models import group_parameters
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError


def freeze(model: nn.Module, config: RunConfig) -> None:
    """Freeze all but the classifier and the stages that the config opens.

    Stages are timm's own layer groups, stem first: a stage of a ResNet, a block of a ViT. Layers between the
    last stage and the classifier, such as a final norm or convolution, open with the last stage.
    """
    count = config.stages_to_open
    if count is None:
        return
    trainable = set(last_stages(model, count)) if count else set()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in trainable
    for classifier in classifiers(model):
        classifier.requires_grad_(True)


def last_stages(model: nn.Module, count: int) -> list[str]:
    """Names of the parameters of the last `count` stages and of the layers after them.

    InputError if timm does not define the model's stages, or if it has fewer.
    """
    timm_model: Any = model
    try:
        # timm raises these for models without groups: the method is missing, not implemented, or asserts.
        groups = group_parameters(model, timm_model.group_matcher(coarse=True), reverse=False)
    except (AttributeError, AssertionError, NotImplementedError) as error:
        name = timm_model.pretrained_cfg["architecture"]
        raise InputError(f"unfreeze: timm does not define the stages of {name}; use all") from error
    *stages, head = [names for _, names in sorted(groups.items())]
    if count > len(stages):
        raise InputError(f"unfreeze: got {count}, the model has {len(stages)} stages")
    return [name for names in [*stages[len(stages) - count :], head] for name in names]


def classifiers(model: nn.Module) -> tuple[nn.Module, ...]:
    """The model's classifier; a distilled transformer has two."""
    timm_model: Any = model
    classifier = timm_model.get_classifier()
    return tuple(classifier) if isinstance(classifier, tuple | list) else (classifier,)


def train_mode(model: nn.Module, norm: str) -> None:
    """Set train mode, but eval mode for frozen modules unless `norm` is "batch".

    In train mode, the running statistics of a frozen BatchNorm would drift in spite of requires_grad=False.
    """
    model.train()
    if norm != "batch":
        for module in model.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
