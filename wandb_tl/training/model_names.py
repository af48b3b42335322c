"""Which timm models names and filters mean, and which of them have weights within reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import timm

from wandb_tl.errors import InputError
from wandb_tl.training import models, weights

# What makes a name a filter, as in the shell.
WILDCARDS = frozenset("*?[")


@dataclass(frozen=True)
class Reach:
    """The models whose weights can be loaded, and those that are left out, with the reason."""

    names: list[str]
    left_out: list[str]
    reason: str = ""


def expand(patterns: Sequence[str], pretrained: bool) -> list[str]:
    """The models that names and filters mean, each once. InputError for a name or a filter without a model.

    A filter such as resnet* means every architecture with its default weights. One with a dot, such as
    resnet50.*, means every one of the weights. Without pretrained weights, it means architectures.
    """
    members: dict[tuple[str | None, str | None], str] = {}
    for pattern in patterns:
        for name in _matching(pattern, pretrained) if WILDCARDS & set(pattern) else [pattern]:
            source = models.pretrained_source(name)
            members.setdefault((source.architecture, source.tag if pretrained else ""), name)
    return list(members.values())


def within_reach(names: Sequence[str]) -> Reach:
    """The models whose pretrained weights are on this machine; if the hub answers, all models."""
    absent = [name for name in names if not weights.are_here(name)]
    reason = weights.why_unreachable(absent[0]) if absent else ""
    if not reason:
        return Reach(list(names), [])
    return Reach([name for name in names if name not in absent], absent, reason)


def _matching(pattern: str, pretrained: bool) -> list[str]:
    architectures, dot, _ = pattern.partition(".")
    names: list[str] = timm.list_pretrained(pattern) if pretrained else timm.list_models(architectures)
    if not names:
        kind = "pretrained model" if pretrained else "model"
        raise InputError(f"{pattern}: timm has no {kind} of such a name")
    if not pretrained or dot:
        return names
    tags: dict[str, list[str]] = {}
    for name in names:
        tags.setdefault(name.partition(".")[0], []).append(name)
    return [_default(architecture, names) for architecture, names in tags.items()]


def _default(architecture: str, names: list[str]) -> str:
    """The name with the default weights of an architecture; the first name if those are not among them."""
    name = f"{architecture}.{models.pretrained_source(architecture).tag}"
    return name if name in names else names[0]
