"""Cut a model where its frozen part ends, into a frozen and a trainable half."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wandb_tl.errors import InputError
from wandb_tl.training.freezing import classifiers, last_stages


@dataclass(frozen=True)
class Halves:
    """A model cut where its frozen part ends: model(x) == trainable(frozen(x)). Tensors are shared.

    boundary: name of the first module that trains whole.
    """

    frozen: nn.Module
    trainable: nn.Module
    boundary: str


def cut(model: nn.Module, example: Tensor, opened: Iterable[nn.Parameter] | None = None) -> Halves | None:
    """Cut the model before the first module that trains whole; None if its forward cannot be cut there.

    The frozen half is the model's own forward, ended where that module is called. The trainable half is the
    same forward with Identity in place of the modules of the frozen half. Not every architecture can be cut
    like this, so both halves are compared with the whole model on `example`, an input of it, in eval mode.
    opened: the parameters that count as trainable; by default those that require gradients.
    """
    model.eval()
    if opened is None:
        opened = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trains = {id(parameter) for parameter in opened}
    started, finished_before = _call_order(model, example)
    first = next((name for name in started if _trains_whole(model.get_submodule(name), trains)), None)
    if not first:
        return None
    # A trainable module may consist of pooling and one trainable layer: the pooling is frozen too.
    while (inside := _only_with_parameters(model, first)) in finished_before:
        first = inside
    earlier = [name for name in started if name in finished_before[first]]
    later = [name for name in started[started.index(first) :] if name not in earlier]
    ends_model = all(name == first or name.startswith(f"{first}.") for name in later)
    halves = Halves(
        frozen=_Until(model, first, later),
        trainable=model.get_submodule(first) if ends_model else _after(model, earlier),
        boundary=first,
    )
    if not trains <= {id(parameter) for parameter in halves.trainable.parameters()}:
        return None
    if getattr(model, "drop_rate", 0) and model.get_submodule(first) in classifiers(model):
        # The frozen half would end with the dropout of the classifier's input.
        return None
    try:
        with torch.no_grad():
            whole, parts = model(example), halves.trainable(halves.frozen(example))
    except Exception:
        # A forward that does more than call its modules in a row can fail here in any way.
        return None
    return halves if parts.shape == whole.shape and torch.equal(parts, whole) else None


def cut_before_last_stage(model: nn.Module, example: Tensor) -> Halves | None:
    """Cut the model where a recipe that opens the last stage cuts it; None if it cannot be cut there."""
    try:
        names = set(last_stages(model, 1))
    except InputError:
        return None
    return cut(model, example, [tensor for name, tensor in model.named_parameters() if name in names])


def _trains_whole(module: nn.Module, trains: set[int]) -> bool:
    """Whether a module has parameters, and all of them have one of these ids."""
    parameters = [id(parameter) for parameter in module.parameters()]
    return bool(parameters) and trains.issuperset(parameters)


def _only_with_parameters(model: nn.Module, name: str) -> str | None:
    """Name of the child that has all parameters of a module; None if there is no such child."""
    module = model.get_submodule(name)
    total = len(list(module.parameters()))
    holders = [child for child, part in module.named_children() if len(list(part.parameters())) == total]
    return f"{name}.{holders[0]}" if total and holders else None


def _call_order(model: nn.Module, example: Tensor) -> tuple[list[str], dict[str, set[str]]]:
    """Names of the modules in the order in which forward enters them, and for each those finished before."""
    started: list[str] = []
    finished: set[str] = set()
    finished_before: dict[str, set[str]] = {}

    def enter(name: str) -> None:
        if name not in finished_before:
            started.append(name)
            finished_before[name] = set(finished)

    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: enter(name)))
        hooks.append(module.register_forward_hook(lambda *_, name=name: finished.add(name)))
    try:
        with torch.no_grad():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return started, finished_before


class _BoundaryReached(Exception):
    """A forward pass has reached the boundary with this value."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


class _Boundary(nn.Module):
    """Takes the place of the first trainable module, and ends the forward pass there."""

    def forward(self, value: Tensor, **options: None) -> Tensor:
        if any(option is not None for option in options.values()):
            raise TypeError("the trainable part has more than one input")
        raise _BoundaryReached(value)


class _Until(nn.Module):
    """A model's forward up to the call of a module; its output is that module's input."""

    def __init__(self, model: nn.Module, first: str, later: list[str]) -> None:
        super().__init__()
        self.model = _without(model, [name for name in later if name != first])
        self.model.set_submodule(first, _Boundary())

    def forward(self, pixels: Tensor) -> Tensor:
        try:
            self.model(pixels)
        except _BoundaryReached as reached:
            return reached.value
        raise RuntimeError("the forward pass did not reach the boundary")


def _after(model: nn.Module, earlier: list[str]) -> nn.Module:
    """The model's forward without the earlier modules.

    A transformer adds its position embedding between them, in a method of its own, which is removed as well.
    """
    rest = _without(model, earlier)
    if hasattr(rest, "_pos_embed"):
        vars(rest)["_pos_embed"] = nn.Identity()
    return rest


def _without(model: nn.Module, names: list[str]) -> nn.Module:
    """A copy of the model that shares its tensors and has Identity in place of the named modules."""
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    half = copy.deepcopy(model, shared)
    for name in names:
        if not any(name.startswith(f"{outer}.") for outer in names):
            half.set_submodule(name, nn.Identity())
    return half
