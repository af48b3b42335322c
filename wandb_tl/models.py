"""Build a timm model, freeze it by the recipe, and split it where the frozen part ends."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from timm.models import PretrainedCfg, get_pretrained_cfg, group_parameters
from torch import Tensor, nn

from wandb_tl import weights
from wandb_tl.config import InputError, RunConfig, one_line
from wandb_tl.datasets import Preprocess


def build(config: RunConfig, num_classes: int) -> nn.Module:
    """The model of a run: weights loaded, a new classifier, what is frozen not requiring gradients.

    Weights are drawn from `config.seed`. InputError for a model or weights that cannot be had.
    """
    name = config.model_name
    _check_name(name)
    source = get_pretrained_cfg(name)
    options = {"img_size": config.image_size} if source.fixed_input_size else {}
    torch.manual_seed(config.seed)
    if config.pretrained:
        model = _build_pretrained(config, source, options)
        model.reset_classifier(num_classes)
    else:
        model = timm.create_model(name, num_classes=num_classes, **options)
        _open_residual_branches(model)
    _freeze(model, config)
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, 3, config.image_size, config.image_size))
    except Exception as error:
        # Whatever a forward does with images that are too small for it, or not a multiple of its patches.
        raise InputError(
            f"image_size: {name} takes no {config.image_size} px ({one_line(error)[:200]})"
        ) from error
    return model.to(memory_format=torch.channels_last)


def preprocess(model: nn.Module, image_size: int, device: torch.device) -> Preprocess:
    """What turns images into this model's input: its own mean and standard deviation."""
    data = resolve_model_data_config(model)
    return Preprocess(image_size, data["mean"], data["std"], device)


def classifiers(model: nn.Module) -> tuple[nn.Module, ...]:
    """The model's classifier; a distilled transformer has two."""
    found = model.get_classifier()
    return tuple(found) if isinstance(found, tuple | list) else (found,)


def train_mode(model: nn.Module, norm: str) -> None:
    """Train mode where something trains. Frozen modules stay in eval mode unless `norm` is "batch".

    requires_grad=False alone would let the running statistics of a frozen BatchNorm drift.
    """
    model.train()
    if norm != "batch":
        for module in model.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()


def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the statistics of every BatchNorm to those of the batches (as torch.optim.swa_utils.update_bn)."""
    torch.optim.swa_utils.update_bn(batches, model)
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            # What was estimated once is no different from what is estimated again.
            module.num_batches_tracked.zero_()


@dataclass(frozen=True)
class Halves:
    """A model cut where its frozen part ends: model(x) == trainable(frozen(x)). Tensors are shared.

    boundary: name of the first module that trains whole.
    """

    frozen: nn.Module
    trainable: nn.Module
    boundary: str


def split(model: nn.Module, example: Tensor, opened: Iterable[nn.Parameter] | None = None) -> Halves | None:
    """Cut the model before the first module that trains whole; None where its forward cannot be cut there.

    The frozen half is the model's own forward, ended where that module is called. The trainable half is the
    same forward with Identity in place of what the frozen half has done. Whether that is right for this
    architecture is not assumed but checked on `example`, an input of the model, in eval mode.
    opened: the parameters that count as training; by default those that require a gradient.
    """
    model.eval()
    if opened is None:
        opened = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trains = {id(parameter) for parameter in opened}
    started, finished_before = _call_order(model, example)
    first = next((name for name in started if _trains_whole(model.get_submodule(name), trains)), None)
    if not first:
        return None
    # What pools before the one layer that trains is frozen too.
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
        # The frozen half would end with the dropout of what the classifier is given.
        return None
    try:
        with torch.no_grad():
            whole, cut = model(example), halves.trainable(halves.frozen(example))
    except Exception:
        # A forward that does more than call its modules in a row fails here in whatever way it likes.
        return None
    return halves if cut.shape == whole.shape and torch.equal(cut, whole) else None


def split_before_last_stage(model: nn.Module, example: Tensor) -> Halves | None:
    """Cut the model where a recipe that opens the last stage does; None where that cannot be."""
    try:
        names = set(_last_stages(model, 1))
    except InputError:
        return None
    return split(model, example, [tensor for name, tensor in model.named_parameters() if name in names])


def trained_tensors(model: nn.Module, config: RunConfig) -> dict[str, Tensor]:
    """What cannot be had elsewhere: all of a model that began with random weights, else what trained.

    BatchNorm statistics count as trained unless they are the weights' own.
    """
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not config.pretrained:
        trained.update(model.state_dict())
    for module_name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if config.norm_in_effect != "source" or any(parameter.requires_grad for parameter in own):
            trained.update(f"{module_name}.{name}" for name, _ in module.named_buffers(recurse=False))
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name in trained}


def load_trained(folder: str | Path) -> tuple[nn.Module, RunConfig, list[str]]:
    """The model of a downloaded model artifact, in eval mode, with its config and class names.

    The frozen part of a pretrained model is not in the artifact: it comes from where it came from before.
    InputError where the two files do not fit each other.
    """
    description = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    config = RunConfig.from_mapping(description["config"])
    model = build(config, len(description["class_names"]))
    loaded = model.load_state_dict(load_file(Path(folder, "model.safetensors")), strict=False)
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if odd := [*loaded.unexpected_keys, *sorted(trains & set(loaded.missing_keys))]:
        raise InputError(f"{folder}: its model.safetensors is not of its config.json ({odd[0]})")
    return model.eval(), config, description["class_names"]


def _check_name(name: str) -> None:
    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"model_name: timm has no model {name!r}{hint}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(architecture)]
    if dot and (not tag or tag not in tags):
        raise InputError(
            f"model_name: {architecture} has no weights {tag!r}; it has {', '.join(tags) or 'none'}"
        )


def _build_pretrained(config: RunConfig, source: PretrainedCfg, options: dict) -> nn.Module:
    """The model with the classifier that its weights came with, so that timm checks every tensor's name."""
    tensors = weights.load(config.model_name, config.weights_file)
    bias = tensors.get(f"{source.classifier}.bias")
    classes = source.num_classes if bias is None else len(bias)
    overlay = {"state_dict": tensors, "num_classes": classes, "label_offset": 0}
    try:
        model = timm.create_model(
            config.model_name,
            pretrained=True,
            num_classes=classes,
            pretrained_cfg_overlay=overlay,
            **options,
        )
    except (RuntimeError, KeyError) as error:
        given = config.weights_file or "the pretrained weights"
        raise InputError(f"{given}: no weights of {config.model_name} ({one_line(error)[:200]})") from error
    # The model would keep, and every copy of it repeat, the tensors as they were read.
    model.pretrained_cfg["state_dict"] = None
    return model


