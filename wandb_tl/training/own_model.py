"""A network that Python code hands over instead of naming a timm model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from wandb_tl.config import OWN_MODEL
from wandb_tl.errors import InputError, one_line
from wandb_tl.training import digests

# Characters of the digest in the name of a model.
DIGEST_LENGTH = 8


class OwnModel(nn.Module):
    """A copy of a network with the attributes of timm's models that this package uses.

    network: maps images (N, 3, S, S) with ImageNet's mean and deviation to logits (N, K), or to features if
    its head is replaced. head: the name of its classifier; its last Linear layer if empty. Its stages are its
    submodules up to the head; those of its only submodule if it has just one. InputError if there is no head.
    """

    def __init__(self, network: nn.Module, head: str = "") -> None:
        super().__init__()
        self.network = copy.deepcopy(network).cpu()
        self.head = head or _last_linear(network)
        try:
            self.network.get_submodule(self.head)
        except AttributeError as error:
            names = ", ".join(name for name, _ in network.named_children())
            raise InputError(f"head: the model has no layer {head}; it has {names}") from error
        content = digests.tensors_digest(network.state_dict())[:DIGEST_LENGTH]
        self.name: str = f"{OWN_MODEL}{type(network).__name__}-{content}"
        self.pretrained_cfg = {
            "architecture": self.name,
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
        }
        stages = _stages(self.network, self.head)
        self.feature_info = [{"module": f"network.{stage}"} for stage in stages]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def get_classifier(self) -> nn.Module:
        return self.network.get_submodule(self.head)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new Linear layer, unless it has as many classes already."""
        classifier = self.get_classifier()
        if isinstance(classifier, nn.Linear) and classifier.out_features != num_classes:
            new = nn.Linear(classifier.in_features, num_classes, classifier.bias is not None)
            self.network.set_submodule(self.head, new)

    def for_classes(self, num_classes: int, image_size: int, seed: int) -> OwnModel:
        """A copy for this number of classes. InputError if it does not classify images of this size."""
        model = copy.deepcopy(self)
        torch.manual_seed(seed)
        model.reset_classifier(num_classes)
        try:
            with torch.no_grad():
                logits = model.eval()(torch.zeros(2, 3, image_size, image_size))
        except Exception as error:
            # The forward pass of any network can fail in any way.
            raise InputError(
                f"model: {self.name} does not accept images (N, 3, {image_size}, {image_size}) "
                f"({one_line(error)[:200]}); another image_size or head may help"
            ) from error
        if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"model: {self.name} gives {shape} for two images of {num_classes} classes; name its last "
                "Linear layer as head"
            )
        return model

    def group_matcher(self, coarse: bool = False) -> Callable[[str], float]:
        """The number of the stage of each parameter, by its name; infinity for the head."""
        stages = _stages(self.network, self.head)

        def stage(parameter: str) -> float:
            name = parameter.removeprefix("network.")
            if name.startswith(f"{self.head}."):
                return math.inf
            # Parameters outside of the stages, such as a class token, belong to the first one.
            return next((n for n, one in enumerate(stages) if name.startswith(f"{one}.")), 0)

        return stage


def _last_linear(network: nn.Module) -> str:
    modules = network.named_modules()
    names: list[str] = [name for name, module in modules if name and isinstance(module, nn.Linear)]
    if not names:
        raise InputError("head: the model has no Linear layer; name the layer that classifies")
    return names[-1]


def _stages(network: nn.Module, head: str) -> list[str]:
    """Names of the submodules that have parameters besides the head, in their order."""
    prefix = ""
    while True:
        names = [
            f"{prefix}{name}"
            for name, module in network.get_submodule(prefix.rstrip(".")).named_children()
            if any(True for _ in module.parameters()) and f"{prefix}{name}" != head
        ]
        if len(names) != 1 or head.startswith(f"{names[0]}.") or not _has_children(network, names[0]):
            return names
        prefix = f"{names[0]}."


def _has_children(network: nn.Module, name: str) -> bool:
    return any(True for _ in network.get_submodule(name).children())
