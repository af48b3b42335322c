"""The metric of a search: refused if no run logs it, told about if it chooses badly."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from wandb_tl import run_sweep
from wandb_tl.errors import InputError
from wandb_tl.sweeping.search_metric import AT_THE_END, EACH_EPOCH, WITH_VALIDATION, check
from wandb_tl.sweeping.sweep_definitions import Definition, load
from wandb_tl.training.evaluate import Evaluation
from wandb_tl.training.named_datasets import TORCHVISION

METRIC = {"name": "val/accuracy", "goal": "maximize"}


def definition(*settings: str, preset: str = "tune", **keys: object) -> Definition:
    return load(preset, list(settings)) | keys


def verdict(definition: Definition, pictures: bool = False) -> list[str]:
    return check(definition, lambda _: pictures)


def test_presets_are_sound():
    for preset in ("laptop", "tune", "seeds", "as_published"):
        assert verdict(definition(preset=preset)) == []
    assert verdict(definition("data_dir=x", preset="pictures")) == []


def test_a_metric_that_no_run_logs_is_refused_with_the_nearest_name():
    for name, near in {
        **{"val_accuracy": "val/accuracy", "val/acc": "val/accuracy", "loss": "val/loss"},
        **{"accuracy": "val/accuracy", "val_loss": "val/loss", "test_acc": "test_accuracy"},
    }.items():
        with pytest.raises(InputError) as refusal:
            verdict(definition(metric={"name": name, "goal": "maximize"}))
        assert str(refusal.value) == f"metric: no run logs {name}; did you mean {near}?"
    with pytest.raises(InputError, match=r"; runs log val/accuracy, val/loss, val/f1_macro, val/ece$"):
        verdict(definition(metric={"name": "xyz"}))
    by_class = {"name": "val/accuracy_by_class/Bag", "goal": "maximize"}
    assert verdict(definition(metric=by_class)) == []
    assert verdict(definition(metric={"name": "_runtime"}, early_terminate=None)) == []


def test_validation_metrics_need_validation_images():
    message = (
        "metric: runs log val/accuracy with validation images, and {} has none; use --set val_fraction=0.2"
    )
    for method in ("bayes", "random"):
        for value in ("0", "0,0.2"):
            with pytest.raises(InputError) as refusal:
                verdict(definition(f"val_fraction={value}", method=method))
            assert str(refusal.value) == message.format("fashion_mnist")
    # Early termination needs the metric, too.
    grid = definition(preset="laptop", metric=METRIC)
    assert verdict(grid) == []
    with pytest.raises(InputError, match="val_fraction"):
        verdict(grid | {"early_terminate": {"type": "hyperband", "min_iter": 1}})
    for settings in (["dataset=flowers102"], ["dataset=hf:some/name"]):
        assert verdict(definition("val_fraction=0", *settings)) == []
    folder = definition("val_fraction=0", "data_dir=/x")
    assert verdict(folder, pictures=True) == []
    with pytest.raises(InputError, match="and /x has none"):
        verdict(folder)
    drawn = definition()
    drawn["parameters"]["val_fraction"] = {"min": 0.1, "max": 0.3}
    folds = definition("fold=1/5,2/5")
    assert "val_fraction" not in folds["parameters"]
    assert verdict(drawn) == verdict(folds) == []


def test_each_of_several_objectives_is_checked():
    assert verdict(definition(preset="pareto")) == []
    with pytest.raises(InputError, match="val_fraction"):
        verdict(definition("val_fraction=0", preset="pareto"))
    wrong = [{"name": "val/accuracy", "goal": "maximize"}, {"name": "image_per_second"}]
    with pytest.raises(InputError, match="no run logs image_per_second; did you mean images_per_second"):
        verdict(definition(preset="pareto", metrics=wrong))


def test_searches_that_choose_badly_are_told():
    (line,) = verdict(definition(metric={"name": "test/accuracy", "goal": "maximize"}))
    assert line.startswith("the test images choose") and "{name: val/accuracy, goal: maximize}" in line
    assert verdict(definition(preset="laptop", metric={"name": "test/accuracy", "goal": "maximize"})) == []
    (line,) = verdict(definition(metric={"name": "val/accuracy"}))
    assert line.endswith("use metric: {name: val/accuracy, goal: maximize}")
    (line,) = verdict(definition(metric={"name": "val/loss", "goal": "maximize"}))
    assert line.endswith("use metric: {name: val/loss, goal: minimize}")
    assert verdict(definition(metric={"name": "val/loss"})) == []
    test, early = verdict(definition(metric={"name": "test_accuracy", "goal": "maximize"}))
    assert test.startswith("the test images choose") and early.startswith("early_terminate has no effect")


def test_other_programs_are_not_judged():
    assert verdict(definition(metric={"name": "mine"}, program="mine.py")) == []
    assert verdict(definition(metric={"name": "mine"}, command=["python", "mine.py", "${args}"])) == []


def test_names_are_those_that_runs_log(few_images):
    evaluation = Evaluation(0.0, 0.0, 0.0, 0.0, [], [], [], [], *[few_images.test.labels] * 4)
    for split in ("val", "test"):
        logged = [name for name in EACH_EPOCH if name.startswith(f"{split}/")]
        assert set(evaluation.metrics(split, [])) == set(logged)
    assert {name for name, (_, splits) in TORCHVISION.items() if "val" in splits} == set(WITH_VALIDATION)
    assert not set(EACH_EPOCH) & set(AT_THE_END)


def pictures(folder: Path, *splits: str) -> Path:
    for split in splits:
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8), "red").save(folder / split / name / f"{split}.png")
    return folder


def test_the_command_refuses_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = pictures(tmp_path / "pictures", "train", "test")
    command = ["tune", "--local", "--root", "root", "--set", "val_fraction=0"]
    assert run_sweep.COMMAND.main([*command, "--set", f"data_dir={folder}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: metric: runs log val/accuracy") and f"and {folder} has none" in error
    assert error.count("\n") == 1 and [path.name for path in tmp_path.iterdir()] == ["pictures"]
