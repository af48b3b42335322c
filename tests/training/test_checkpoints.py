"""A checkpoint file: whole or as it was before, and never mistaken for another run's."""

import pytest
import torch
from torch import nn

from wandb_tl.training.checkpoints import Checkpoint, Progress


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))


def checkpoint(layer: nn.Module, run_id: str = "one", **identity) -> Checkpoint:
    return Checkpoint(("me", "p", run_id), identity, layer=layer)


def test_state_and_progress_come_back_for_the_same_run_and_recipe_only():
    saved, fresh = nn.Linear(2, 2), nn.Linear(2, 2)
    checkpoint(saved, lr=0.1).save(Progress([{"epoch": 1}], 2.5, 1.5))
    assert checkpoint(fresh, "two", lr=0.1).load() == Progress()
    assert checkpoint(fresh, lr=0.2).load() == Progress()
    assert not torch.equal(fresh.weight, saved.weight)
    assert checkpoint(fresh, lr=0.1).load() == Progress([{"epoch": 1}], 2.5, 1.5)
    assert torch.equal(fresh.weight, saved.weight)


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    good = checkpoint(nn.Linear(2, 2))
    good.save(Progress(seconds=1.0))
    before = good.path.read_bytes()
    with pytest.raises(AttributeError):
        # No pickle can hold a local function: the file is begun and not ended.
        good.save(Progress(rows=[{"epoch": lambda: None}]))
    assert good.path.read_bytes() == before and list(good.path.parent.iterdir()) == [good.path]


def test_a_damaged_file_is_said_and_not_used(capsys):
    good = checkpoint(nn.Linear(2, 2))
    good.save(Progress(seconds=1.0))
    good.path.write_bytes(good.path.read_bytes()[:-500])
    assert good.load() == Progress()
    assert "cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["../../x", "a,b", "a b/ü"])
def test_no_name_leaves_the_folder(part, tmp_path):
    path = Checkpoint((part, "p", "r"), {}).path
    assert path.parent == tmp_path / "checkpoints" and path.name.count(",") == 2