def _open_residual_branches(model: nn.Module) -> None:
    """Undo timm's zero_init_last, which starts the last BatchNorm of each block at zero.

    It leaves a frozen random ResNet nothing but its stem and shortcuts. torchvision's ResNet, which the
    original experiment used, starts them at one.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine and not module.weight.any():
            nn.init.ones_(module.weight)


def _freeze(model: nn.Module, config: RunConfig) -> None:
    """Leave the classifier and the stages that the config opens trainable.

    Stages are timm's own layer groups, stem first: a stage of a ResNet, a block of a ViT. What a model has
    between its last stage and the classifier (a final norm or convolution) opens with the last stage.
    """
    count = config.stages_to_open
    if count is None:
        return
    opened = set(_last_stages(model, count)) if count else set()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in opened
    for classifier in classifiers(model):
        classifier.requires_grad_(True)


def _last_stages(model: nn.Module, count: int) -> list[str]:
    """Names of the parameters of the last stages and of what follows them."""
    try:
        groups = group_parameters(model, model.group_matcher(coarse=True), reverse=False)
    except (AttributeError, AssertionError, NotImplementedError) as error:
        name = model.pretrained_cfg["architecture"]
        raise InputError(f"unfreeze: timm knows no stages of {name}; it takes all") from error
    *stages, head = [names for _, names in sorted(groups.items())]
    if count > len(stages):
        raise InputError(f"unfreeze: got {count}, the model has {len(stages)} stages")
    return [name for names in [*stages[len(stages) - count :], head] for name in names]


def _trains_whole(module: nn.Module, trains: set[int]) -> bool:
    """Whether all parameters of a module, and it has some, are among those of these identities."""
    parameters = [id(parameter) for parameter in module.parameters()]
    return bool(parameters) and trains.issuperset(parameters)


def _only_with_parameters(model: nn.Module, name: str) -> str | None:
    """Name of the one child that holds all parameters of a module; None if there is no such child."""
    module = model.get_submodule(name)
    total = len(list(module.parameters()))
    holders = [child for child, part in module.named_children() if len(list(part.parameters())) == total]
    return f"{name}.{holders[0]}" if total and holders else None


def _call_order(model: nn.Module, example: Tensor) -> tuple[list[str], dict[str, set[str]]]:
    """Names of the modules in the order in which forward enters them, and which had finished by then."""
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


class _Reached(Exception):
    """A forward has come to the boundary, with this value."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


class _Boundary(nn.Module):
    """Stands where the trainable part begins, and ends the forward there."""

    def forward(self, value: Tensor, **options: None) -> Tensor:
        if any(option is not None for option in options.values()):
            raise TypeError("the trainable part is given more than one tensor")
        raise _Reached(value)


class _Until(nn.Module):
    """A model's forward up to where it calls a module; what it gives is that module's input."""

    def __init__(self, model: nn.Module, first: str, later: list[str]) -> None:
        super().__init__()
        self.model = _without(model, [name for name in later if name != first])
        self.model.set_submodule(first, _Boundary())

    def forward(self, pixels: Tensor) -> Tensor:
        try:
            self.model(pixels)
        except _Reached as reached:
            return reached.value
        raise RuntimeError("the forward did not come to the boundary")


def _after(model: nn.Module, earlier: list[str]) -> nn.Module:
    """The model's forward without what the earlier modules do.

    Nor a transformer's position embedding, which it does between them in a method of its own.
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
