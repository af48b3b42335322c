"""wandb_tl.fit: alone, in a run of its caller, as the function of wandb.agent; with own data and models."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from live_server import Server, call
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, Subset

import wandb_tl
from wandb_tl.errors import InputError
from wandb_tl.fitting import config_of
from wandb_tl.training.own_data import OwnDataCache, read
from wandb_tl.training.own_model import OwnModel

SMALL = {"model_name": "tf_efficientnet_lite0", "image_size": 32, "train_limit": 128, "test_limit": 64}
OWN = {"model_name": "tf_efficientnet_lite0", "image_size": 32, "epochs": 1, "batch_size": 8}
COLOURS = ["red", "green", "blue"]


def colours(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise (N, 24, 20, 3) that is brighter in the channel of its class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = random.integers(0, 60, (count, 24, 20, 3), dtype=np.uint8)
    images[np.arange(count), :, :, labels] += 150
    return images, labels


class Pictures(Dataset):
    """What a person writes: PIL images, or tensors as ToTensor makes them."""

    classes = COLOURS

    def __init__(self, count: int, as_tensors: bool = False) -> None:
        self.images, self.labels = colours(count)
        self.as_tensors = as_tensors

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        image = self.images[index]
        if self.as_tensors:
            return torch.from_numpy(image).permute(2, 0, 1).float() / 255, torch.tensor(self.labels[index])
        return Image.fromarray(image), int(self.labels[index])


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.fc = nn.Linear(16, 1000)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(images))


@pytest.fixture
def disabled(run_environment, monkeypatch, tmp_path):
    """This process without W&B, its files under tmp_path."""
    for name, value in (run_environment | {"WANDB_MODE": "disabled"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def test_the_package_loads_nothing_heavy_and_knows_its_names():
    script = "import sys, wandb_tl; print([m for m in ('torch', 'wandb', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert all(callable(getattr(wandb_tl, name)) for name in wandb_tl.__all__)
    assert set(wandb_tl.__all__) <= set(dir(wandb_tl))
    with pytest.raises(AttributeError, match="has no attribute 'train_all'"):
        _ = wandb_tl.train_all


def test_what_the_call_and_its_run_say_must_agree():
    assert config_of({"lr": 0.1}, {"epochs": 3}).epochs == 3
    assert config_of({"lr": 0.1}, {"lr": "1e-1"}).lr == 0.1
    assert config_of({"data_dir": "x"}, {"epochs": 3}).dataset == "folder"
    with pytest.raises(InputError, match=r"lr: the run or its sweep says 0\.2, and the call says 0\.1"):
        config_of({"lr": 0.1}, {"lr": 0.2})
    with pytest.raises(InputError, match="learning_rate: no such hyperparameter; did you mean lr"):
        config_of({}, {"learning_rate": 0.2})
    with pytest.raises(ValueError, match=r"dataset: the run or its sweep says mnist, and .* arrays:"):
        config_of({"dataset": "mnist"}, {}, {"dataset": read(colours(9)).name})


def test_every_form_of_data_is_read():
    images, labels = colours(12)
    grey = images[..., 0]
    forms = {
        "channels last": (images, labels),
        "channels first": (torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)),
        "names": (images, [COLOURS[label] for label in labels]),
    }
    own = {name: read(data) for name, data in forms.items()}
    assert own["channels last"].name == own["channels first"].name != own["names"].name
    assert own["channels last"].class_names == ["0", "1", "2"]
    assert own["names"].class_names == sorted(COLOURS)
    assert read((grey, labels)).splits["train"].images.shape == (12, 1, 24, 20)
    assert set(read(((images, labels), (images, labels))).splits) == {"train", "test"}
    triple = read([(images, labels), (images, labels), (images, labels)])
    assert set(triple.splits) == {"train", "val", "test"}
    pictures, tensors = read(Pictures(12)), read(Pictures(12, as_tensors=True))
    assert pictures.name == tensors.name and pictures.class_names == COLOURS
    assert read(Subset(Pictures(12), range(6))).class_names == COLOURS
    listed = read(([Image.fromarray(image) for image in images], labels.tolist()))
    assert listed.splits["train"].digests == pictures.splits["train"].digests
    assert read({"train": Pictures(12), "validation": Pictures(6)}).splits.keys() == {"train", "val"}
    tensors = read((images, list(torch.from_numpy(labels))))
    assert tensors.name == own["channels last"].name


def test_splits_may_number_their_classes_differently():
    train, test = Pictures(9), Pictures(4)
    test.classes, test.labels = ["red", "blue"], np.array([0, 1, 1, 0])
    own = read({"train": train, "test": test})
    assert own.class_names == COLOURS and own.splits["test"].labels == [0, 2, 2, 0]


def test_pictures_are_told_apart_by_what_they_show():
    red, blue = (Image.new("P", (4, 4)) for _ in range(2))
    red.putpalette([255, 0, 0] * 256)
    blue.putpalette([0, 0, 255] * 256)
    assert read(([red, red], [0, 1])).name != read(([blue, blue], [0, 1])).name


def test_what_changes_between_two_fits_is_seen_but_read_once_within_a_sweep():
    cache, data = OwnDataCache(), ([Image.new("RGB", (4, 4), colour) for colour in COLOURS], [0, 1, 2])
    before = cache.get(data, "")
    data[1][0] = 1
    changed = cache.get(data, "sweep")
    assert changed.name != before.name and cache.get(data, "sweep") is changed
    assert cache.get(data, "another") is not changed


class Jittered(Pictures):
    def __getitem__(self, index: int):
        image, label = super().__getitem__(index)
        return Image.fromarray(np.random.default_rng().permutation(np.asarray(image))), label


class Normalised(Pictures):
    def __getitem__(self, index: int):
        image, label = super().__getitem__(index)
        return torch.tensor(np.asarray(image)).permute(2, 0, 1) / 128 - 1, label


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "data: got int for train, takes"),
        (Pictures, "data: got type for train"),
        ((colours(6)[0].astype(float), colours(6)[1]), "takes uint8 with values from 0 to 255"),
        ((colours(6)[0], [0, 1]), "train has 6 images and 2 labels"),
        ((np.zeros((4, 8), np.uint8), [0, 1, 0, 1]), r"has images \(4, 8\), takes"),
        ((colours(3)[0], [0, "a", 1]), "some labels are integers and others strings"),
        ((colours(3)[0], [0.5, 1.0, 2.0]), "takes integers or strings"),
        ({"train": colours(3), "holdout": colours(3)}, "takes the splits train, val and test"),
        ({"test": colours(3)}, "has no split train"),
        ((colours(3), ([Image.new("RGB", (4, 4))], [1])), "some splits are arrays and others pictures"),
        (Pictures(0), "train is empty"),
        (Jittered(4), "gives another picture each time"),
        (Normalised(4), "leave Normalize out"),
        ((np.array(["a.jpg", "b.jpg"]), [0, 1]), "picture 0 of train: cannot be opened"),
        (([Image.new("RGB", (4, 4))], [torch.tensor([1, 0])]), "takes"),
        ([colours(3)] * 4, "takes .images, labels."),
    ],
    ids=range(16),
)
def test_data_that_cannot_be_used_is_refused_in_a_line(data, message):
    with pytest.raises(InputError, match=message) as caught:
        read(data)
    assert str(caught.value).startswith("data: ") and "\n" not in str(caught.value)


def test_a_model_gets_a_new_head_and_stages():
    network = Network()
    own = OwnModel(network, "fc")
    model = own.for_classes(3, 32, seed=0)
    assert network.fc.out_features == 1000 and model.get_classifier().out_features == 3
    assert OwnModel(network).head == "fc"
    same = OwnModel(network).for_classes(1000, 32, seed=0)
    assert torch.equal(same.get_classifier().weight, network.fc.weight)
    stage = model.group_matcher(coarse=True)
    assert [stage(name) for name in ("network.features.0.bias", "network.features.2.bias")] == [0, 1]
    assert stage("network.fc.weight") == float("inf")
    other = Network()
    assert OwnModel(other).name != own.name and OwnModel(other).name.startswith("own:Network-")


def test_models_that_cannot_be_used_are_refused_in_a_line(disabled):
    data = colours(24)
    for options, message in (
        ({"model": Network(), "head": "classifier"}, "head: the model has no layer classifier; it has feat"),
        ({"model": nn.Conv2d(3, 3, 3)}, "head: the model has no Linear layer"),
        ({"model": Network(), "head": "features"}, r"gives \(2, 1000\) for two images of 3 classes"),
        ({"model": Network(), "pretrained": False}, "your own model starts from its weights"),
        (
            {"model": Network(), "model_name": "resnet18"},
            "model: takes the place of model_name",
        ),
        ({"dataset": "mnist"}, "data: takes the place of dataset and data_dir"),
        ({"head": "fc"}, "head: names the classifier of your own model"),
        ({"model_name": "own:Network-00000000"}, r"wandb_tl.fit\(model=…\) trains it"),
        ({"dataset": "arrays:0123456789ab", "data": None}, r"wandb_tl.fit\(data=…\) trains on it"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            wandb_tl.fit(**{"data": data, "batch_size": 4, "image_size": 32} | options)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_fit_returns_what_came_of_it(disabled):
    rows = []
    result = wandb_tl.fit(
        data=(colours(48), colours(24, seed=1)), on_epoch=rows.append, **OWN | {"epochs": 2}
    )
    assert [row["epoch"] for row in rows] == [1, 2] and result.metrics.index.tolist() == [1, 2]
    assert result.metrics["test/accuracy"].tolist() == [row["test/accuracy"] for row in rows]
    assert result.test_accuracy == pytest.approx(100 * rows[-1]["test/accuracy"])
    assert result.confusion.to_numpy().sum() == 24 and result.confusion.index.name == "actual"
    assert result.url is None and result.run.startswith("models/")
    assert {"confusion_matrix", "curves", "grad_cam"} <= set(result.figures)
    images, labels = colours(24, seed=1)
    predictions = [int(one.label) for one in result.model(list(images))]
    hits = sum(label == guess for label, guess in zip(labels, predictions, strict=True))
    assert 100 * hits / 24 == pytest.approx(result.test_accuracy)
    html = result._repr_html_()
    assert "data:image/png;base64," in html and f"{result.test_accuracy:.2f} %" in html


class Scaled(Network):
    """A network with a number that is neither a weight nor a module."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(self.factor * images)


