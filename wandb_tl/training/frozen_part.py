"""The frozen part of a run: its statistics fixed, cut off, and computed once per image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.training import convolutions, cutting, devices, digests, freezing, models
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.calibration import calibrate
from wandb_tl.training.cutting import Halves
from wandb_tl.training.datasets import Dataset, Split
from wandb_tl.training.inputs import FrozenPart, Inputs
from wandb_tl.training.preprocess import Preprocess


def freeze_and_cache(
    config: RunConfig,
    data: Dataset,
    model: nn.Module,
    device: torch.device,
    precision: str,
    activations: ActivationCache,
    is_trained: bool = False,
) -> tuple[nn.Module, dict[str, Inputs]]:
    """Fix the statistics of the frozen part, cut it off, and compute it once per image where possible.

    Returns the trainable part and its inputs by split: "train", "val" if there is one, "test". is_trained:
    whether the model has been trained, so that its statistics are fixed already.
    """
    preprocess = models.preprocess(model, config.image_size, device)
    autocast = devices.make_autocast(device, precision)
    conditions = {"model": config.model_name, "precision": precision}
    if config.model_arguments:
        # Such as the number of heads, which neither the weights nor the names of the modules show.
        conditions["model_kwargs"] = config.model_kwargs
    example = example_of(preprocess, config.image_size)
    if config.is_own_model:
        conditions["features"] = _features_digest(model, example)
    if config.norm_in_effect == "calibrated" and not is_trained:
        calibrate(model, data.train, preprocess, autocast, conditions, activations)
    halves = halves_of(config, model, example)
    if halves is None:
        _print_why_whole(config)
    networks = frozen_networks(config, model, halves, example) if halves else []
    chunk = devices.chunk_size(device, config.image_size)
    parts = [FrozenPart(network, autocast, chunk, conditions) for network in networks]
    splits = {"train": data.train, "val": data.val, "test": data.test}
    inputs = {
        name: inputs_of(split, preprocess, parts, activations)
        for name, split in splits.items()
        if split is not None
    }
    if halves:
        _cache(config, inputs, halves.boundary)
    activations.free_for_training(device, [part.rows for part in inputs.values()])
    trainable = halves.trainable if halves else model
    if device.type == "cpu":
        convolutions.train_on_cpu(trainable)
    return trainable, inputs


def example_of(preprocess: Preprocess, image_size: int) -> Tensor:
    """Two images of noise, preprocessed, with which both a run and its predictions verify the cut.

    With the same example, both decide alike whether BatchNorms can be folded.
    """
    noise = torch.randint(256, (2, 3, image_size, image_size), generator=torch.Generator().manual_seed(0))
    return preprocess(noise.to(torch.uint8))


def _features_digest(model: nn.Module, example: Tensor) -> str:
    """A digest of what the classifier gets for an example: it depends on the code of a network as well."""
    features: list[Tensor] = []
    hooks = [
        classifier.register_forward_pre_hook(lambda _, values: features.append(values[0]))
        for classifier in freezing.classifiers(model)
    ]
    try:
        with torch.no_grad():
            model.eval()(example)
    finally:
        for hook in hooks:
            hook.remove()
    return digests.tensors_digest({str(number): tensor for number, tensor in enumerate(features)})


def frozen_networks(config: RunConfig, model: nn.Module, halves: Halves, example: Tensor) -> list[nn.Module]:
    """The frozen part as one or two networks in a row, with their BatchNorms folded.

    Two if only the classifier trains: up to the last stage, and from there on. A recipe that opens the last
    stage computes the first of them as well, and may have stored its outputs.
    """
    outer = cutting.cut_before_last_stage(model, example) if config.stages_to_open == 0 else None
    if outer is not None:
        between = outer.frozen(example)
        trainable = [weight for weight in model.parameters() if weight.requires_grad]
        inner = cutting.cut(outer.trainable, between, trainable)
        if inner is not None and torch.equal(inner.frozen(between), halves.frozen(example)):
            return [
                convolutions.fold_batch_norms(outer.frozen, example),
                convolutions.fold_batch_norms(inner.frozen, between),
            ]
    return [convolutions.fold_batch_norms(halves.frozen, example)]


def inputs_of(
    split: Split, preprocess: Preprocess, parts: list[FrozenPart], activations: ActivationCache
) -> Inputs:
    """The inputs of the trainable part behind these frozen parts; without one, the preprocessed images."""
    inputs = None
    for part in parts:
        inputs = Inputs(split, preprocess, part, activations, before=inputs)
    return Inputs(split, preprocess, None, activations) if inputs is None else inputs


def halves_of(config: RunConfig, model: nn.Module, example: Tensor) -> Halves | None:
    """The model cut where its frozen part ends; None if it has no frozen part that can be computed once."""
    if config.norm_in_effect == "batch" or config.stages_to_open is None:
        return None
    return cutting.cut(model, example)


def _print_why_whole(config: RunConfig) -> None:
    """Say why the frozen part of a model that has not been cut is computed every epoch."""
    if config.norm_in_effect == "batch":
        print("norm=batch: the outputs of the frozen layers depend on the batch and are not cached")
    elif config.stages_to_open is not None:
        print(f"{config.model_name} cannot be cut after its frozen layers: they are computed every epoch")


def _cache(config: RunConfig, inputs: dict[str, Inputs], boundary: str) -> None:
    """Compute the frozen part for every split, or say why it is computed every epoch."""
    for name, part in inputs.items():
        if name == "train" and config.augment != "none" and not config.is_probe:
            print(f"augment={config.augment}: the frozen layers see new training images every epoch")
        elif not part.cache(f"frozen layers before {boundary}, {name}"):
            print(f"{name} activations fit neither on disk nor in memory: they are computed every epoch")
