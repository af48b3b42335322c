"""Files of each kind as people have them: what is read, and the line that refuses the rest."""

import argparse
import collections
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wandb_tl.errors import InputError
from wandb_tl.training import weights_file

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


class Configuration(dict):
    """A mapping of an unknown class, as configurations in checkpoints are."""


class Touches:
    """Unpickled, it would call a function with the path of a file."""

    def __init__(self, function, path: Path) -> None:
        self.call = function, (str(path),)

    def __reduce__(self):
        return self.call


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        weights_file.read(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


@pytest.mark.parametrize(
    "besides",
    [
        {"best": np.float64(0.5), "history": np.arange(3)},
        {"args": argparse.Namespace(lr=0.1, folder=Path("runs"))},
        {"cfg": Configuration(lr=0.1), "counts": collections.defaultdict(list, a=[1])},
        {"loss": nn.CrossEntropyLoss(), "last": collections.deque([1, 2], maxlen=5)},
        {"optimizer": torch.optim.Adam([nn.Parameter(torch.ones(2))]).state_dict()},
    ],
    ids=lambda besides: "+".join(besides),
)
def test_state_dicts_are_read_beside_objects_of_any_class(tmp_path, besides):
    torch.save({"epoch": 3, "model": {"state_dict": STATE}, **besides}, tmp_path / "w.ckpt")
    state_dicts = weights_file.read(tmp_path / "w.ckpt").state_dicts
    assert list(state_dicts) == ["model.state_dict"]
    assert all(torch.equal(state_dicts["model.state_dict"][name], tensor) for name, tensor in STATE.items())


def test_the_legacy_format_and_safetensors_are_read(tmp_path):
    legacy = {"state_dict": STATE, "best": np.float32(0.5), "args": argparse.Namespace(lr=0.1)}
    torch.save(legacy, tmp_path / "legacy.pth.tar", _use_new_zipfile_serialization=False)
    assert list(weights_file.read(tmp_path / "legacy.pth.tar").state_dicts) == ["state_dict"]
    save_file(STATE, tmp_path / "model.safetensors")
    (state,) = weights_file.read(tmp_path / "model.safetensors").state_dicts.values()
    assert torch.equal(state["conv.weight"], STATE["conv.weight"])


def test_a_folder_stands_for_its_only_file_with_weights(tmp_path):
    assert "no file" in refusal(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert "a folder with 0 files of weights" in refusal(tmp_path)
    torch.save(STATE, tmp_path / "model.ckpt")
    (tmp_path / "config.json").write_text("{}")
    assert weights_file.read(tmp_path).origin == str(tmp_path / "model.ckpt")
    torch.save(STATE, tmp_path / "last.ckpt")
    assert "2 files of weights (last.ckpt, model.ckpt); name one file" in refusal(tmp_path)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("function", [os.mkdir, os.system, eval, exec], ids=lambda one: one.__name__)
def test_no_code_of_a_file_runs(tmp_path, function, is_zip):
    target = tmp_path / "made"
    argument = target if function is os.mkdir else f"__import__('os').mkdir({str(target)!r})"
    content = {"state_dict": Touches(function, argument)}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=is_zip)
    refusal(tmp_path / "w.pth")
    assert not target.exists()


def test_the_name_of_a_run_is_answered_by_the_name_of_its_artifact(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # As wandb leaves it behind.
    Path("me/pets/abc").mkdir(parents=True)
    assert refusal(Path("me/pets/abc")).endswith("the model of a run is me/pets/model-abc:latest")


def test_whole_models_are_told_by_their_class(tmp_path):
    for content in (nn.Linear(2, 2), {"epoch": 1, "model": nn.Linear(2, 2)}):
        torch.save(content, tmp_path / "whole.pth")
        message = refusal(tmp_path / "whole.pth")
        assert "is a whole pickled model of class torch.nn.modules.linear.Linear" in message
        assert message.endswith("save model.state_dict() instead")
    torch.save(nn.Linear(2, 2), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert "holds torch.nn.modules.linear.Linear, which could run code" in refusal(tmp_path / "old.pth")


def test_a_torchscript_archive_is_told(tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "script.pt")
    assert "is a TorchScript archive; save torch.jit.load(FILE).state_dict()" in refusal(
        tmp_path / "script.pt"
    )


def test_half_a_download_is_told(tmp_path):
    big = {"weight": torch.zeros(1000, 100)}
    torch.save(big, tmp_path / "zip.pth")
    torch.save(big, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(big, tmp_path / "model.safetensors")
    for file in list(tmp_path.iterdir()):
        content = file.read_bytes()
        for length in (len(content) // 2, len(content) - 10, 60):
            file.write_bytes(content[:length])
            message = refusal(file)
            assert f"ends early, after {length:,}" in message and "download it again" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; download or save it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"\x1f\x8b\x08" + bytes(50), "is an archive; unpack it"),
        (b"\x89HDF\r\n", "is an HDF5 file, as Keras"),
        (b"Not Found", "cannot be read as weights"),
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_other_files_under_that_name_are_told(tmp_path, content, message, name):
    (tmp_path / name).write_bytes(content)
    text = refusal(tmp_path / name)
    # Nine letters of a text are the length of an absurd header.
    assert message in text or (content == b"Not Found" and "is not a safetensors file" in text)


def test_sizes_that_do_not_fit_the_file_are_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(10**7))
    assert "its tensors are compressed" in refusal(tmp_path / "bomb.pth")
    for header in (2**60, weights_file.MAX_HEADER_BYTES + 1):
        (tmp_path / "h.safetensors").write_bytes(header.to_bytes(8, "little") + b"{" + bytes(99))
        assert f"its header would take {header:,} bytes" in refusal(tmp_path / "h.safetensors")
    with (tmp_path / "huge.pth").open("wb") as file:
        file.write(b"PK\x03\x04")
        # A sparse file: it takes no room on the disk.
        file.truncate(weights_file.MAX_BYTES + 1)
    assert "more than any model with its optimizer" in refusal(tmp_path / "huge.pth")


def test_one_number_that_stands_for_many_is_not_a_tensor(tmp_path):
    torch.save({"conv.weight": torch.ones(1).expand(10**12)}, tmp_path / "w.pth")
    assert "has no tensors by name" in refusal(tmp_path / "w.pth")


def test_files_without_weights_are_told(tmp_path):
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    for content in (optimizer.state_dict(), {"optimizer": optimizer.state_dict(), "epoch": 1}):
        torch.save(content, tmp_path / "w.pth")
        assert "has the state of an optimizer and no weights" in refusal(tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "w.pth")
    assert "has no tensors by name" in refusal(tmp_path / "w.pth")
    np.savez(tmp_path / "w.npz", a=np.ones(2))
    assert "zip archive that torch.save has not written" in refusal(tmp_path / "w.npz")
