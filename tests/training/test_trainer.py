"""Techniques of training in whole runs: what trains when, what is kept, and the exact probe."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_lab import train_here

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import datasets, models, probing, tracking, trainer
from wandb_tl.training.process_cache import ProcessCache

CPU = torch.device("cpu")
SMALL = {"model_name": "test_resnet", "pretrained": False, "image_size": 32, "precision": "fp32"}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def with_val(fashion_mnist_cache: Path) -> datasets.Dataset:
    """205 training, 51 validation and 128 test images."""
    return datasets.load(RunConfig(train_limit=256, test_limit=128, val_fraction=0.2))


def trainer_of(data: datasets.Dataset, **options) -> trainer.Trainer:
    config = RunConfig(**SMALL | options)
    model = models.build(config, len(data.class_names))
    return trainer.prepare(config, data, model, CPU, "fp32", ProcessCache().activations)


def weights_of(one: trainer.Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in one.trainable.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_the_classifier_trains_alone_in_the_head_epochs(few_images, optimizer: str) -> None:
    one = trainer_of(few_images, finetuning=True, head_epochs=1, epochs=2, optimizer=optimizer)
    start = weights_of(one)
    one.train_epoch(1)
    first = weights_of(one)
    assert changed(start, first) == {"fc.weight", "fc.bias"}
    one.train_epoch(2)
    later = changed(first, weights_of(one))
    assert {"fc.weight", "fc.bias"} < later and any("conv" in name for name in later)
    assert any("running_mean" in name for name in later)


def test_a_gradient_is_cut_to_its_length(few_images) -> None:
    lengths = []
    for clip in (0.0, 0.01):
        one = trainer_of(few_images, optimizer="SGD", momentum=0, weight_decay=0, lr=1.0, clip_grad=clip)
        before = torch.cat([weight.detach().flatten().clone() for weight in one.trainable.parameters()])
        one.train_epoch(1)
        after = torch.cat([weight.detach().flatten() for weight in one.trainable.parameters()])
        lengths.append((after - before).norm().item())
    assert lengths[0] > 0.1 and lengths[1] <= 4 * 0.01 + 1e-6


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"class_balance": "sampling"}, {"label_smoothing": 0.1}])
def test_each_technique_changes_the_epoch_and_repeats(few_images, options: dict) -> None:
    plain, one, again = (
        trainer_of(few_images, finetuning=True, **chosen).train_epoch(1) for chosen in ({}, options, options)
    )
    assert one == again and one["train/loss"] != plain["train/loss"]


def test_patches_of_maps_are_mixed_and_features_have_none(few_images) -> None:
    row = trainer_of(few_images, finetuning=True, unfreeze="all", cutmix=1.0).train_epoch(1)
    assert 0 <= row["train/accuracy"] < 1
    with pytest.raises(InputError, match=r"^cutmix: .*; use mixup instead$"):
        trainer_of(few_images, cutmix=1.0)


@pytest.mark.slow
def test_the_best_epoch_is_tested_and_kept(with_val, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict] = []
    monkeypatch.setattr(tracking, "log_epoch", lambda run, row, images: rows.append(row))
    options = SMALL | {"finetuning": False, "optimizer": "SGD", "lr": 3.0, "epochs": 8, "ema": 0.5}
    summary = train_here(with_val, "best", keep="best", patience=3, **options)
    accuracies = [row["val/accuracy"] for row in rows]
    best = summary["kept_epoch"]
    assert accuracies[best - 1] == max(accuracies) and len(rows) <= min(8, best + 3)
    assert summary["test_accuracy"] == pytest.approx(100 * rows[best - 1]["test/accuracy"])
    assert all(summary[name] == rows[best - 1][name] for name in ("val/accuracy", "val/loss", "test/ece"))
    uncut = len(rows)
    # A run that is killed after its last epoch keeps the same weights.
    rows.clear()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "log_summary", killed)
        train_here(with_val, "two", keep="best", patience=3, **options)
    resumed = train_here(with_val, "two", keep="best", patience=3, **options)
    assert (resumed["kept_epoch"], resumed["test_accuracy"]) == (best, summary["test_accuracy"])
    assert len(rows) == 2 * uncut


def test_what_needs_validation_images_says_so(few_images) -> None:
    from wandb_tl import train

    for options in ({"keep": "best"}, {"patience": 2}):
        config = RunConfig(**SMALL | {"train_limit": 64, "test_limit": 64} | options)
        with pytest.raises(InputError, match="there are no validation images; set val_fraction"):
            train.prepare(config, ProcessCache())


@pytest.mark.slow
def test_a_probe_is_one_epoch_and_draws_nothing(with_val) -> None:
    options = {"finetuning": False, "optimizer": "probe"}
    first, second = (train_here(with_val, seed=seed, **options) for seed in (1, 2))
    assert first["epoch"] == 1 and first["test_accuracy"] == second["test_accuracy"] > 50
    assert 0.3 < first["test/knn_accuracy"] < 1 and first["val/knn_accuracy"] > 0.3
    steps = train_here(with_val, finetuning=False, optimizer="Adam", lr=0.001, epochs=10)
    assert first["test_accuracy"] > steps["test_accuracy"] - 3


def test_the_classifier_starts_from_the_probe(with_val) -> None:
    options = {"model_name": "tf_efficientnet_lite0", "pretrained": True}
    probe = trainer_of(with_val, optimizer="probe", **options)
    probe.train_epoch(1)
    started = trainer_of(with_val, finetuning=True, classifier_start="probe", **options)
    [head] = started.head
    torch.testing.assert_close(head.weight, probe.trainable.weight)
    assert any(weight.requires_grad for weight in started.trainable.parameters() if weight is not head.weight)
    # BatchNorms that are folded in the frozen pass round differently.
    assert started.evaluate("val").loss == pytest.approx(probe.evaluate("val").loss, rel=1e-3)


def test_a_classifier_that_is_more_than_a_layer_cannot_be_probed(few_images) -> None:
    config = RunConfig(**SMALL | {"optimizer": "probe", "norm": "batch"})
    model = models.build(config, 10)
    with pytest.raises(InputError, match=r"^optimizer: probe cannot fit this classifier: norm=batch"):
        trainer.prepare(config, few_images, model, CPU, "fp32", ProcessCache().activations)
    config = dataclasses.replace(config, norm="auto", finetuning=True, optimizer="SGD")
    with pytest.raises(InputError, match=r"^classifier_start: probe cannot fit this classifier: test_resnet"):
        probing.linear_classifier(config, torch.nn.Sequential())
