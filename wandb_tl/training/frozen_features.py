"""What the classifier of a frozen model gets for each image, and how long the model takes for an image."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import devices, freezing, frozen_part, models
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.inputs import Inputs
from wandb_tl.training.memory import Parts
from wandb_tl.training.probe import Features

# Batches whose time is measured, and the seconds after which no further one is.
TIMED_BATCHES, TIMED_SECONDS = 7, 5.0


@dataclass(frozen=True)
class FrozenModel:
    """The features of training and validation images, and the cost of a model.

    milliseconds: per image of a batch, from its pixels to its logits, without decoding; of the fastest of
    several batches, because other work on the machine only adds to it. parameters: of the model with its
    classifier.
    """

    train: Features
    val: Features
    milliseconds: float
    parameters: int


def of_model(
    config: RunConfig, data: Dataset, device: torch.device, activations: ActivationCache
) -> FrozenModel:
    """The features that the model of a config computes, from the cache where a run has stored them.

    Test images are not read. InputError for a model that cannot be built, does not accept the image size, or
    computes no features.
    """
    assert data.val is not None, "validation images judge the models"
    model = models.build(config, len(data.class_names)).to(device)
    precision = devices.resolve_precision(config.precision, device)
    # The frozen part is computed for each split that there is.
    seen = dataclasses.replace(data, test=data.val, test_is_val=True)
    trainable, inputs = frozen_part.freeze_and_cache(config, seen, model, device, precision, activations)
    trainable.eval()
    autocast, chunk = devices.make_autocast(device, precision), devices.chunk_size(device, config.image_size)
    with torch.no_grad(), autocast():
        train, val = (_features(model, trainable, inputs[name], chunk) for name in ("train", "val"))
        if not (train.rows.isfinite().all() and val.rows.isfinite().all()):
            raise InputError(f"precision: the features of {config.model_name} are not finite in {precision}")
        milliseconds = _milliseconds(trainable, inputs["train"], chunk)
    return FrozenModel(train, val, milliseconds, sum(weight.numel() for weight in model.parameters()))


def _features(model: nn.Module, trainable: nn.Module, inputs: Inputs, chunk: int) -> Features:
    """The features (N, D) of all images of a split, in float32."""
    # The trainable half is a module of the model, or a copy of the model with other modules.
    inside = {id(module) for module in trainable.modules()}
    classifiers = [one for one in freezing.classifiers(model) if id(one) in inside]
    memory = Parts("features")
    with _inputs_of(classifiers or freezing.classifiers(trainable)) as received:

        def compute(parts: list[Tensor]) -> Tensor:
            rows = []
            for index in parts:
                received.clear()
                trainable(inputs.batch(index))
                if not received:
                    raise InputError("model_name: its classifier is not a module that it calls")
                # A distilled transformer has two classifiers, and averages their logits.
                rows.append(torch.cat(received, 1))
            return torch.cat(rows)

        indices = torch.arange(len(inputs), device=inputs.labels.device).split(chunk)
        return Features(torch.cat([memory.run(compute, index) for index in indices]), inputs.labels)


@contextmanager
def _inputs_of(modules: tuple[nn.Module, ...] | list[nn.Module]) -> Iterator[list[Tensor]]:
    """In the block, each call of one of the modules appends its input to the list, a row (D,) per image."""
    received: list[Tensor] = []

    def receive(_: nn.Module, values: tuple[Tensor, ...]) -> None:
        received.append(_row_per_image(values[0].float()))

    hooks = [module.register_forward_pre_hook(receive) for module in modules]
    try:
        yield received
    finally:
        for hook in hooks:
            hook.remove()


def _row_per_image(values: Tensor) -> Tensor:
    """Inputs of a classifier as (N, D): the mean over tokens (N, T, D) or positions (N, D, H, W)."""
    if values.dim() == 3:
        return values.mean(1)
    return values.flatten(2).mean(2) if values.dim() > 3 else values


def _milliseconds(trainable: nn.Module, inputs: Inputs, chunk: int) -> float:
    """Milliseconds per image that the whole model takes, computed now and not read from the cache."""
    images = inputs.images[:chunk]
    index = torch.arange(len(images))
    memory = Parts("measurement")

    def compute(parts: list[Tensor]) -> None:
        for part in parts:
            trainable(inputs.compute(images[part.to(images.device)]))
        if inputs.labels.device.type != "cpu":
            torch.accelerator.synchronize(inputs.labels.device)

    seconds = _times(partial(memory.run, compute, index))
    return 1000 * min(seconds) / len(images)


def _times(work: Callable[[], object]) -> list[float]:
    """The seconds that repetitions of some work take, after a first one that is slower."""
    work()
    times: list[float] = []
    while len(times) < TIMED_BATCHES and (not times or sum(times) < TIMED_SECONDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return times
