"""Load the weights of a file into a model, by rules about names instead of a list of formats.

Of all state dicts in the file, and of all prefixes of their names, those with the most tensors of the model
are taken. What else the file has is left out.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN
from timm.models import adapt_input_conv, get_pretrained_cfg
from torch import Tensor, nn

from wandb_tl.errors import InputError
from wandb_tl.training import torchvision_names
from wandb_tl.training.freezing import classifiers
from wandb_tl.training.weights_file import WeightsFile

StateDict = dict[str, Tensor]

# A second copy of the weights in a file, which is taken if the first one does not fit.
COPY = re.compile(r"(^|[._])(ema|momentum|average|target|student|k)([._]|$)")
# A classifier has a weight and a bias; that of a distilled transformer has two of each.
CLASSIFIER_TENSORS = 4
# Image sizes that models are made for.
SIZES = (224, 384, 256, 448, 336, 288, 320, 512, 192, 160, 128, 96, 64, 32)


Conversion = Callable[[StateDict], StateDict]


@dataclass(frozen=True)
class Layout:
    """Names that weights may have. convert: gives them the names of timm; it may fail in any way."""

    words: str
    convert: Conversion


@dataclass(frozen=True)
class Reading:
    """One way to read a file for a model.

    words: the place of its state dict, the prefix and layout of the names. tensors: by timm's names. fitting:
    those names that the model has with this shape. strange: those of layers that the model does not have
    between its own. outside: names of tensors without the prefix.
    """

    words: str
    tensors: StateDict
    fitting: set[str]
    strange: list[str]
    outside: list[str]


def load(model: nn.Module, weights: WeightsFile, model_name: str) -> str:
    """Load weights into a model, which keeps its own classifier unless the weights have it, too.

    Returns a line about what matched. InputError if a tensor of the model is missing in the file or has
    another shape.
    """
    floats = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    head = set() if weights.has_classifier else _classifier_names(model)
    # The counters of BatchNorm, which are integers, change no output.
    wanted = {name: tensor for name, tensor in floats.items() if name not in head}
    best = _best_reading(model, weights, model_name, wanted)
    if len(best.fitting) < len(wanted) or best.strange:
        raise InputError(f"{weights.origin}: {_refusal(best, wanted, weights, model_name)}")
    model.load_state_dict({name: best.tensors[name] for name in wanted}, strict=False)
    left_out = [*best.outside, *(name for name in best.tensors if name not in model.state_dict())]
    return (
        f"weights: {len(wanted)} of {len(floats)} tensors of {model_name} from {weights.origin}{best.words}; "
        f"its classifier is {'kept' if weights.has_classifier else 'new'}"
        + (f"; left out: {len(left_out)} tensors such as {left_out[0]}" if left_out else "")
        + (_other_mean(model_name) if "torchvision" in best.words else "")
    )


def _classifier_names(model: nn.Module) -> set[str]:
    heads = classifiers(model)
    return {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if any(module is head for head in heads)
        for own in module.state_dict()
    }


def _best_reading(model: nn.Module, weights: WeightsFile, model_name: str, wanted: StateDict) -> Reading:
    """The first reading that has all wanted tensors and nothing strange; else the one that is closest."""
    best = Reading("", {}, set(), [], [])
    for reading in _readings(model, weights, model_name, wanted):
        if (len(reading.fitting), -len(reading.strange)) > (len(best.fitting), -len(best.strange)):
            best = reading
        if len(best.fitting) == len(wanted) and not best.strange:
            break
    return best


def _readings(
    model: nn.Module, weights: WeightsFile, model_name: str, wanted: StateDict
) -> Iterator[Reading]:
    roots = [
        (place, prefix, tensors)
        for place, tensors in weights.state_dicts.items()
        for prefix in _prefixes(tensors, len(wanted) // 2)
    ]
    roots.sort(key=lambda root: COPY.search(f"{root[0]}.{root[1]}") is not None)
    for layout in _layouts(model, model_name):
        for place, prefix, tensors in roots:
            inside = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
            try:
                converted = _adapt_input(layout.convert(inside), model, wanted)
            except Exception:
                # timm's filters raise anything for weights of another layout.
                continue
            fitting = {name for name, tensor in wanted.items() if _fits(converted.get(name), tensor)}
            words = [place, f"prefix '{prefix}'" if prefix else "", layout.words]
            text = ", ".join(word for word in words if word)
            outside = [name for name in tensors if not name.startswith(prefix)]
            strange = _strange(converted, model, wanted)
            yield Reading(f" ({text})" if text else "", converted, fitting, strange, outside)


def _strange(tensors: StateDict, model: nn.Module, wanted: StateDict) -> list[str]:
    """Names of tensors that the model does not have, in a part of it that has others and no classifier.

    The weights of a ResNet-34 have all tensors of a ResNet-18, and more of them in the same stages. Single
    numbers, such as the counts of a profiler, are not layers.
    """
    parts = {name.partition(".")[0] for name in wanted}
    parts -= {name.partition(".")[0] for name in _classifier_names(model)}
    names = model.state_dict().keys()
    return [
        name
        for name, tensor in tensors.items()
        if name not in names
        and name.partition(".")[0] in parts
        and tensor.is_floating_point()
        and tensor.numel() > 1
    ]


def _prefixes(tensors: StateDict, least: int) -> list[str]:
    """All prefixes up to a dot with at least this many tensors, the empty one first."""
    counts: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        counts.update(".".join(parts[:depth]) + "." for depth in range(1, len(parts)))
    return ["", *(prefix for prefix, count in counts.items() if count >= least)]


def _layouts(model: nn.Module, model_name: str) -> Iterator[Layout]:
    """The names of timm and of torchvision, each as they are and after timm's conversion.

    timm converts earlier and original formats, and position embeddings of other image sizes.
    """
    renamings: dict[str, Conversion] = {
        "": dict,
        "torchvision's names": partial(torchvision_names.convert, architecture=model_name.partition(".")[0]),
    }
    conversions: dict[str, Conversion] = {"": dict, "converted by timm": partial(_filtered, model=model)}
    for renaming, rename in renamings.items():
        for conversion, convert in conversions.items():
            words = ", ".join(word for word in (renaming, conversion) if word)
            yield Layout(words, partial(_chained, rename=rename, convert=convert))


def _chained(tensors: StateDict, rename: Conversion, convert: Conversion) -> StateDict:
    return convert(rename(tensors))


def _filtered(tensors: StateDict, model: nn.Module) -> StateDict:
    """The tensors by the function that timm passes its own downloads through, which has several names."""
    for name, function in inspect.getmembers(sys.modules[type(model).__module__], inspect.isfunction):
        parameters = list(inspect.signature(function).parameters)
        if "filter" in name and parameters[:1] == ["state_dict"]:
            return dict(function(tensors, model) if "model" in parameters else function(tensors))
    return tensors


def _adapt_input(tensors: StateDict, model: nn.Module, wanted: StateDict) -> StateDict:
    """Adapt the first convolutions to the number of channels of the model's images, as timm does."""
    timm_model: Any = model
    first = timm_model.pretrained_cfg.get("first_conv") or ()
    for layer in (first,) if isinstance(first, str) else first:
        weight, target = tensors.get(f"{layer}.weight"), wanted.get(f"{layer}.weight")
        if weight is None or target is None or weight.ndim != 4 or weight.shape[1] == target.shape[1]:
            continue
        channels = target.shape[1]
        if weight.shape[1] == 1:
            tensors[f"{layer}.weight"] = weight.repeat(1, channels, 1, 1) / channels
        elif weight.shape[1] == 3:
            tensors[f"{layer}.weight"] = adapt_input_conv(channels, weight)
    return tensors


