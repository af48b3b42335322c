"""The frozen part of a run: its statistics fixed, cut off, and computed once for every image it can be."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.training import activations, convolutions, cutting, datasets, devices, models
from wandb_tl.training.activations import Inputs


def freeze_and_cache(
    config: RunConfig,
    data: datasets.Dataset,
    model: nn.Module,
    device: torch.device,
    precision: str,
    autocast: Callable,
) -> tuple[nn.Module, dict[str, Inputs]]:
    """Fix the frozen part's statistics, cut it off, and compute it once for every image it can be.

    Returns the trainable part and what it is fed, by split: "train", "val" if there is one, "test".
    """
    preprocess = models.preprocess(model, config.image_size, device)
    chunk = devices.chunk_size(device, config.image_size)
    decided_by = {"model": config.model_name, "precision": precision}
    if config.norm_in_effect == "calibrated":
        activations.calibrate(model, data.train.images, preprocess, autocast, decided_by)
    halves = None
    if config.norm_in_effect == "batch":
        print("norm=batch: the frozen part's output changes with every batch, so it is never cached")
    elif config.stages_to_open is not None:
        example = preprocess(data.train.images[:2])
        halves = cutting.cut(model, example)
        if halves is None:
            print(f"{config.model_name} cannot be cut where its frozen part ends: it is computed every epoch")
    networks = frozen_parts(config, model, halves, example) if halves else [None]

    def fed(split: datasets.Split) -> Inputs:
        given = None
        for network in networks:
            given = Inputs(split, preprocess, network, autocast, before=given)
        return given

    splits = {"train": data.train, "val": data.val, "test": data.test}
    inputs = {name: fed(split) for name, split in splits.items() if split is not None}
    for name, part in inputs.items() if halves else ():
        if name == "train" and config.augment != "none":
            print(f"augment={config.augment}: the frozen part of the training images is computed every epoch")
        elif not part.cache(f"frozen part up to {halves.boundary}, {name}", chunk, decided_by):
            print(f"{name} activations fit nowhere: they are computed every epoch")
    activations.leave_room(device, inputs.values())
    trainable = halves.trainable if halves else model
    if device.type == "cpu":
        convolutions.train_on_cpu(trainable)
    return trainable, inputs


def frozen_parts(
    config: RunConfig, model: nn.Module, halves: cutting.Halves, example: Tensor
) -> list[nn.Module]:
    """The frozen part as the networks that it is made of, their BatchNorms folded.

    Two where only the classifier trains: up to the last stage, whose input a recipe that opens that stage has
    perhaps left, and from there on.
    """
    outer = cutting.cut_before_last_stage(model, example) if config.stages_to_open == 0 else None
    if outer is not None:
        between = outer.frozen(example)
        opened = [weight for weight in model.parameters() if weight.requires_grad]
        inner = cutting.cut(outer.trainable, between, opened)
        if inner is not None and torch.equal(inner.frozen(between), halves.frozen(example)):
            parts = ((outer.frozen, example), (inner.frozen, between))
            return [convolutions.fold_batch_norms(part, given) for part, given in parts]
    return [convolutions.fold_batch_norms(halves.frozen, example)]
