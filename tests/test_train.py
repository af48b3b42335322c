"""Runs without a server. What needs one is in test_end_to_end.py."""

import math
import re
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from PIL import Image

from wandb_tl import train
from wandb_tl.config import RunConfig
from wandb_tl.figures import media
from wandb_tl.training import activations, datasets, models, tracking


def train_here(data: datasets.Dataset, run_id: str | None = None, **options) -> dict:
    """Train in this process with W&B disabled; returns the summary."""
    config = RunConfig(
        **{
            "model_name": "tf_efficientnet_lite0",
            "image_size": 32,
            "epochs": 2,
            "precision": "fp32",
            "finetuning": True,
            "optimizer": "SGD",
            "lr": 0.01,
            "weight_decay": 0.0,
        }
        | options
    )
    model = models.build(config, len(data.class_names))
    with wandb.init(mode="disabled", id=run_id) as run:
        checkpoint = train.train(config, data, model, torch.device("cpu"), run)
        checkpoint.discard()
        return dict(run.summary)


def train_process(
    arguments: list[str], environment: dict[str, str], cwd: Path
) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "wandb_tl.train", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=240)


@pytest.fixture
def new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """An empty cache, and what lets the runs to come know of earlier ones by what is on disk alone."""
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))

    def forget() -> None:
        monkeypatch.setattr(activations, "_used", OrderedDict())

    forget()
    return forget


NUMBERS = ("avg_train_loss", "avg_train_accuracy", "test_accuracy")


@pytest.mark.parametrize("finetuning", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"model_name": "vit_tiny_patch16_224", "pretrained": False}], ids=["lite0", "vit"]
)
def test_cached_and_uncached_training_give_the_same_numbers(
    few_images, monkeypatch, new_process, finetuning, options
):
    cached = train_here(few_images, finetuning=finetuning, **options)
    monkeypatch.setattr(activations.Inputs, "cache", lambda *_: False)
    computed = train_here(few_images, finetuning=finetuning, **options)
    assert cached["cached"] and not computed["cached"]
    for name in NUMBERS:
        assert cached[name] == pytest.approx(computed[name], rel=1e-4), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"finetuning": False, "precision": "bf16"},
        # Its BatchNorm statistics come from the store too.
        {"model_name": "resnet18", "pretrained": False},
    ],
)
def test_a_second_run_has_the_numbers_of_the_first_from_what_it_kept(
    few_images, new_process, capsys, tmp_path, options
):
    first = train_here(few_images, epochs=1, **options)
    kept = {path: path.stat().st_ino for path in tmp_path.glob("activations/*/data")}
    assert len(kept) == (2 if options.get("pretrained", True) else 3)
    assert capsys.readouterr().out.count(" computed in ") == 2
    new_process()
    second = train_here(few_images, epochs=1, **options)
    assert capsys.readouterr().out.count(", from before\n") == 2
    assert {path: path.stat().st_ino for path in tmp_path.glob("activations/*/data")} == kept
    assert [second[name] for name in NUMBERS] == [first[name] for name in NUMBERS]


def test_what_other_recipes_left_changes_no_number(few_images, new_process, monkeypatch, tmp_path):
    alone = train_here(few_images, finetuning=False, epochs=1)
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path / "other"))
    new_process()
    train_here(few_images, finetuning=True, epochs=1)
    new_process()
    after_it = train_here(few_images, finetuning=False, epochs=1)
    assert [after_it[name] for name in NUMBERS] == [alone[name] for name in NUMBERS]


def test_training_learns_and_its_seed_decides(few_images, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    one, same, other = (train_here(few_images, seed=seed) for seed in (1, 1, 2))
    # Chance is 10 with a standard error of 3.
    assert one["test_accuracy"] > 25
    assert one["avg_train_loss"] == same["avg_train_loss"] != other["avg_train_loss"]
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "Adam", "scheduler": "cosine", "augment": "flip_crop", "precision": "bf16"},
        {"optimizer": "AdamW", "model_name": "resnet18", "pretrained": False},
        {"model_name": "resnet18", "pretrained": False, "norm": "batch"},
    ],
)
def test_an_interrupted_run_ends_with_the_numbers_of_an_undisturbed_one(
    few_images, monkeypatch, tmp_path, options
):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    undisturbed = train_here(few_images, "one", epochs=3, **options)
    log_epoch = tracking.log_epoch

    def interrupted(run: wandb.Run, row: dict, figures: dict | None) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt
        log_epoch(run, row, figures)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "log_epoch", interrupted)
        train_here(few_images, "two", epochs=3, **options)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    resumed = train_here(few_images, "two", epochs=3, **options)
    for name in (*NUMBERS, "train/lr"):
        assert resumed[name] == undisturbed[name]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict, dict]]:
    """The row and the figures of every epoch that is logged."""
    epochs = []
    log_epoch = tracking.log_epoch

    def watched(run: wandb.Run, row: dict, figures: dict | None = None) -> None:
        epochs.append((row, figures or {}))
        log_epoch(run, row, figures)

    monkeypatch.setattr(tracking, "log_epoch", watched)
    return epochs


