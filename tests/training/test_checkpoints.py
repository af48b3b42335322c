"""A checkpoint file: whole or as it was before, and never mistaken for another run's."""

import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from wandb_tl.training.checkpoints import DRAFT_SECONDS, Checkpoint, Progress


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


def test_epochs_that_are_shorter_than_their_saving_are_not_all_saved(monkeypatch):
    one, now, saved = checkpoint(nn.Linear(2, 2)), [1000.0], []

    def save(progress: Progress) -> None:
        saved.append(len(progress.rows))
        now[0] += 0.5

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(one, "save", save)
    progress = Progress()
    for epoch in range(1, 12):
        now[0] += 2.0
        progress.rows.append({"epoch": epoch})
        one.save_if_due(progress, in_any_case=epoch == 11)
    # The first, every third, whose saving takes half a second of six, and the last.
    assert saved == [1, 4, 7, 10, 11]


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    good = checkpoint(nn.Linear(2, 2))
    good.save(Progress(seconds=1.0))
    before = good.path.read_bytes()
    with pytest.raises(AttributeError):
        # No pickle can hold a local function: the file is begun and not ended.
        good.save(Progress(rows=[{"epoch": lambda: None}]))
    assert good.path.read_bytes() == before and list(good.path.parent.iterdir()) == [good.path]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut, empty, change_a_byte, replace_by_a_folder])
def test_a_damaged_file_is_set_aside_and_the_epoch_before_is_used(damage, capsys):
    layer = nn.Linear(2, 2)
    good = checkpoint(layer)
    good.save(Progress(seconds=1.0))
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1
    good.save(Progress(seconds=2.0))
    assert good.load() == Progress(seconds=2.0)
    damage(good.path)
    assert good.load() == Progress(seconds=1.0) and torch.equal(layer.weight, before)
    assert "is damaged" in capsys.readouterr().out and not good.path.exists()
    # The next epoch is saved as ever, and the end of the run leaves what is damaged for a person to look at.
    good.save(Progress(seconds=2.0))
    assert good.load() == Progress(seconds=2.0) and not capsys.readouterr().out
    good.discard()
    assert [path.suffix for path in good.path.parent.iterdir()] == [".damaged"]


def test_without_an_undamaged_file_the_run_starts_over(capsys):
    only = checkpoint(nn.Linear(2, 2))
    only.save(Progress(seconds=1.0))
    cut(only.path)
    assert only.load() == Progress() and "is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["../../x", "a,b", "a b/ü"])
def test_no_name_leaves_the_folder(part, tmp_path):
    path = Checkpoint((part, "p", "r"), {}).path
    assert path.parent == tmp_path / "checkpoints" and path.name.count(",") == 2


def test_a_copy_is_taken_over_if_it_is_intact_and_has_more_epochs(monkeypatch, tmp_path):
    rows = [{"epoch": 1}, {"epoch": 2}]
    elsewhere = checkpoint(nn.Linear(2, 2))
    elsewhere.save(Progress(rows))
    copy = tmp_path / "copy.pt"
    copy.write_bytes(elsewhere.path.read_bytes())
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(copy.read_bytes()[:-500])

    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path / "here"))
    here = checkpoint(nn.Linear(2, 2))
    here.take_over(damaged)
    here.take_over(tmp_path / "absent.pt")
    assert here.load() == Progress()
    here.save(Progress([*rows, {"epoch": 3}]))
    here.take_over(copy)
    assert len(here.load().rows) == 3
    here.discard()
    here.save(Progress(rows[:1]))
    here.take_over(copy)
    assert here.load().rows == rows


def test_drafts_of_this_run_and_old_ones_are_removed_and_no_name_of_a_draft_stops_a_save(tmp_path):
    one = checkpoint(nn.Linear(2, 2))
    one.save(Progress(seconds=1.0))
    folder = one.path.parent
    names = (
        "stray.draft",
        "me,p,one.a.draft",
        "me,p,one.more.a.draft",
        "me,p,two.old.draft",
        "me,p,two.a.draft",
    )
    for name in names:
        (folder / name).touch()
    before = time.time() - DRAFT_SECONDS - 60
    os.utime(folder / "me,p,two.old.draft", (before, before))
    one.save(Progress(seconds=2.0))
    assert one.load() == Progress(seconds=2.0)
    # Those of other runs may be in use, in a container with the same host name.
    assert {path.name for path in folder.glob("*.draft")} == {names[0], names[2], names[4]}
