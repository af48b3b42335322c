"""The exact probe in a run: the features of a frozen network, and a classifier that is fitted on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import frozen_part, probe
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.devices import chunk_size
from wandb_tl.training.evaluate import evaluate
from wandb_tl.training.freezing import freeze
from wandb_tl.training.inputs import Inputs
from wandb_tl.training.memory import Parts
from wandb_tl.training.probe import Features


def linear_classifier(config: RunConfig, trainable: nn.Module) -> nn.Linear:
    """The trainable part, which must be one linear layer. InputError if it is not."""
    if isinstance(trainable, nn.Linear):
        return trainable
    option = "optimizer" if config.is_probe else "classifier_start"
    reason = "norm=batch changes the features with every batch"
    if config.norm_in_effect != "batch":
        reason = f"{config.model_name} does more than one linear layer after its frozen layers"
    raise InputError(f"{option}: probe cannot fit this classifier: {reason}")


def features_of(inputs: Inputs, image_size: int) -> Features:
    """The inputs of the classifier for all images of a split, in float32.

    What is not cached is computed in parts that fit the memory.
    """
    device, memory = inputs.labels.device, Parts("features")

    def rows(parts: list[Tensor]) -> Tensor:
        return torch.cat([inputs.batch(index).float() for index in parts])

    every = torch.arange(len(inputs), device=device)
    with torch.no_grad():
        chunks = [memory.run(rows, index) for index in every.split(chunk_size(device, image_size))]
    return Features(torch.cat(chunks), inputs.labels)


def fit(config: RunConfig, classifier: nn.Linear, inputs: Mapping[str, Inputs]) -> dict[str, float]:
    """Give the classifier the weights of the probe; returns its metrics of training, and those of neighbours.

    Test images choose nothing.
    """
    splits = {name: features_of(part, config.image_size) for name, part in inputs.items()}
    train = splits["train"]
    fitted = probe.fit(train, splits.get("val"), classifier.out_features)
    _set(classifier, fitted)
    result = evaluate(fitted.logits(train.rows), train.labels)
    metrics = {"train/loss": result.loss, "train/accuracy": result.accuracy}
    for name in ("val", "test"):
        if name in splits:
            votes = probe.knn_scores(train, splits[name].rows, classifier.out_features)
            hits = votes.argmax(1) == splits[name].labels
            metrics[f"{name}/knn_accuracy"] = hits.float().mean().item()
    return metrics | {"probe/penalty": fitted.penalty}


def start_classifier(
    config: RunConfig,
    data: Dataset,
    model: nn.Module,
    device: torch.device,
    precision: str,
    activations: ActivationCache,
) -> None:
    """Give the classifier of a model the weights of the probe, before anything else of the model trains."""
    frozen = dataclasses.replace(
        config, finetuning=False, augment="none", optimizer="probe", classifier_start="random"
    )
    trains = [weight.requires_grad for weight in model.parameters()]
    freeze(model, frozen)
    trainable, inputs = frozen_part.freeze_and_cache(frozen, data, model, device, precision, activations)
    classifier = linear_classifier(config, trainable)
    splits = {name: features_of(part, config.image_size) for name, part in inputs.items() if name != "test"}
    _set(classifier, probe.fit(splits["train"], splits.get("val"), classifier.out_features))
    for weight, is_trained in zip(model.parameters(), trains, strict=True):
        weight.requires_grad_(is_trained)


def _set(classifier: nn.Linear, fitted: probe.Probe) -> None:
    weight: Tensor = classifier.weight
    with torch.no_grad():
        weight.copy_(fitted.weight)
        if classifier.bias is not None:
            classifier.bias.copy_(fitted.bias)
