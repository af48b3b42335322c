"""Which image sizes and arguments a timm model accepts.

They are tried on PyTorch's meta device, which computes the shapes of tensors and not their values.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError, one_line
from wandb_tl.training.memory import is_out_of_memory

# Sizes that are tried for a refusal are multiples of these, which are strides and patch sizes of models.
STEPS = (32, 16, 14, 12, 8)
SMALLEST = 16
# How long to look for sizes that work, in seconds of processor time.
SEARCH_SECONDS = 4.0

Arguments = dict[str, Any]


def arguments(config: RunConfig, source: PretrainedCfg) -> Arguments:
    """The arguments of timm.create_model besides the name, the weights and the classes."""
    return _arguments(config, source, config.image_size)


def check(config: RunConfig, source: PretrainedCfg) -> None:
    """Raise InputError for arguments or an image size that the model or its weights do not accept."""
    name, size, own = config.model_name, config.image_size, int(source.input_size[-1])
    wanted = arguments(config, source)
    with refusals(config, source):
        _try(name, wanted, size)
    if config.weights_file or _weights_fit(name, source, wanted):
        return
    if config.model_arguments and not _weights_fit(name, source, config.model_arguments):
        raise InputError(
            f"model_kwargs: the pretrained weights of {name} do not fit {config.model_kwargs}; "
            f"leave it out, or use --pretrained False"
        )
    raise InputError(f"image_size: the pretrained weights of {name} do not fit {size} px; they fit {own} px")


@contextmanager
def refusals(config: RunConfig, source: PretrainedCfg) -> Iterator[None]:
    """Turn errors of building or running the model into InputErrors that say what it accepts.

    A model can fail in any way for images that are too small, or not a multiple of its patch size.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # wandb.agent stops a run by raising an Exception without a message somewhere in its thread.
        if is_out_of_memory(error) or type(error) is Exception:
            raise
        raise InputError(_reason(config, source, error)) from error


def _reason(config: RunConfig, source: PretrainedCfg, error: Exception) -> str:
    name, size, given = config.model_name, config.image_size, config.model_arguments
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unexpected and unexpected[1] in given:
        return f"model_kwargs: {name} does not take {unexpected[1]}"
    sizes = _sizes_that_work(config, source)
    if sizes and size not in sizes:
        *others, last = (f"{one} px" for one in sizes)
        words = f"{', '.join(others)} and {last}" if others else last
        return f"image_size: {name} does not accept {size} px; it accepts {words}"
    if given:
        return f"model_kwargs: {name} does not accept {config.model_kwargs} ({one_line(error)[:200]})"
    return f"image_size: {name} does not accept {size} px ({one_line(error)[:200]})"


def _sizes_that_work(config: RunConfig, source: PretrainedCfg) -> list[int]:
    """The size of the weights, and the nearest ones below and above the wanted size, as far as they work."""
    wanted, own = config.image_size, int(source.input_size[-1])
    end = time.process_time() + SEARCH_SECONDS
    below: list[int] = []
    above: list[int] = []
    for size in _neighbours(wanted):
        side = below if size < wanted else above
        if not side and size != own and time.process_time() < end and _works(config, source, size):
            side.append(size)
    return sorted([*below, *above, *([own] if _works(config, source, own) else [])])


def _neighbours(wanted: int) -> Iterator[int]:
    """The sizes to try: for each step the two nearest multiples below and above the wanted size."""
    for step in STEPS:
        nearest = wanted // step * step
        for size in (nearest, nearest + step, nearest - step, nearest + 2 * step):
            if size >= SMALLEST and size != wanted:
                yield size


def _works(config: RunConfig, source: PretrainedCfg, size: int) -> bool:
    try:
        _try(config.model_name, _arguments(config, source, size), size)
    except Exception:
        return False
    return True


def _try(name: str, arguments: Arguments, size: int) -> None:
    """Build and run a model with random weights, of which only the shapes are computed."""
    with torch.device("meta"), torch.no_grad():
        model = timm.create_model(name, **arguments).eval()
        model(torch.zeros(2, arguments.get("in_chans", 3), size, size))


def _weights_fit(name: str, source: PretrainedCfg, arguments: Arguments) -> bool:
    """Whether timm can load the weights, which have the shapes of the unchanged model, with the arguments."""
    if not set(arguments) - {"in_chans"} or arguments == {"img_size": source.input_size[-1]}:
        return True
    classes = source.num_classes
    with torch.device("meta"):
        weights = timm.create_model(name, num_classes=classes).state_dict()
        overlay = {"state_dict": weights, "num_classes": classes, "label_offset": 0}
        try:
            timm.create_model(
                name, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay, **arguments
            )
        except Exception as error:
            # Some of timm's conversions need the values of tensors. Then loading the real weights decides.
            return "Error(s) in loading state_dict" not in str(error)
    return True


def _arguments(config: RunConfig, source: PretrainedCfg, size: int) -> Arguments:
    # Models whose weights depend on the size have to know it.
    return config.model_arguments | ({"img_size": size} if source.fixed_input_size else {})
