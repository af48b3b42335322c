"""Runs without a server. What needs one is in test_end_to_end.py."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import wandb

from wandb_tl import activations, models, train
from wandb_tl.config import RunConfig


def train_here(few_images, **options) -> dict:
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
    model = models.build(config, 10)
    with wandb.init(mode="disabled") as run:
        train.train(config, few_images, model, torch.device("cpu"), run)
        return dict(run.summary)


def train_process(
    arguments: list[str], environment: dict[str, str], cwd: Path
) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "wandb_tl.train", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_cached_and_uncached_training_give_the_same_numbers(few_images, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    cached = train_here(few_images)
    monkeypatch.setattr(activations.Inputs, "cache", lambda *_: False)
    computed = train_here(few_images)
    assert cached["cached"] and not computed["cached"]
    for name in ("avg_train_loss", "avg_train_accuracy", "test_accuracy"):
        assert cached[name] == pytest.approx(computed[name], rel=1e-4), name


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
        {"optimizer": "AdamW", "scheduler": "cosine", "lr": 0.001, "augment": "flip_crop"},
        {"optimizer": "Adam", "precision": "bf16", "finetuning": False, "lr": 0.001},
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
    ],
)
def test_bad_input_is_one_line(arguments, message, fashion_mnist_cache, tmp_path, capsys):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (fashion_mnist_cache / "FashionMNIST" / "raw").iterdir():
        (raw / file.name).write_bytes(file.read_bytes()[:-1])
    code = train.main([argument.format(damaged=tmp_path) for argument in arguments])
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
    media = {path.name.split("_")[0] for path in (offline / "files" / "media").rglob("*.png")}
    assert media >= {"confusion", "examples", "curves", "first"}
    assert next(offline.glob("*.wandb")).stat().st_size > 10_000