def _fits(tensor: Tensor | None, target: Tensor) -> bool:
    return tensor is not None and tensor.is_floating_point() and tensor.shape == target.shape


def _refusal(best: Reading, wanted: StateDict, weights: WeightsFile, model_name: str) -> str:
    """Why the best reading of a file is not enough."""
    missing = [name for name in wanted if name not in best.tensors]
    misshaped = [name for name in wanted if name in best.tensors and name not in best.fitting]
    is_close = len(best.fitting) >= len(wanted) / 2
    if is_close and misshaped and not (missing or best.strange):
        shapes = {name: best.tensors[name].shape for name in misshaped}
        if size := _size_that_fits(model_name, shapes):
            return f"these weights are for image_size={size}, and {model_name} does not convert them"
    if is_close and missing and not (misshaped or best.strange):
        some = f"{len(missing)} of {len(wanted)} tensors of {model_name}, such as {missing[0]}"
        return f"lacks {some}; it must have all but the classifier"
    if not is_close and (pair := _other_names(best, wanted, weights)):
        theirs, ours = pair
        return f"has other names than {model_name}: {theirs} where timm has {ours}; rename the tensors"
    details = [
        *(f"{name} is {_shape(best.tensors[name])} and not {_shape(wanted[name])}" for name in misshaped),
        *(f"{name}, {_shape(wanted[name])}, is missing" for name in missing),
        *(f"{name} has no place in it" for name in best.strange),
    ]
    # The first and the last: two of the same block would tell less.
    some = ", ".join([details[0], *details[-1:]] if len(details) > 1 else details)
    other = torchvision_names.OTHER_NETWORKS.get(model_name.partition(".")[0])
    hint = f"; torchvision's {other} is another network" if other else ""
    return f"these weights are not of {model_name}: {some}{hint}"