@pytest.mark.slow
def test_networks_that_differ_in_their_code_share_no_activations(disabled, capsys):
    network = Scaled(1.0)
    for factor, words in ((1.0, "24 computed"), (3.0, "24 computed"), (1.0, "24 images, 0 MB, reused")):
        network.factor = factor
        wandb_tl.fit(data=(colours(24), colours(24, 1)), model=network, image_size=32, batch_size=8, epochs=1)
        assert words in capsys.readouterr().out


@pytest.mark.slow
def test_own_pictures_and_an_own_model_train_and_use_the_cache(disabled, capsys):
    options = {"image_size": 32, "batch_size": 8, "epochs": 8, "lr": 0.02}
    data, network = {"train": Pictures(48), "test": Pictures(24)}, Network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    result = wandb_tl.fit(data=data, model=network, head="fc", **options)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert result.test_accuracy > 60 and result.config.dataset.startswith("pictures:")
    assert result.model([data["test"][0][0]])[0].label in COLOURS
    assert "48 computed" in capsys.readouterr().out
    finetuned = wandb_tl.fit(data=data, model=network, finetuning=True, **options)
    assert finetuned.test_accuracy > 90
    wandb_tl.fit(data=data, model=network, head="fc", **options | {"epochs": 1})
    assert "48 images, 0 MB, reused" in capsys.readouterr().out
    loaded = wandb_tl.load_model(result.run)
    pictures = [data["test"][number][0] for number in range(24)]
    for one, other in zip(loaded(pictures), result.model(pictures), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


AGENT = """
import json, sys, wandb, wandb_tl
parameters = {name: {"value": value} for name, value in json.loads(sys.argv[1]).items()}
def sweep(**more):
    return wandb.sweep({"method": "grid", "parameters": parameters | more}, project="fit")
good = sweep(lr={"values": [0.001, 0.01]}, epochs={"value": 2})
# Without a count an agent waits 10 s at its end.
wandb.agent(good, function=wandb_tl.fit, project="fit", count=2)
bad = sweep(learning_rate={"values": [0.1]})
wandb.agent(bad, function=wandb_tl.fit, project="fit", count=1)
differs = sweep(epochs={"values": [1]})
wandb.agent(differs, function=lambda: wandb_tl.fit(epochs=2), project="fit", count=1)
api = wandb.Api()
def rows(path):
    run = api.run(path)
    history = [{k: v for k, v in row.items() if k[0] != "_" and isinstance(v, (int, float))}
               for row in run.scan_history()]
    return {"state": run.state, "name": run.name, "lr": run.config.get("lr"), "history": history}
print(json.dumps({name: [rows(f"local/fit/{run.id}") for run in api.sweep(f"local/fit/{path}").runs]
                  for name, path in (("good", good), ("bad", bad), ("differs", differs))}))
"""


@pytest.mark.slow
def test_an_agent_trains_what_the_sweep_says_with_the_numbers_of_the_command(server: Server):
    answer = server.run(AGENT, json.dumps(SMALL))
    runs = sorted(answer["good"], key=lambda run: run["lr"])
    assert [run["lr"] for run in runs] == [0.001, 0.01]
    assert all(run["state"] == "finished" and run["name"].startswith("tf_efficientnet") for run in runs)
    assert [run["state"] for run in answer["bad"] + answer["differs"]] == ["failed", "failed"]
    flags = [f"--{name}={value}" for name, value in {**SMALL, "lr": 0.01, "epochs": 2}.items()]
    code, out = call(server, "wandb_tl.train", *flags, WANDB_PROJECT="fit", WANDB_RUN_ID="command")
    assert code == 0, out
    read = AGENT[AGENT.index("api =") : AGENT.index("print(")]
    alone = server.run(f"import json, wandb\n{read}\nprint(json.dumps(rows('local/fit/command')))")
    assert len(alone["history"]) >= 2 and alone["history"] == runs[1]["history"]


CROSS_VALIDATION = """
import json, sys, wandb, wandb_tl
fixed = {"data_dir": sys.argv[1], "model_name": "tf_efficientnet_lite0", "image_size": 32, "batch_size": 8}
parameters = {name: {"value": value} for name, value in {**fixed, "epochs": 1}.items()}
parameters["fold"] = {"values": ["1/3", "2/3", "3/3"]}
sweep = wandb.sweep({"method": "grid", "parameters": parameters}, project="folds")
wandb.agent(sweep, function=wandb_tl.fit, project="folds", count=3)
runs = wandb.Api().sweep(f"local/folds/{sweep}").runs
names = ("val/accuracy", "val/loss", "train_images", "val_images", "test_images")
summaries = {run.config["fold"]: {name: run.summary[name] for name in names} for run in runs}
means = wandb_tl.results(f"local/folds/{sweep}").groupby(["lr", "finetuning"])["val/accuracy"].mean()
print(json.dumps([summaries, means.tolist()]))
"""


@pytest.mark.slow
def test_a_sweep_over_folds_validates_on_each_picture_once(server: Server, tmp_path):
    images, labels = colours(60)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "pictures" / COLOURS[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    runs, means = server.run(CROSS_VALIDATION, str(tmp_path / "pictures"))
    assert means == [pytest.approx(sum(summary["val/accuracy"] for summary in runs.values()) / 3)]
    assert sorted(runs) == ["1/3", "2/3", "3/3"]
    first = runs["1/3"]
    for summary in runs.values():
        assert 0 <= summary["val/accuracy"] <= 1 and summary["val/loss"] > 0
        assert summary["test_images"] == first["test_images"] > 0
    trained = first["train_images"] + first["val_images"]
    assert sum(summary["val_images"] for summary in runs.values()) == trained
    assert trained + first["test_images"] == 60
