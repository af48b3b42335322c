"""A model folder: enough to rebuild the model on the same pretrained weights, and on no others."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.pictures.colours import GreyLevels
from wandb_tl.training import freezing, model_folder, models
from wandb_tl.training.datasets import Dataset, Split
from wandb_tl.training.model_folder import trained_tensors

LITE0 = {"model_name": "tf_efficientnet_lite0", "image_size": 32}
RESNET = {"model_name": "resnet18", "image_size": 32, "pretrained": False}
LEVELS = GreyLevels(integer=(0.0, 4095.0))


def trained(config: RunConfig) -> nn.Module:
    """A model whose trainable parameters and BatchNorm statistics have moved where they may."""
    model = models.build(config, 3)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], 0.1)
    freezing.train_mode(model, config.norm_in_effect)
    model(torch.randn(8, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    return model.eval()


def write(folder: Path, model: nn.Module, config: RunConfig) -> dict:
    split = Split(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]))
    data = Dataset(split, None, split, ["a", "b", "c"], levels=LEVELS)
    return model_folder.save(folder, model, config, data, "fp32", {"test_accuracy": 62.5})


def change(folder: Path, **values) -> None:
    """Change entries of config.json; None removes one."""
    file = folder / "config.json"
    description = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in description.items() if value is not None}))


@pytest.mark.parametrize(
    "options",
    [LITE0, LITE0 | {"finetuning": True}, LITE0 | {"norm": "batch"}, RESNET, RESNET | {"finetuning": True}],
)
def test_a_model_comes_back_with_the_same_outputs(tmp_path, options):
    config = RunConfig(**options)
    model = trained(config)
    description = write(tmp_path / "model", model, config)
    loaded = model_folder.load(tmp_path / "model")
    assert loaded.config == config and loaded.class_names == ["a", "b", "c"] and not loaded.network.training
    assert loaded.levels == LEVELS and loaded.precision == "fp32"
    states = loaded.network.state_dict(), model.state_dict()
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())
    assert description["test_accuracy"] == 62.5 and "val_accuracy" not in description
    assert bool(description["trunk_digest"]) == config.pretrained


def test_only_tensors_that_cannot_be_had_elsewhere_are_saved():
    classifier = {"classifier.weight", "classifier.bias"}
    head_only = RunConfig(**LITE0)
    assert set(trained_tensors(models.build(head_only, 3), head_only)) == classifier
    batch = RunConfig(**LITE0, norm="batch")
    names = set(trained_tensors(models.build(batch, 3), batch))
    assert classifier < names and {name.split(".")[-1] for name in names - classifier} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_files_that_do_not_match_are_refused(tmp_path):
    config = RunConfig(**LITE0, finetuning=True)
    write(tmp_path / "model", models.build(config, 3), config)
    tensors = load_file(tmp_path / "model/model.safetensors")
    del tensors["bn2.weight"]
    save_file(tensors, tmp_path / "model/model.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors does not match config.json \(bn2.weight\)"):
        model_folder.load(tmp_path / "model")


def test_other_weights_under_the_same_name_are_refused(tmp_path):
    weights = tmp_path / "weights.safetensors"

    def write_weights(seed: int) -> None:
        config = RunConfig(**RESNET, seed=seed)
        save_file(trained_tensors(models.build(config, 1000), config), weights)

    write_weights(seed=0)
    config = RunConfig(**RESNET | {"pretrained": True, "weights_file": str(weights)})
    write(tmp_path / "model", trained(config), config)
    assert model_folder.load(tmp_path / "model").class_names == ["a", "b", "c"]
    write_weights(seed=1)
    with pytest.raises(InputError, match=rf"{weights} has other weights now .*; put the earlier file back$"):
        model_folder.load(tmp_path / "model")


def test_other_weights_at_the_source_are_refused(tmp_path):
    config = RunConfig(**LITE0)
    write(tmp_path / "model", models.build(config, 3), config)
    change(tmp_path / "model", trunk_digest="0" * 64)
    with pytest.raises(InputError, match="weights of tf_efficientnet_lite0 on this machine are not those"):
        model_folder.load(tmp_path / "model")


def test_folders_of_earlier_versions_are_read(tmp_path):
    config = RunConfig(**LITE0)
    write(tmp_path / "model", models.build(config, 3), config)
    new = ("format", "precision", "trunk_digest", "test_accuracy", "grey_levels")
    change(tmp_path / "model", **dict.fromkeys(new))
    loaded = model_folder.load(tmp_path / "model")
    assert loaded.precision == "auto" and loaded.levels == GreyLevels()


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    config = RunConfig(**LITE0)
    for seed in range(2):
        write(tmp_path / "deep/model", models.build(RunConfig(**LITE0, seed=seed), 3), config)
    (tmp_path / "deep/model/extra").touch()
    model = models.build(config, 3)
    write(tmp_path / "deep/model", model, config)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["model"]
    files = sorted(path.name for path in (tmp_path / "deep/model").iterdir())
    assert files == ["config.json", "model.safetensors"]
    loaded = model_folder.load(tmp_path / "deep/model").network.state_dict()
    assert torch.equal(loaded["classifier.weight"], model.state_dict()["classifier.weight"])


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    config = RunConfig(**LITE0)
    with pytest.raises(InputError, match="the model cannot be written"):
        write(tmp_path / "file/model", models.build(config, 3), config)


def test_what_is_not_a_model_folder_is_refused_in_a_line(tmp_path):
    config = RunConfig(**LITE0)
    good = tmp_path / "good"
    write(good, models.build(config, 3), config)

    def message(name: str, spoil) -> str:
        shutil.copytree(good, tmp_path / name)
        spoil(tmp_path / name)
        with pytest.raises(InputError) as caught:
            model_folder.load(tmp_path / name)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "No such file" in message("no description", lambda folder: (folder / "config.json").unlink())
    assert "is damaged" in message("text", lambda folder: (folder / "config.json").write_text("{"))
    assert "does not describe" in message("other", lambda folder: change(folder, class_names=None))
    assert "later version" in message("new", lambda folder: change(folder, format=2))
    half = (good / "model.safetensors").read_bytes()[:-100]
    cut_off = message("half", lambda folder: (folder / "model.safetensors").write_bytes(half))
    assert "model.safetensors: cannot be read" in cut_off
    assert "cannot be read" in message("no tensors", lambda folder: (folder / "model.safetensors").unlink())