def test_figures_come_with_every_fifth_epoch_and_cost_no_training_time(
    few_images, monkeypatch, tmp_path, logged
):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    draw, drawn_after = media.draw, []

    def slow(*arguments) -> dict:
        drawn_after.append(len(arguments[-1]))
        time.sleep(2 * (drawn_after[-1] == 5))
        return draw(*arguments)

    monkeypatch.setattr(media, "draw", slow)
    began = time.perf_counter()
    summary = train_here(few_images, epochs=6, finetuning=False, scheduler="cosine", lr=0.1)
    assert time.perf_counter() - began > summary["train_seconds"] + 2
    # The last ones come with the results.
    assert drawn_after == [5, 6]
    assert [row["epoch"] for row, _ in logged] == [1, 2, 3, 4, 5, 6]
    assert [row["epoch"] for row, figures in logged if figures] == [5]
    assert {"grad_cam", "class_report", "feature_maps/stage_4"} <= set(logged[4][1])
    # Four steps an epoch; the rate is that of the last one, and the first of all has the whole.
    rates = [0.05 * (1 + math.cos(math.pi * (4 * epoch - 1) / 24)) for epoch in range(1, 7)]
    assert [row["train/lr"] for row, _ in logged] == pytest.approx(rates)


def test_a_run_interrupted_while_it_draws_has_each_row_once(few_images, monkeypatch, tmp_path, logged):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    options = {"epochs": 6, "finetuning": False}
    undisturbed = train_here(few_images, "one", **options)
    rows = [row for row, _ in logged]
    logged.clear()

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(media, "draw", interrupt)
        train_here(few_images, "two", **options)
    assert [row for row, _ in logged] == rows[:4]
    logged.clear()
    # Files from before there was a field for energy.
    (file,) = (tmp_path / "checkpoints").iterdir()
    state = torch.load(file, weights_only=True)
    del state["progress"]["energy_wh"]
    torch.save(state, file)
    resumed = train_here(few_images, "two", **options)
    assert [row for row, _ in logged] == rows and not any(figures for _, figures in logged)
    assert [resumed[name] for name in NUMBERS] == [undisturbed[name] for name in NUMBERS]
    # Nothing counts a processor's energy.
    assert "energy_wh" not in resumed


def test_a_checkpoint_of_another_recipe_is_not_gone_on_from(few_images, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "log_epoch", interrupt)
        train_here(few_images, "one", lr=0.5)
    restarted, fresh = train_here(few_images, "one"), train_here(few_images, "two")
    assert restarted["avg_train_loss"] == fresh["avg_train_loss"]
    assert "the run starts over" in capsys.readouterr().out


