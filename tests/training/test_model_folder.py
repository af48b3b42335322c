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
from wandb_tl.training.model_description import ModelDescription
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
    description = ModelDescription(
        config, data.class_names, data.levels, "fp32", temperature=1.5, results={"test_accuracy": 62.5}
    )
    return model_folder.save(folder, model, description).as_dict()


@pytest.fixture(scope="module")
def folder_of_resnet(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "resnet"
    config = RunConfig(**RESNET)
    write(folder, models.build(config, 3).eval(), config)
    return folder


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
    read = loaded.description
    assert read.config == config and read.class_names == ["a", "b", "c"] and not loaded.network.training
    assert read.levels == LEVELS and read.precision == "fp32" and read.temperature == 1.5
    states = loaded.network.state_dict(), model.state_dict()
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())
    assert description["results"] == {"test_accuracy": 62.5}
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
    from_file = {"pretrained": True, "weights_file": str(weights)}
    config = RunConfig(**RESNET | from_file, save_weights="trained")
    write(tmp_path / "model", trained(config), config)
    assert model_folder.load(tmp_path / "model").description.class_names == ["a", "b", "c"]
    write_weights(seed=1)
    with pytest.raises(InputError, match=rf"{weights} has other weights now .*; put the earlier file back$"):
        model_folder.load(tmp_path / "model")


def test_other_weights_at_the_source_are_refused(tmp_path):
    config = RunConfig(**LITE0)
    write(tmp_path / "model", models.build(config, 3), config)
    change(tmp_path / "model", trunk_digest="0" * 64)
    with pytest.raises(InputError, match="weights of tf_efficientnet_lite0 on this machine are not those"):
        model_folder.load(tmp_path / "model")


def test_a_whole_model_needs_no_other_weights(tmp_path):
    weights = tmp_path / "weights.safetensors"
    random = RunConfig(**RESNET)
    save_file(trained_tensors(models.build(random, 1000), random), weights)
    config = RunConfig(**RESNET | {"pretrained": True, "weights_file": str(weights)})
    model = trained(config)
    description = write(tmp_path / "model", model, config)
    assert description["trunk_digest"] == ""
    weights.unlink()
    loaded = model_folder.load(tmp_path / "model")
    assert loaded.description.config == config
    state = loaded.network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    frozen = [name for name, parameter in loaded.network.named_parameters() if not parameter.requires_grad]
    assert frozen == [name for name, one in model.named_parameters() if not one.requires_grad]


def classes(count: int) -> list[str]:
    return [chr(ord("a") + index) for index in range(count)]


@pytest.mark.parametrize("place", ["model", "model/model.safetensors"])
def test_a_run_continues_from_a_model_whose_classifier_is_kept_for_the_same_classes(tmp_path, place):
    # Its folder has the classifier alone: the rest comes from where the first run took it.
    first = RunConfig(**LITE0)
    earlier = trained(first)
    write(tmp_path / "model", earlier, first)
    more = RunConfig(**LITE0, finetuning=True, weights_file=str(tmp_path / place), seed=7)
    lines: list[str] = []
    start = model_folder.starting_weights(more, classes(3))
    model = models.build(more, 3, start=start, say=lines.append).eval()
    assert lines[0].endswith(f"of tf_efficientnet_lite0 from {tmp_path / place}; its classifier is kept")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images), earlier(images))
    assert any(parameter.requires_grad for parameter in model.blocks[-1].parameters())

    start = model_folder.starting_weights(more, ["a", "b", "other"])
    changed = models.build(more, 3, start=start, say=lines.append).state_dict()
    assert lines[1].endswith("its classifier is new")
    assert not torch.equal(changed["classifier.weight"], earlier.state_dict()["classifier.weight"])
    assert torch.equal(changed["conv_head.weight"], earlier.state_dict()["conv_head.weight"])


