"""Exported models: the same probabilities in every format and batch size, whole files or none."""

import dataclasses
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from wandb_tl import predict
from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.exporting import agreement, formats
from wandb_tl.exporting.export import export
from wandb_tl.exporting.whole_network import WholeNetwork
from wandb_tl.pictures.colours import GreyLevels
from wandb_tl.predict import load_model
from wandb_tl.predicting import exported_network
from wandb_tl.predicting.run_network import framing
from wandb_tl.predicting.sources import EXPORTED_FILES
from wandb_tl.training import model_folder, models
from wandb_tl.training.model_description import ModelDescription
from wandb_tl.training.model_folder import TrainedModel

# The exporters of PyTorch take seconds.
pytestmark = pytest.mark.slow

CONFIG = RunConfig(
    model_name="mobilenetv3_small_050",
    pretrained=False,
    image_size=32,
    resize="pad",
    dataset="folder",
    data_dir="/home/somebody/flowers",
    precision="fp32",
)
DESCRIPTION = ModelDescription(
    CONFIG,
    ["daisy", "a `rose`", "tulip"],
    levels=GreyLevels(integer=(0.0, 4095.0)),
    precision="fp32",
    temperature=0.25,
    results={"train_images": 1200, "val_images": 80, "test_images": 40, "test_accuracy": 87.5},
)
# Files that a format needs, besides the model card.
FILES = {
    "onnx": {"model.onnx", "classify.py"},
    "torchscript": {"model.pt"},
    "safetensors": {"model.safetensors", "config.json"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model folder as a run leaves it, with BatchNorm statistics that are not those of the start."""
    network = models.build(CONFIG, 3).train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, 3, 32, 32))
    folder = tmp_path_factory.mktemp("models") / "abc123"
    model_folder.save(folder, network.eval(), DESCRIPTION)
    return folder


@pytest.fixture(scope="module")
def exports(folder, tmp_path_factory) -> dict[str, Path]:
    """What predict takes of each format, in folders of their own."""
    place = tmp_path_factory.mktemp("exported")
    trained = {form: model_folder.load(folder) for form in FILES}
    return {
        form: export(model, framing(CONFIG), "abc123", form, place / form).path
        for form, model in trained.items()
    }


@pytest.mark.parametrize("form", FILES)
def test_the_exported_model_predicts_as_the_trained_one(form, folder, exports):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 30 + n, 3), dtype=np.uint8) for n in range(11)]
    pictures.append(rng.integers(0, 4096, (40, 40), dtype=np.uint16))
    trained, exported = load_model(folder), load_model(exports[form], batch_size=5)
    assert exported.class_names == DESCRIPTION.class_names and exported.batch_size == 5
    assert exported.description.results == DESCRIPTION.results
    assert exported.description.config.data_dir == "flowers"
    answers = list(zip(trained(pictures), exported(pictures), strict=True))
    for one, other in answers:
        assert other.label == one.label
        assert other.probabilities == pytest.approx(one.probabilities, abs=1e-4)
    # Otherwise the comparison would say nothing.
    assert len({round(one.probability, 3) for one, _ in answers}) > 6


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_the_file_alone_has_the_probabilities_and_the_labels(form, folder, exports):
    whole = WholeNetwork(model_folder.load(folder))
    images = formats.example(whole, 7)
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(exports[form])
        entries = session.get_modelmeta().custom_metadata_map
        logits, probabilities = session.run(None, {"images": images.numpy()})
    else:
        entries = {"labels": "", "framing": ""}
        module = torch.jit.load(exports[form], _extra_files=entries)
        logits, probabilities = (values.detach() for values in module(images))
    assert json.loads(entries["labels"]) == DESCRIPTION.class_names
    assert json.loads(entries["framing"])["resize"] == "pad"
    expected = whole(images)
    assert np.allclose(logits, expected[0].detach(), atol=1e-4)
    assert np.allclose(probabilities, expected[1].detach(), atol=1e-5)
    assert np.allclose(probabilities, (expected[0] / 0.25).softmax(1).detach(), atol=1e-5)


def test_timm_loads_the_folder_alone(folder, exports, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    whole = WholeNetwork(model_folder.load(folder))
    network = timm.create_model(f"local-dir:{exports['safetensors']}", pretrained=True).eval()
    images = formats.example(whole, 2) * whole.scale - whole.shift
    assert torch.allclose(network(images), whole.network(images), atol=1e-5)
    data = timm.data.resolve_model_data_config(network)
    assert (data["input_size"], data["crop_mode"], data["crop_pct"]) == ((3, 32, 32), "border", 1.0)


@pytest.mark.parametrize("form", FILES)
def test_the_folder_has_a_model_card_and_no_path_of_this_machine(form, folder, exports):
    place = exports[form] if form == "safetensors" else exports[form].parent
    assert {file.name for file in place.iterdir()} == FILES[form] | {"README.md"}
    for file in place.iterdir():
        contents = [file.read_bytes()]
        if file.suffix == ".pt":
            with zipfile.ZipFile(file) as archive:
                contents = [archive.read(name) for name in archive.namelist()]
        # TorchScript notes the lines of PyTorch that it has traced.
        installed = [] if file.suffix == ".pt" else [b"site-packages"]
        for path in (b"/home/somebody", bytes(folder.parent), *installed):
            assert not any(path in content for content in contents), file
    card = (place / "README.md").read_text()
    front, _, text = card.removeprefix("---\n").partition("---\n")
    assert "library_name: timm\n" in front and "pipeline_tag: image-classification\n" in front
    for part in (
        "`daisy`, `` a `rose` ``, `tulip`",
        "The data set `flowers`: 1,200 training images, 80 validation images, 40 test images.",
        # 35 of 40, in the tables of Clopper and Pearson.
        "| 40 test images | 87.50 % (35) | 73.20 to 95.81 % |",
        "temperature 0.25, which was chosen on the 80 validation images",
        "padded to 32 x 32 pixels",
        "show 0 as black and 4095 as white",
        "| lr | 0.001 |",
        f"### {EXPORTED_FILES[form]}",
    ):
        assert part in text
    assert "momentum" not in text and "classify.py" in text if form == "onnx" else "classify.py" not in text


def test_formats_share_a_folder_and_other_files_stay(folder, exports, tmp_path):
    place = tmp_path / "new" / "abc123"
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("mine")
    for form in ("torchscript", "safetensors"):
        export(model_folder.load(folder), framing(CONFIG), "abc123", form, place)
    card = (place / "README.md").read_text()
    assert "### model.pt" in card and "### model.safetensors" in card and "### model.onnx" not in card
    assert (place / "notes.txt").read_text() == "mine"
    assert [file.name for file in place.parent.iterdir()] == ["abc123"]


def test_the_card_leaves_out_files_of_another_model(tmp_path):
    config = RunConfig(model_name="test_convnext", pretrained=False, image_size=32)
    trained = TrainedModel(models.build(config, 3), ModelDescription(config, ["a", "b", "c"]))
    other = TrainedModel(trained.network, dataclasses.replace(trained.description, temperature=2.0))
    (tmp_path / "model.onnx").write_bytes(b"of another program")
    entries = exported_network.metadata(other.description, framing(config))
    formats.write_torchscript(WholeNetwork(other), entries, tmp_path / "model.pt")
    export(trained, framing(config), "abc123", "safetensors", tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "### model.safetensors" in card and "### model.pt" not in card and "### model.onnx" not in card


def test_timm_loads_a_model_of_grey_pictures(tmp_path):
    config = RunConfig(
        model_name="test_convnext",
        model_kwargs="in_chans=1",
        pretrained=False,
        image_size=32,
        weights_file="me/flowers/model-abc:v0",
    )
    trained = TrainedModel(models.build(config, 3), ModelDescription(config, ["a", "b", "c"]))
    export(trained, framing(config), "grey", "safetensors", tmp_path)
    network = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
    assert timm.data.resolve_model_data_config(network)["input_size"] == (1, 32, 32)
    description = model_folder.read_description(tmp_path)
    assert description.config.weights_file == "me/flowers/model-abc:v0"
    assert "a tensor (N, 1, 32, 32) of grey images" in (tmp_path / "README.md").read_text()


def test_a_network_that_timm_does_not_know_is_one_line(tmp_path):
    network = Batchwise(decides=False)
    network.pretrained_cfg["input_size"] = (3, 32, 32)
    whole = WholeNetwork(TrainedModel(network, DESCRIPTION))
    (tmp_path / "config.json").write_text('{"architecture": "batchwise", "pretrained_cfg": {}}')
    with pytest.raises(InputError, match=r"^timm cannot load the folder \(.*batchwise.*\)$"):
        agreement.check_timm_folder(str(tmp_path), whole)


class Batchwise(nn.Module):
    """Gives logits that depend on the number of images, or on a decision about their values."""

    def __init__(self, decides: bool) -> None:
        super().__init__()
        self.linear, self.decides = nn.Linear(3, 3), decides
        self.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "architecture": "batchwise"}

    def forward(self, images: Tensor) -> Tensor:
        logits = self.linear(images.mean((2, 3)))
        if self.decides:
            return logits if float(images.sum()) > 0 else -logits
        return logits * len(images)


@pytest.mark.parametrize(
    ("form", "decides", "message"),
    [
        (
            "torchscript",
            False,
            "--export torchscript: the exported network has other probabilities (by up to ",
        ),
        ("onnx", True, "--export onnx: mobilenetv3_small_050 cannot be exported ("),
    ],
)
def test_a_network_that_cannot_be_exported_leaves_nothing(form, decides, message, tmp_path):
    torch.manual_seed(0)
    trained = TrainedModel(Batchwise(decides), DESCRIPTION)
    with pytest.raises(InputError) as error:
        export(trained, framing(CONFIG), "abc123", form, tmp_path / "exported/abc123")
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--out: .*file/model cannot be written \(Not a directory\)$"):
        export(model_folder.load(folder), framing(CONFIG), "x", "torchscript", tmp_path / "file/model")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


class Bomb:
    """An object whose unpickling would write a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_damaged_and_foreign_files_are_refused_in_one_line(exports, tmp_path):
    onnx = tmp_path / "cut.onnx"
    onnx.write_bytes(exports["onnx"].read_bytes()[:100_000])
    empty = tmp_path / "empty.onnx"
    empty.touch()
    foreign = tmp_path / "foreign.onnx"
    with formats.quiet():
        torch.onnx.export(nn.Linear(2, 2), (torch.zeros(1, 2),), foreign, dynamo=True, verbose=False)
    cut = tmp_path / "cut.pt"
    cut.write_bytes(exports["torchscript"].read_bytes()[:100_000])
    script = tmp_path / "script.pt"
    with formats.quiet():
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), script)
    pickled, saved = tmp_path / "pickled.pt", tmp_path / "saved.pt"
    pickled.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    torch.save({"model": Bomb(tmp_path / "ran")}, saved)
    for file, message in (
        (onnx, "cannot be read ("),
        (empty, "cannot be read ("),
        (foreign, "was not written by predict --export"),
        (cut, "cannot be read ("),
        (script, "was not written by predict --export"),
        (pickled, "cannot be read ("),
        (saved, "cannot be read ("),
    ):
        with pytest.raises(InputError) as error:
            exported_network.load(file)
        assert str(error.value).startswith(f"{file}: {message}") and "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_a_folder_with_one_exported_file_names_it(exports, tmp_path, capsys):
    shutil.copytree(exports["onnx"].parent, tmp_path / "abc123")
    assert load_model(tmp_path / "abc123").class_names == DESCRIPTION.class_names
    for arguments, message in (
        ((exports["onnx"], "--export=onnx"), "is an exported file already; takes a run or model folder"),
        (
            (exports["onnx"],),
            "names no pictures; takes files or folders of pictures, --export or --link_model",
        ),
        ((exports["safetensors"], "--out=x", "--link_model=a"), "--out is for --export"),
        ((exports["safetensors"], "--link_model=a"), "is not on a server; takes a run or a sweep"),
        (("a/b/c", "--link_model=a//b"), "--link_model: got 'a//b', takes NAME or PROJECT/NAME"),
        (("a/b/model.onnx", "--export=onnx"), "a/b/model.onnx: there is no such file"),
    ):
        assert predict.COMMAND.main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and message in err