def test_what_is_computed_every_epoch_is_said(few_images, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    summary = train_here(few_images, epochs=1, augment="flip")
    assert not summary["cached"]
    assert "augment=flip: the frozen part of the training images is computed" in capsys.readouterr().out


@pytest.mark.parametrize("finetuning", [False, True])
def test_a_whole_run_leaves_the_frozen_part_as_it_was(few_images, monkeypatch, tmp_path, finetuning):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    config = RunConfig(model_name="tf_efficientnet_lite0", image_size=32, epochs=1, finetuning=finetuning)
    model = models.build(config, 10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with wandb.init(mode="disabled") as run:
        train.train(config, few_images, model, torch.device("cpu"), run)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    trains = ("blocks.6.", "conv_head.", "bn2.", "classifier.") if finetuning else ("classifier.",)
    assert moved == {name for name in before if name.startswith(trains)}


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "AdamW", "scheduler": "cosine", "lr": 0.001, "augment": "flip_crop"},
        {"optimizer": "Adam", "precision": "bf16", "finetuning": False, "lr": 0.001},
        {"optimizer": "Adam", "precision": "fp16", "finetuning": False, "lr": 0.001},
        {"pretrained": False, "finetuning": False, "model_name": "deit_tiny_distilled_patch16_224"},
        {"pretrained": False, "model_name": "resnet18", "norm": "batch"},
        {"pretrained": False, "model_name": "resnet18", "unfreeze": "all", "batch_size": 255},
        {"pretrained": False, "model_name": "vit_tiny_patch16_224"},
    ],
)
def test_recipes_run(few_images, monkeypatch, tmp_path, options):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    summary = train_here(few_images, epochs=1, **options)
    assert 0 < summary["avg_train_loss"] < 10 and 5 < summary["test_accuracy"] <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer", "Adagrad"], "optimizer: got 'Adagrad', takes one of"),
        (["--lr", "-1"], "lr: got '-1', takes a number > 0"),
        (["--model_name", "resnet5o"], "model_name: timm has no model 'resnet5o'; did you mean resnet50"),
        (["--no-such-flag", "1"], "--no-such-flag: no such flag"),
        (["--data_dir", "{damaged}"], "train-images-idx3-ubyte: damaged"),
        (["--data_dir", "/proc/nowhere"], "data_dir: cannot write /proc/nowhere"),
        (
            ["--model_name=poolformer_s12", "--finetuning=True", "--pretrained=False"],
            "unfreeze: timm knows no",
        ),
        (
            ["--model_name=vit_tiny_patch16_224", "--image_size=8", "--pretrained=False"],
            "image_size: vit_tiny",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, fashion_mnist_cache, tmp_path, capsys):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (fashion_mnist_cache / "FashionMNIST" / "raw").iterdir():
        (raw / file.name).write_bytes(file.read_bytes()[:-1])
    code = train.COMMAND.main([argument.format(damaged=tmp_path) for argument in arguments])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1
    assert error.startswith("error: ") and message in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_name=tf_efficientnet_lite0"], "W&B: No API key configured"),
        # The real hub, or none: where it answers, the run goes on to the missing key.
        (["--model_name=resnet10t.c3_in1k"], "pretrained: the weights of resnet10t|W&B: No API key"),
    ],
)
def test_no_key_and_no_hub_are_one_line_and_leave_no_run(arguments, message, run_environment, tmp_path):
    done = train_process(arguments, run_environment | {"WANDB_MODE": "online"}, tmp_path)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("wandb: ")]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert re.match(f"error: .*({message})", lines[0])
    assert not list(tmp_path.glob("wandb/run-*"))


def test_a_mode_that_wandb_does_not_have_is_one_line(run_environment, tmp_path):
    done = train_process(
        ["--model_name=tf_efficientnet_lite0", "--train_limit=64", "--image_size=32"],
        run_environment | {"WANDB_MODE": "ofline"},
        tmp_path,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: W&B: ") and "'ofline'" in done.stderr


def test_folder_with_held_out_images(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 6)):
        for label in (0, 1):
            (tmp_path / part / f"class {label}").mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(128 * label, 128 * label + 128, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / f"class {label}" / f"{number}.jpg")
    options = {"dataset": "folder", "data_dir": str(tmp_path), "val_fraction": 0.2, "image_size": 32}
    options |= {"batch_size": 8, "epochs": 6, "finetuning": False}
    summary = train_here(datasets.load(RunConfig(**options)), **options)
    assert summary["val/accuracy"] > 0.8 and summary["test_accuracy"] > 80


def test_help_names_every_hyperparameter(run_environment, tmp_path):
    done = train_process(["--help"], run_environment, tmp_path)
    assert done.returncode == 0 and "--weight_decay FLOAT" in done.stdout
    assert "takes" not in done.stderr


def test_offline_run_keeps_everything_for_wandb_sync(run_environment, tmp_path):
    arguments = ["--model_name=tf_efficientnet_lite0", "--image_size=32", "--epochs=1"]
    arguments += ["--train_limit=128", "--test_limit=64"]
    done = train_process(arguments, run_environment, tmp_path)
    assert done.returncode == 0, done.stderr
    (offline,) = tmp_path.glob("wandb/offline-run-*")
    kinds = {path.name.split("_")[0] for path in (offline / "files" / "media").rglob("*.png")}
    assert kinds >= {"confusion", "examples", "curves", "first", "stage", "grad", "class", "reliability"}
    assert next(offline.glob("*.wandb")).stat().st_size > 10_000
