from pathlib import Path

import pytest
import torch
import yaml

from wandb_tl import train
from wandb_tl.config import FIELDS, RunConfig, markdown_table, recipe_of
from wandb_tl.errors import InputError
from wandb_tl.training import models
from wandb_tl.training.optimizers import make_optimizer

ROOT = Path(__file__).parents[1]


def config_from(arguments: list[str]) -> RunConfig:
    return train.config_of(train.COMMAND.parser("train").parse_args(arguments))


def test_flags_with_and_without_equals_sign():
    config = config_from(["--lr", "0.01", "--pretrained=False", "--unfreeze=2", "--epochs", "3"])
    assert (config.lr, config.pretrained, config.unfreeze, config.epochs) == (0.01, False, "2", 3)
    assert config.batch_size == 64


def test_the_flag_that_an_agent_adds_when_it_resumes_a_run_is_ignored():
    assert config_from(['--_wandb={"a": 1}', "--lr=0.5"]).lr == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer", "Adagrad"], "optimizer: got 'Adagrad', takes one of Adam, SGD, AdamW, probe"),
        (
            ["--optimizer", "adam"],
            "optimizer: got 'adam', takes one of Adam, SGD, AdamW, probe; did you mean Adam?",
        ),
        (["--lr", "-1"], "lr: got '-1', takes a number > 0"),
        (["--lr", "nan"], "lr: got 'nan', takes a number > 0"),
        (["--momentum", "1"], "momentum: got '1', takes a number >= 0 and < 1"),
        (["--epochs", "1.5"], "epochs: got '1.5', takes an integer >= 1"),
        (["--pretrained", "yes"], "pretrained: got 'yes', takes True or False"),
        (["--unfreeze", "0"], "unfreeze: got '0', takes last_stage, all or a number of stages"),
        (["--no-such-flag", "1"], "--no-such-flag: no such flag"),
        (["--batchsize=3"], "--batchsize: no such flag (did you mean --batch_size?)"),
        (["--learning_rate=3"], "--learning_rate: no such flag (did you mean --lr?)"),
        (["--arch", "resnet18"], "--arch: no such flag (did you mean --model_name?)"),
        (["--lr"], "argument --lr: expected one argument"),
    ],
)
def test_bad_values_are_refused_in_one_line(arguments, message):
    with pytest.raises(InputError) as refusal:
        config_from(arguments)
    assert str(refusal.value) == message


def test_values_of_a_sweep_may_be_typed_or_text():
    typed = RunConfig.from_mapping({"epochs": 5.0, "unfreeze": 2, "pretrained": True, "lr": 1})
    text = config_from(["--epochs=5.0", "--unfreeze=2", "--pretrained=True", "--lr=1"])
    assert typed == text
    for values in ({"epochs": 5.5}, {"epochs": True}, {"lr": None}, {"learning_rate": 1}):
        with pytest.raises(InputError):
            RunConfig.from_mapping(values)


def test_norm_follows_the_weights_unless_it_is_set():
    assert RunConfig(pretrained=True).norm_in_effect == "source"
    assert RunConfig(pretrained=False).norm_in_effect == "calibrated"
    assert RunConfig(pretrained=False, norm="batch").norm_in_effect == "batch"


def test_stages_to_open():
    assert RunConfig(finetuning=False, unfreeze="all").stages_to_open == 0
    assert RunConfig(finetuning=True).stages_to_open == 1
    assert RunConfig(finetuning=True, unfreeze="3").stages_to_open == 3
    assert RunConfig(finetuning=True, unfreeze="all").stages_to_open is None


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "AdamW"])
@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay"])
def test_what_has_no_effect_leaves_the_optimizer_as_it_is(optimizer, name):
    def settings(value):
        return make_optimizer(RunConfig(optimizer=optimizer, **{name: value}), torch.nn.Linear(1, 1)).defaults

    idle = name in RunConfig(optimizer=optimizer).without_effect
    assert (settings(0.25) == settings(0.5)) == idle