def test_a_model_that_continues_another_comes_back(tmp_path):
    first = RunConfig(**RESNET)
    write(tmp_path / "first", trained(first), first)
    from_first = {"pretrained": True, "weights_file": str(tmp_path / "first"), "save_weights": "trained"}
    config = RunConfig(**RESNET | from_first)
    model = models.build(config, 3, start=model_folder.starting_weights(config, classes(3)))
    write(tmp_path / "second", model, config)
    assert set(load_file(tmp_path / "second/model.safetensors")) == {"fc.weight", "fc.bias"}
    loaded = model_folder.load(tmp_path / "second").network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_a_run_continues_only_from_the_same_model(tmp_path):
    config = RunConfig(**RESNET)
    write(tmp_path / "model", models.build(config, 3), config)
    other = RunConfig(model_name="resnet34", image_size=32, weights_file=str(tmp_path / "model"))
    with pytest.raises(InputError, match="model is a resnet18 and not a resnet34; use --model_name resnet18"):
        model_folder.starting_weights(other, classes(3))


def test_a_folder_of_another_library_is_a_folder_with_a_file(tmp_path):
    config = RunConfig(**RESNET)
    save_file(trained_tensors(models.build(config, 1000), config), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "num_classes": 1000}')
    for place in (tmp_path, tmp_path / "model.safetensors"):
        start = model_folder.starting_weights(
            RunConfig(model_name="resnet18", image_size=32, weights_file=str(place)), classes(3)
        )
        assert start.origin == str(tmp_path / "model.safetensors") and not start.has_classifier


def test_folders_of_earlier_versions_are_read(tmp_path):
    config = RunConfig(**LITE0)
    write(tmp_path / "model", models.build(config, 3), config)
    new = ("format", "precision", "trunk_digest", "results", "temperature", "grey_levels")
    change(tmp_path / "model", **dict.fromkeys(new))
    loaded = model_folder.load(tmp_path / "model").description
    assert loaded.precision == "auto" and loaded.levels == GreyLevels() and loaded.temperature == 1


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
    assert "later version" in message("new", lambda folder: change(folder, format=99))
    half = (good / "model.safetensors").read_bytes()[:-100]
    cut_off = message("half", lambda folder: (folder / "model.safetensors").write_bytes(half))
    assert "model.safetensors: ends early" in cut_off
    assert "cannot be read" in message("no tensors", lambda folder: (folder / "model.safetensors").unlink())


@pytest.mark.parametrize(
    "values",
    [
        {"config": [1]},
        {"config": {"optimizer": "Adam", "no_such_name": 1}},
        {"class_names": 3},
        {"class_names": []},
        {"class_names": [["a"], "b", "c"]},
        {"class_names": [str(number) for number in range(200_000)]},
        {"temperature": 0},
        {"temperature": "1e400"},
        {"results": ["a"]},
        {"results": {"test_accuracy": {}}},
        {"grey_levels": {"integer": 1}},
        {"grey_levels": {"other": [0, 1]}},
        {"format": 10**400},
        {"precision": ["fp32"]},
        {"trunk_digest": {}},
    ],
)
def test_odd_descriptions_are_refused_in_a_line(folder_of_resnet, tmp_path, values):
    shutil.copytree(folder_of_resnet, tmp_path / "odd")
    change(tmp_path / "odd", **values)
    with pytest.raises(InputError) as caught:
        model_folder.load(tmp_path / "odd")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_what_is_too_deep_or_too_large_is_not_read(folder_of_resnet, tmp_path):
    shutil.copytree(folder_of_resnet, tmp_path / "odd")
    description, tensors = tmp_path / "odd" / "config.json", tmp_path / "odd" / "model.safetensors"
    tensors.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match="its header would take"):
        model_folder.load(tmp_path / "odd")
    description.write_text("[" * 100_000)
    with pytest.raises(InputError, match="is damaged"):
        model_folder.load(tmp_path / "odd")
    with description.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="takes more than 32 MiB"):
        model_folder.load(tmp_path / "odd")