def _shape(tensor: Tensor) -> str:
    return "x".join(str(length) for length in tensor.shape) or "a number"


def _size_that_fits(model_name: str, shapes: Mapping[str, torch.Size]) -> int | None:
    """The image size at which the model's tensors have these shapes, if its size decides them."""
    source = get_pretrained_cfg(model_name)
    if source is None or not source.fixed_input_size:
        return None
    for size in (source.input_size[-1], *SIZES):
        try:
            # Tensors without memory: only their shapes count.
            with torch.device("meta"):
                state = timm.create_model(model_name, img_size=size).state_dict()
        except Exception:
            # A model of another size may fail in any way.
            continue
        if all(state[name].shape == shape for name, shape in shapes.items()):
            return int(size)
    return None


def _other_names(best: Reading, wanted: StateDict, weights: WeightsFile) -> tuple[str, str] | None:
    """The names in the file and in the model of one shape, if the file has just the shapes of the model."""
    needed = Counter(tensor.shape for tensor in wanted.values())
    for tensors in weights.state_dicts.values():
        floats = {name: tensor.shape for name, tensor in tensors.items() if tensor.is_floating_point()}
        if needed <= Counter(floats.values()) and len(floats) <= len(wanted) + CLASSIFIER_TENSORS:
            ours = next(name for name in wanted if name not in best.fitting)
            theirs = next(name for name, shape in floats.items() if shape == wanted[ours].shape)
            return theirs, ours
    return None


def _other_mean(model_name: str) -> str:
    """A note if images would not be normalised as torchvision's weights expect them."""
    source = get_pretrained_cfg(model_name)
    if source is None or source.mean == IMAGENET_DEFAULT_MEAN or "inception" in model_name:
        return ""
    architecture = model_name.partition(".")[0]
    tags = [get_pretrained_cfg(name) for name in timm.list_pretrained(architecture)]
    fits = [f"{architecture}.{tag.tag}" for tag in tags if tag and tag.mean == IMAGENET_DEFAULT_MEAN]
    advice = f"; model_name={fits[0]} normalises them so" if fits else ""
    return f". torchvision normalises images by ImageNet's mean, and {model_name} by {source.mean}{advice}"
