"""Which runs of a sweep can be averaged, by their hyperparameters."""

import math

import pytest
from sweep_frames import grid, runs_of

from wandb_tl.analysis import ingredients
from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError

FINETUNED = {"finetuning": True, "val_fraction": 0.2}


def chosen(configs: list[RunConfig], val: list[float] | None = None) -> ingredients.Ingredients:
    frame = runs_of(configs, [80.0] * len(configs))
    frame["val/accuracy"] = val or [0.9 - number / 100 for number in range(len(configs))]
    return ingredients.choose(frame, "me/p/s")


def test_runs_with_one_start_are_averaged_best_first_and_the_others_are_named():
    configs = grid({"lr": [0.001, 0.01], "epochs": [3, 6]}, seeds=[0, 1], **FINETUNED)
    found = chosen(configs, [0.5, 0.1, 0.7, 0.2, 0.9, 0.3, 0.6, 0.4])
    assert found.runs == ("run0004", "run0002", "run0006", "run0000")
    assert found.config == configs[4]
    assert found.left_out == ("4 runs with seed=1 instead of 0 (other random weights at the start)",)


def test_a_classifier_that_a_probe_starts_does_not_depend_on_the_seed():
    probed = grid({"lr": [0.001, 0.01]}, seeds=[0, 1], classifier_start="probe", **FINETUNED)
    random = grid({"lr": [0.001]}, seeds=[0], **FINETUNED)
    found = chosen(probed + random)
    assert len(found.runs) == 4
    assert found.left_out == (
        "1 run with classifier_start=random instead of probe (other weights of the classifier at the start)",
    )


def test_the_start_of_a_classifier_that_trains_alone_does_not_matter():
    assert len(chosen(grid({"lr": [0.001, 0.01]}, seeds=[0, 1], val_fraction=0.2)).runs) == 4
    mixed = [RunConfig(optimizer="probe", val_fraction=0.2), RunConfig(seed=3, val_fraction=0.2)]
    assert len(chosen(mixed).runs) == 2
    # But the frozen weights do, if they are random.
    found = chosen(grid({"lr": [0.001, 0.01]}, seeds=[0, 1], val_fraction=0.2, pretrained=False))
    assert found.runs == ("run0000", "run0002") and "seed=1 instead of 0" in found.left_out[0]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("unfreeze", "2", "unfreeze=2 instead of last_stage"),
        ("finetuning", False, "finetuning=False instead of True"),
        ("model_name", "resnet18", "model_name=resnet18 instead of resnet50.tv_in1k"),
        ("norm", "calibrated", "norm=calibrated instead of source"),
        ("image_size", 64, "image_size=64 instead of 224"),
        ("train_limit", 500, "train_limit=500 instead of 0"),
        ("val_fraction", 0.3, "val_fraction=0.3 instead of 0.2"),
    ],
)
def test_another_network_or_other_images_cannot_be_averaged(name, value, text):
    same = [RunConfig(**FINETUNED, lr=lr) for lr in (0.001, 0.01)]
    found = chosen([*same, RunConfig(**FINETUNED | {name: value})])
    assert found.runs == ("run0000", "run0001") and found.left_out == (f"1 run with {text}",)


def test_other_names_of_the_same_value_and_how_a_run_trains_do_not_matter():
    others = ({"unfreeze": "1"}, {"norm": "source"}, {"precision": "fp32"}, {"augment": "flip"})
    more = ({"mixup": 0.2}, {"batch_size": 32}, {"optimizer": "SGD"}, {"ema": 0.9}, {"test_limit": 100})
    configs = [RunConfig(**FINETUNED | other) for other in ({}, *others, *more)]
    assert len(chosen(configs).runs) == len(configs)


def test_a_sweep_without_validation_images_says_what_to_set():
    configs = grid({"lr": [0.001, 0.01]}, seeds=[0], finetuning=True)
    with pytest.raises(InputError, match=r"me/p/s: its runs have no validation images.*val_fraction=0.2"):
        chosen(configs, [math.nan] * 2)


def test_runs_that_cannot_be_averaged_with_any_other():
    configs = grid({"lr": [0.001, 0.01, 0.1, 1.0]}, seeds=[0], **FINETUNED)
    frame = runs_of(configs, [80.0] * 4)
    frame["val/accuracy"] = [0.8, 0.9, math.nan, 0.1]
    frame.loc[3, "avg_train_loss"] = math.nan
    found = ingredients.choose(frame, "me/p/s")
    assert found.runs == ("run0001", "run0000")
    assert set(found.left_out) == {"1 run without validation images", "1 run that diverged"}
    with pytest.raises(InputError, match=r"no run can be averaged with its best one, run0000 \(1 run with"):
        chosen(grid({"unfreeze": ["1", "2"]}, seeds=[0], **FINETUNED))
    with pytest.raises(InputError, match="no run can be averaged with its best one, run0000; run a sweep"):
        chosen([RunConfig(**FINETUNED)])
    own = RunConfig(**FINETUNED, dataset="arrays:0123456789ab")
    with pytest.raises(InputError, match="no run can be averaged: 2 runs whose images or network"):
        chosen([own, own])
