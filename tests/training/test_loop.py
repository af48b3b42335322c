"""Whole runs in this process, with W&B disabled."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from PIL import Image
from training_lab import train_here

from wandb_tl import train
from wandb_tl.config import RunConfig
from wandb_tl.figures import media
from wandb_tl.training import checkpoints, datasets, loop, models, tracking
from wandb_tl.training.checkpoints import Checkpoint, Progress
from wandb_tl.training.inputs import Inputs
from wandb_tl.training.process_cache import ProcessCache


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, which tells the runs of a test of earlier ones."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("WANDB_TL_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def every_epoch_is_saved(monkeypatch):
    """However short it is."""
    monkeypatch.setattr(checkpoints, "SAVING_SHARE", math.inf)


@pytest.fixture(autouse=True)
def models_go_to_a_temporary_folder(tmp_path, monkeypatch):
    """A run without a server writes its model below the current folder."""
    monkeypatch.chdir(tmp_path)


NUMBERS = ("avg_train_loss", "avg_train_accuracy", "test_accuracy")


@pytest.mark.slow
@pytest.mark.parametrize("finetuning", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"model_name": "test_vit", "pretrained": False}], ids=["lite0", "vit"]
)
def test_cached_and_uncached_training_give_the_same_numbers(few_images, monkeypatch, finetuning, options):
    cached = train_here(few_images, finetuning=finetuning, **options)
    monkeypatch.setattr(Inputs, "cache", lambda *_: False)
    computed = train_here(few_images, finetuning=finetuning, **options)
    assert cached["cached"] and not computed["cached"]
    for name in NUMBERS:
        assert cached[name] == pytest.approx(computed[name], rel=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"finetuning": False, "precision": "bf16"}, marks=pytest.mark.slow),
        # Its BatchNorm statistics come from the store too.
        {"model_name": "test_resnet", "pretrained": False},
    ],
)
def test_a_second_run_reuses_the_activations_of_the_first_and_has_its_numbers(
    few_images, capsys, cache_folder, options
):
    first = train_here(few_images, epochs=1, **options)
    inodes = {path: path.stat().st_ino for path in cache_folder.glob("tensors/*/data")}
    assert len(inodes) == (2 if options.get("pretrained", True) else 3)
    assert capsys.readouterr().out.count(" computed in ") == 2
    second = train_here(few_images, epochs=1, **options)
    assert capsys.readouterr().out.count(", reused\n") == 2
    assert {path: path.stat().st_ino for path in cache_folder.glob("tensors/*/data")} == inodes
    assert [second[name] for name in NUMBERS] == [first[name] for name in NUMBERS]


@pytest.mark.slow
def test_runs_of_one_process_share_activations_without_a_disk(few_images, capsys, monkeypatch, cache_folder):
    monkeypatch.setenv("WANDB_TL_CACHE_GB", "0")
    cache = ProcessCache()
    first, second = (train_here(few_images, cache=cache, epochs=1) for _ in range(2))
    printed = capsys.readouterr().out
    assert printed.count(" computed in ") == printed.count(", reused\n") == 2
    assert [second[name] for name in NUMBERS] == [first[name] for name in NUMBERS]
    assert not list((cache_folder / "tensors").iterdir())


@pytest.mark.slow
def test_activations_of_other_recipes_change_no_number(few_images, monkeypatch, tmp_path):
    alone = train_here(few_images, finetuning=False, epochs=1)
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path / "other"))
    train_here(few_images, finetuning=True, epochs=1)
    after_it = train_here(few_images, finetuning=False, epochs=1)
    assert [after_it[name] for name in NUMBERS] == [alone[name] for name in NUMBERS]


@pytest.mark.slow
def test_training_learns_and_its_seed_decides(few_images, cache_folder):
    one, same, other = (train_here(few_images, seed=seed) for seed in (1, 1, 2))
    # Chance is 10 with a standard error of 3.
    assert one["test_accuracy"] > 25
    assert one["avg_train_loss"] == same["avg_train_loss"] != other["avg_train_loss"]
    assert not list((cache_folder / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "Adam", "scheduler": "cosine", "augment": "flip_crop", "precision": "bf16"},
        {"optimizer": "AdamW", "model_name": "test_resnet", "pretrained": False},
        {"model_name": "test_resnet", "pretrained": False, "norm": "batch"},
    ],
)
def test_an_interrupted_run_ends_with_the_numbers_of_an_uninterrupted_one(
    few_images, monkeypatch, cache_folder, options
):
    uninterrupted = train_here(few_images, "one", epochs=3, **options)
    log_epoch = tracking.log_epoch

    def interrupted(run: wandb.Run, row: dict, figures: dict | None) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt
        log_epoch(run, row, figures)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "log_epoch", interrupted)
        train_here(few_images, "two", epochs=3, **options)
    # Of its last epoch, and of the one before.
    assert len(list((cache_folder / "checkpoints").iterdir())) == 2
    resumed = train_here(few_images, "two", epochs=3, **options)
    for name in (*NUMBERS, "train/lr"):
        assert resumed[name] == uninterrupted[name]


def test_a_run_that_resumes_after_its_last_epoch_adds_no_time(few_images, monkeypatch, cache_folder):
    options = {"model_name": "test_vit", "pretrained": False, "finetuning": False, "epochs": 1}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "log_epoch", interrupted)
        train_here(few_images, "late", **options)
    [checkpoint] = (cache_folder / "checkpoints").iterdir()
    before = torch.load(checkpoint, weights_only=True)["progress"]
    resumed = train_here(few_images, "late", **options)
    names = {"train_seconds": "seconds", "preparation_seconds": "preparation_seconds"}
    assert all(resumed[name] == before[field] > 0 for name, field in names.items())


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict, dict]]:
    """The row and the images of every epoch that is logged."""
    epochs = []
    log_epoch = tracking.log_epoch

    def watched(run: wandb.Run, row: dict, images: dict | None = None) -> None:
        epochs.append((row, images or {}))
        log_epoch(run, row, images)

    monkeypatch.setattr(tracking, "log_epoch", watched)
    return epochs


@pytest.mark.slow
def test_figures_come_with_every_fifth_epoch_and_cost_no_training_time(few_images, monkeypatch, logged):
    draw, epochs_drawn = media.draw, []

    def slow(*arguments) -> dict:
        epochs_drawn.append(len(arguments[-1]))
        time.sleep(2 * (epochs_drawn[-1] == 5))
        return draw(*arguments)

    monkeypatch.setattr(media, "draw", slow)
    began = time.perf_counter()
    summary = train_here(few_images, epochs=6, finetuning=True, scheduler="cosine", lr=0.1)
    assert time.perf_counter() - began > summary["train_seconds"] + 2
    # The last ones come with the results.
    assert epochs_drawn == [5, 6]
    assert [row["epoch"] for row, _ in logged] == [1, 2, 3, 4, 5, 6]
    assert [row["epoch"] for row, figures in logged if figures] == [5]
    assert {"grad_cam", "class_report", "feature_maps/stage_4"} <= set(logged[4][1])
    # Four steps an epoch; the rate is that of the last one, and the first of all has the whole.
    rates = [0.05 * (1 + math.cos(math.pi * (4 * epoch - 1) / 24)) for epoch in range(1, 7)]
    assert [row["train/lr"] for row, _ in logged] == pytest.approx(rates)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"epochs": 12, "finetuning": True}, [5, 10]),
        ({"epochs": 50, "finetuning": True}, [13, 26, 39]),
        ({"epochs": 12, "finetuning": False, "augment": "flip"}, [5, 10]),
        # Its twelve epochs take less time than one drawing.
        ({"epochs": 12, "finetuning": False}, []),
    ],
)
def test_figures_between_epochs_are_few(options, expected):
    config, rows = RunConfig(**options), [{}] * options["epochs"]
    assert [n for n in range(1, len(rows) + 1) if loop.is_drawn(config, rows[:n])] == expected


@pytest.mark.slow
def test_a_run_interrupted_while_it_draws_has_each_row_once(few_images, monkeypatch, logged):
    options = {"epochs": 6, "finetuning": True}
    uninterrupted = train_here(few_images, "one", **options)
    rows = [row for row, _ in logged]
    logged.clear()

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(media, "draw", interrupt)
        train_here(few_images, "two", **options)
    assert [row for row, _ in logged] == rows[:4]
    logged.clear()
    resumed = train_here(few_images, "two", **options)
    assert [row for row, _ in logged] == rows
    # The figures that the interrupted run did not log.
    assert [row["epoch"] for row, figures in logged if figures] == [5]
    assert [resumed[name] for name in NUMBERS] == [uninterrupted[name] for name in NUMBERS]
    # Nothing counts a processor's energy.
    assert "energy_wh" not in resumed


@pytest.mark.slow
def test_figures_that_the_client_lost_are_logged_again(few_images, monkeypatch, logged, cache_folder):
    """The client sends what is logged a little later: its death loses the last epochs, whatever they have."""

    def digests(images: dict[str, wandb.Image]) -> dict[str, str]:
        return {key: image._sha256 for key, image in images.items()}

    def save_and_end(checkpoint: Checkpoint, progress: Progress) -> None:
        save(checkpoint, progress)
        if len(progress.rows) == 7:
            raise KeyboardInterrupt

    options = {"epochs": 8, "finetuning": True}
    save = Checkpoint.save
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "save", save_and_end)
        train_here(few_images, "lost", **options)
    before = digests(logged[4][1])
    assert len(logged) == 6 and "grad_cam" in before
    logged.clear()
    train_here(few_images, "lost", **options)
    assert len(logged) == 8 and digests(logged[4][1]) == before
    assert not list((cache_folder / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_run_does_not_resume_from_the_checkpoint_of_another_recipe(few_images, monkeypatch, capsys):

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "log_epoch", interrupt)
        train_here(few_images, "one", lr=0.5)
    restarted, fresh = train_here(few_images, "one"), train_here(few_images, "two")
    assert restarted["avg_train_loss"] == fresh["avg_train_loss"]
    assert "the run starts over" in capsys.readouterr().out


def test_a_run_says_why_frozen_layers_are_computed_every_epoch(few_images, capsys):
    summary = train_here(few_images, epochs=1, augment="flip")
    assert not summary["cached"]
    assert "augment=flip: the frozen layers see new training images every epoch" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("finetuning", [False, True])
def test_a_whole_run_leaves_the_frozen_part_as_it_was(few_images, finetuning):
    config = RunConfig(model_name="tf_efficientnet_lite0", image_size=32, epochs=1, finetuning=finetuning)
    model = models.build(config, 10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with wandb.init(mode="disabled") as run:
        ready = train.Prepared(config, few_images, model, torch.device("cpu"))
        train.train_and_log(ready, run, ProcessCache())
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    trains = ("blocks.6.", "conv_head.", "bn2.", "classifier.") if finetuning else ("classifier.",)
    assert moved == {name for name in before if name.startswith(trains)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "AdamW", "scheduler": "cosine", "lr": 0.001, "augment": "flip_crop"},
        {"optimizer": "Adam", "precision": "bf16", "finetuning": False, "lr": 0.001},
        {"optimizer": "Adam", "precision": "fp16", "finetuning": False, "lr": 0.001},
        {"pretrained": False, "finetuning": False, "model_name": "deit_tiny_distilled_patch16_224"},
        {"pretrained": False, "model_name": "test_resnet", "norm": "batch"},
        {"pretrained": False, "model_name": "resnet18", "unfreeze": "all", "batch_size": 255},
        {"pretrained": False, "model_name": "test_vit"},
    ],
)
def test_recipes_run(few_images, options):
    summary = train_here(few_images, epochs=1, **options)
    assert 0 < summary["avg_train_loss"] < 10 and 5 < summary["test_accuracy"] <= 100


@pytest.mark.slow
def test_folder_with_held_out_images(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 6)):
        for label in (0, 1):
            (tmp_path / part / f"class {label}").mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(128 * label, 128 * label + 128, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / f"class {label}" / f"{number}.jpg")
    options = {"dataset": "folder", "data_dir": str(tmp_path), "val_fraction": 0.2, "image_size": 32}
    options |= {"batch_size": 8, "epochs": 6, "finetuning": False, "lr": 0.1}
    summary = train_here(datasets.load(RunConfig(**options)), **options)
    assert summary["val/accuracy"] > 0.8 and summary["test_accuracy"] > 80
