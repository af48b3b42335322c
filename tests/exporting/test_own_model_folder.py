"""Networks of Python code as model folders: whole or not at all, and one line if only code can load them."""

import pytest
import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.exporting import own_model_folder
from wandb_tl.predicting import exported_network
from wandb_tl.training import model_folder
from wandb_tl.training.model_description import ModelDescription
from wandb_tl.training.own_model import OwnModel


class Network(nn.Module):
    """A classifier of the mean colour, which TorchScript can trace or not."""

    def __init__(self, is_traceable: bool = True) -> None:
        super().__init__()
        self.layer, self.is_traceable = nn.Linear(3, 2), is_traceable

    def forward(self, images: Tensor) -> Tensor:
        if not self.is_traceable and torch.jit.is_tracing():
            raise RuntimeError("this layer cannot be traced")
        return self.layer(images.mean((2, 3)))


def own(is_traceable: bool = True) -> tuple[OwnModel, ModelDescription]:
    model = OwnModel(Network(is_traceable))
    config = RunConfig(model_name=model.name, image_size=16)
    return model, ModelDescription(config, ["a", "b"])


def test_an_earlier_folder_is_replaced(tmp_path):
    folder = tmp_path / "models/abc123"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    own_model_folder.save(folder, *own())
    assert [file.name for file in folder.iterdir()] == ["model.pt"]
    assert [file.name for file in folder.parent.iterdir()] == ["abc123"]
    assert exported_network.load(folder / "model.pt").description.class_names == ["a", "b"]


def test_a_full_disk_is_one_line_and_the_earlier_folder_stays(tmp_path):
    resource = pytest.importorskip("resource", reason="Windows does not limit the size of files")
    folder = tmp_path / "abc123"
    own_model_folder.save(folder, *own())
    before = (folder / "model.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"abc123: the model cannot be written \(.*File too large\)$"):
            own_model_folder.save(folder, *own())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (folder / "model.pt").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["abc123"]


def test_only_its_code_loads_a_network_that_cannot_be_traced(tmp_path, capsys):
    own_model_folder.save(tmp_path / "abc123", *own(is_traceable=False))
    assert "cannot be traced by TorchScript (this layer cannot be traced)" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "abc123").iterdir()} == {"model.safetensors", "config.json"}
    with pytest.raises(InputError, match="a network of Python code that could not be traced; only that code"):
        model_folder.load(tmp_path / "abc123")
