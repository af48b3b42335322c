"""The command: its flags, its errors, and runs in processes of their own. test_end_to_end.py has a server."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import warm_python

from wandb_tl import train


def train_process(
    arguments: list[str], environment: dict[str, str], cwd: Path
) -> subprocess.CompletedProcess:
    return warm_python.run(["-m", "wandb_tl.train", *arguments], cwd=cwd, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer", "Adagrad"], "optimizer: got 'Adagrad', takes one of"),
        (["--lr", "-1"], "lr: got '-1', takes a number > 0"),
        (["--model_name", "resnet5o"], "model_name: timm has no model 'resnet5o'; did you mean resnet50"),
        (["--no-such-flag", "1"], "--no-such-flag: no such flag"),
        (["--data_dir", "/proc/nowhere"], "data_dir: there is no folder /proc/nowhere"),
        (
            ["--model_name=poolformer_s12", "--finetuning=True", "--pretrained=False"],
            "unfreeze: timm does not define",
        ),
        (
            ["--model_name=vit_tiny_patch16_224", "--image_size=8", "--pretrained=False"],
            "image_size: vit_tiny",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, fashion_mnist_cache, capsys):
    code = train.COMMAND.main(arguments)
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1
    assert error.startswith("error: ") and message in error


@pytest.mark.slow
def test_damaged_images_and_a_cache_that_cannot_be_written_are_one_line(
    fashion_mnist_cache, tmp_path, monkeypatch, capsys
):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (fashion_mnist_cache / "FashionMNIST" / "raw").glob("*-ubyte"):
        (raw / file.name).write_bytes(file.read_bytes()[:-1])
    for cache, message in (
        (str(tmp_path), "train-images-idx3-ubyte: damaged"),
        ("/proc/nowhere", "cannot write /proc/nowhere"),
    ):
        monkeypatch.setenv("WANDB_TL_CACHE", cache)
        assert train.COMMAND.main([]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and message in error


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_mode_that_wandb_does_not_have_is_one_line(run_environment, tmp_path):
    done = train_process(
        ["--model_name=tf_efficientnet_lite0", "--train_limit=64", "--image_size=32"],
        run_environment | {"WANDB_MODE": "ofline"},
        tmp_path,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: W&B: ") and "'ofline'" in done.stderr


def test_help_names_every_hyperparameter(run_environment, tmp_path):
    done = train_process(["--help"], run_environment, tmp_path)
    assert done.returncode == 0 and "--weight_decay FLOAT" in done.stdout
    assert "takes" not in done.stderr


@pytest.mark.slow
def test_offline_run_keeps_everything_for_wandb_sync(run_environment, tmp_path):
    arguments = ["--model_name=tf_efficientnet_lite0", "--image_size=32", "--epochs=1"]
    arguments += ["--train_limit=128", "--test_limit=64"]
    done = train_process(arguments, run_environment, tmp_path)
    assert done.returncode == 0, done.stderr
    (offline,) = tmp_path.glob("wandb/offline-run-*")
    kinds = {path.name.split("_")[0] for path in (offline / "files" / "media").rglob("*.png")}
    assert kinds >= {"confusion", "examples", "curves", "first", "stage", "grad", "class", "reliability"}
    assert next(offline.glob("*.wandb")).stat().st_size > 10_000


@pytest.mark.slow
def test_first_the_head_then_more_starts_at_the_accuracy_of_the_first_run(run_environment, tmp_path):
    # A network without BatchNorm, whose statistics would move even without a step.
    shared = ["--model_name=test_convnext", "--image_size=32", "--precision=fp32", "--train_limit=512"]
    shared += ["--test_limit=200"]
    recipes = {
        "first": ["--pretrained=False", "--lr=0.01", "--epochs=5"],
        "second": ["--weights_file=models/first", "--finetuning=True", "--lr=1e-12", "--epochs=1"],
    }
    accuracies = {}
    for run_id, recipe in recipes.items():
        environment = run_environment | {"WANDB_RUN_ID": run_id}
        done = train_process([*shared, *recipe], environment, tmp_path)
        assert done.returncode == 0, done.stderr
        description = json.loads((tmp_path / "models" / run_id / "config.json").read_text())
        accuracies[run_id] = description["results"]["test_accuracy"]
    assert "tensors of test_convnext from models/first; its classifier is kept" in done.stdout
    # Ten classes.
    assert accuracies["second"] == accuracies["first"] > 30