def test_hyperparameters_that_contradict_each_other_are_refused():
    for values, message in (
        (
            {"optimizer": "probe", "finetuning": True},
            "optimizer: probe fits the classifier of a frozen network",
        ),
        ({"epochs": 3, "warmup_epochs": 3}, r"warmup_epochs: got 3.0, takes less than epochs \(3\)"),
        ({"epochs": 3, "head_epochs": 3, "finetuning": True}, "head_epochs: got 3, takes less than epochs"),
        ({"fold": "6/5"}, "fold: got 6/5, takes K/N with K from 1 to N"),
        ({"fold": "1/1"}, "fold: got 1/1, takes K/N"),
        ({"fold": "1/5", "val_fraction": 0.2}, "fold: it says which images are held out"),
        ({"lr_decay": 1.5}, "lr_decay: got 1.5, takes a number > 0 and <= 1"),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            RunConfig(**values)


def test_a_probe_has_one_epoch_and_what_it_does_not_use_is_without_effect():
    probe = RunConfig(optimizer="probe", epochs=3, warmup_epochs=9)
    assert probe.epochs_in_effect == 1
    assert {"seed", "lr", "epochs", "weight_decay", "unfreeze"} <= probe.without_effect
    assert "seed" not in RunConfig(optimizer="probe", pretrained=False).without_effect


@pytest.mark.parametrize("finetuning", [True, False])
def test_unfreeze_has_an_effect_when_finetuning(finetuning):
    few, all_of_it = (RunConfig(finetuning=finetuning, unfreeze=stages) for stages in ("2", "all"))
    assert (few.stages_to_open == all_of_it.stages_to_open) == ("unfreeze" in few.without_effect)


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_file_of_weights_has_an_effect_on_pretrained_runs(pretrained, tmp_path):
    config = RunConfig(
        model_name="resnet18", image_size=32, pretrained=pretrained, weights_file=str(tmp_path / "none.pth")
    )
    if "weights_file" in config.without_effect:
        models.build(config, num_classes=2)
    else:
        with pytest.raises(InputError, match="no file"):
            models.build(config, num_classes=2)
    assert ("weights_file" in config.without_effect) != pretrained


def test_weights_that_are_an_artifact_are_told_from_a_path():
    for name in ("me/project/model-abc:latest", "artifact:me/project/model-abc:latest"):
        assert RunConfig(weights_file=name).weights_artifact == "me/project/model-abc:latest"
        with pytest.raises(InputError, match="starts from an artifact is saved whole"):
            RunConfig(weights_file=name, save_weights="trained")
    for path in ("", "w.pth", "models/abc", "./a/b/c:d", r"C:\a\b\w.pth", "C:/a/b/w.pth", "/a/b/c:d"):
        assert RunConfig(weights_file=path).weights_artifact == ""


def test_where_the_images_are_and_how_they_are_compiled_is_no_matter_but_folders_are():
    assert {"data_dir", "compile", "resize"} <= RunConfig().without_effect
    assert "data_dir" not in RunConfig(dataset="folder", data_dir="/tmp").without_effect
    folder = RunConfig(dataset="folder", data_dir="/tmp", optimizer="SGD", finetuning=True)
    assert folder.without_effect == {"compile", "save_weights"}


def test_a_folder_of_pictures_needs_no_other_flag_and_a_named_data_set_reads_none():
    assert config_from(["--data_dir", "~/pictures, 2026"]).dataset == "folder"
    assert config_from([]).dataset == "fashion_mnist"
    with pytest.raises(InputError, match="data_dir: cifar10 does not read it"):
        config_from(["--data_dir", "~/pictures", "--dataset", "cifar10"])
    with pytest.raises(InputError, match="data_dir: dataset=folder needs the folder of your pictures"):
        config_from(["--dataset", "folder"])


def test_a_batch_that_the_training_images_cannot_fill_is_refused_before_they_are_loaded():
    with pytest.raises(InputError, match=r"batch_size: got 64, more than train_limit \(10\)"):
        config_from(["--train_limit", "10"])


def test_a_run_is_named_as_in_the_original_experiment_and_by_what_else_is_given():
    original = "resnet50.tv_in1k-pretrainedTrue-finetuningFalse-optimAdam-seed0"
    assert RunConfig().run_name == original
    assert RunConfig(lr=0.0031234567, batch_size=32).run_name == f"{original}-batch32-lr0.003123"
    # What has no effect does not distinguish runs.
    assert RunConfig(momentum=0.5, compile="never", unfreeze="all").run_name == original
    pictures = RunConfig(dataset="folder", data_dir="/home/me/flowers, 2026", norm="batch")
    assert pictures.run_name == f"{original}-normbatch-data_dirflowers, 2026"


def test_names_of_runs_fit_into_what_wandb_takes_and_stay_apart():
    names = {
        RunConfig(model_kwargs=" ".join(f"argument{i}={i}" for i in range(20)), lr=lr).run_name
        for lr in (0.01, 0.02)
    }
    assert len(names) == 2 and {len(name) for name in names} == {128}


def test_docs_have_the_table_of_hyperparameters():
    assert markdown_table() in (ROOT / "docs" / "recipes.md").read_text()


def test_sweep_yaml_is_the_original_experiment():
    parameters = yaml.safe_load((ROOT / "sweep.yaml").read_text())["parameters"]
    assert set(parameters) <= set(FIELDS)
    values = {
        name: parameter.get("values", [parameter.get("value")]) for name, parameter in parameters.items()
    }
    assert values["pretrained"] == values["finetuning"] == [True, False]
    assert values["optimizer"] == ["Adam", "SGD"]
    fixed = {"epochs": 10, "batch_size": 64, "lr": 0.001, "momentum": 0.9, "weight_decay": 0.1}
    assert {name: values[name] for name in fixed} == {name: [value] for name, value in fixed.items()}
    RunConfig.from_mapping({name: choices[0] for name, choices in values.items()})


def test_a_recipe_sets_several_hyperparameters():
    values = {"data_dir": "/a b/it's", "lr": 0.1 + 0.2, "finetuning": True, "dataset": "folder"}
    assert RunConfig.from_flags({"recipe": recipe_of(values), "seed": 3, "lr": "0.30000000000000004"}) == (
        RunConfig(**values, seed=3)
    )
    for values, message in [
        ({"recipe": "lr=0.1 lrr=2"}, "lrr: no such hyperparameter; did you mean lr?"),
        ({"recipe": "lr=0.1 0.2"}, "recipe: got 0.2, takes NAME=VALUE, separated by spaces"),
        ({"recipe": "lr=0.1 'a"}, "recipe: lr=0.1 'a: No closing quotation"),
        ({"recipe": "lr=0.1", "lr": 0.2}, "recipe: it says lr=0.1, and lr is 0.2; leave one out"),
    ]:
        with pytest.raises(InputError) as error:
            RunConfig.from_flags(values)
        assert str(error.value) == message
